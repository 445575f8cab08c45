#!/usr/bin/env python3
"""Holds the blueprint of docs/displays/ against Home Assistant's own schemas: the blueprint's, and, its inputs filled in, the
automation's.

    python tests/display/blueprint.py docs/displays/home-assistant.yaml     # in an environment with `homeassistant`
"""

import asyncio
import sys

from homeassistant.components.automation.config import PLATFORM_SCHEMA
from homeassistant.components.blueprint import models
from homeassistant.components.blueprint.schemas import BLUEPRINT_SCHEMA
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant
from homeassistant.helpers import condition, script, trigger
from homeassistant.util import yaml as yaml_util

INPUTS = {"trigger_entity": "weather.home", "easel": "notify.kitchen"}


async def check(path: str) -> None:
    hass = HomeAssistant("/tmp")  # templates are checked in its event loop only
    blueprint = models.Blueprint(
        yaml_util.load_yaml_dict(path), expected_domain="automation", path=path, schema=BLUEPRINT_SCHEMA
    )
    inputs = models.BlueprintInputs(blueprint, {"use_blueprint": {"path": path, "input": INPUTS}})
    inputs.validate()
    automation = {**inputs.async_substitute(), "alias": "test", "id": "test"}
    automation.pop("use_blueprint", None)
    checked = PLATFORM_SCHEMA(automation)
    assert checked["triggers"] and checked["actions"] and checked["conditions"], checked
    print(f"Home Assistant {__version__}: {blueprint.name!r}: {len(blueprint.inputs)} inputs, "
          f"{len(checked['triggers'])} trigger, {len(checked['actions'])} actions")
    await hass.async_stop(force=True)


asyncio.run(check(sys.argv[1]))
