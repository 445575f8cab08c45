#!/usr/bin/env python3
"""Holds a discovery message against Home Assistant's own schemas.

    easeld discovery show > message.json
    python tests/home_assistant.py message.json      # in an environment with `homeassistant` and `paho-mqtt`

Home Assistant 2026.2 wants Python 3.13 (Debian 13). Prints each entity, and exits 1 if one is refused.
"""

import asyncio
import importlib
import json
import sys

from homeassistant.components.mqtt import discovery, schemas
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant


async def check(message: dict) -> int:
    """How many entities are refused."""
    HomeAssistant("/tmp")  # templates are checked in its event loop only
    device_schema = getattr(discovery, "DEVICE_DISCOVERY_SCHEMA", None) or schemas.DEVICE_DISCOVERY_SCHEMA
    device_schema(json.loads(json.dumps(message)))
    shared = {key: message[key] for key in ("device", "origin", "availability", "qos") if key in message}
    refused = 0
    for name, component in message["components"].items():
        options = {key: value for key, value in component.items() if key != "platform"}
        platform = importlib.import_module(f"homeassistant.components.mqtt.{component['platform']}")
        try:
            platform.DISCOVERY_SCHEMA({**shared, **options})
            print(f"  ok       {component['platform']:14} {name}")
        except Exception as error:  # noqa: BLE001: whatever it says is the finding
            refused += 1
            print(f"  REFUSED  {component['platform']:14} {name}: {error}")
    print(f"Home Assistant {__version__}: {len(message['components'])} entities, {refused} refused")
    return refused


with open(sys.argv[1], encoding="utf-8") as file:
    sys.exit(1 if asyncio.run(check(json.load(file))) else 0)
