#!/usr/bin/env python3
"""easeld in a real Home Assistant: its MQTT integration against a real mosquitto, no mock between.

    tests/home_assistant_live.py --easeld target/debug/easeld [--root DEBIAN] [--hass /root/ha/bin/hass]

DEBIAN is a root directory (Debian 13) with Home Assistant in it, entered with chroot; without it `hass` runs here. Home
Assistant fetches what its own integrations need from PyPI at its first start, which takes minutes.

What Home Assistant thinks is asked, and its actions are called, through automations that listen to topics, so that nobody has to
log in. Exits 1 at the first thing that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NODE = "desk"
CONFIGURATION = """
homeassistant: {{name: Test, time_zone: UTC}}
logger: {{default: warning}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
automation:
  - alias: tell
    mode: queued
    triggers: [{{trigger: mqtt, topic: ask}}]
    actions:
      - action: mqtt.publish
        data:
          topic: told
          payload: |-
            {{% for one in states if 'easeld' in one.entity_id %}}
            {{{{ one.entity_id }}}}|{{{{ one.state }}}}|{{{{ dict(one.attributes) | to_json }}}}
            {{% endfor %}}
  - alias: call
    mode: queued
    triggers: [{{trigger: mqtt, topic: call}}]
    actions:
      - action: "{{{{ trigger.payload_json.action }}}}"
        target: {{entity_id: "{{{{ trigger.payload_json.entity_id }}}}"}}
        data: "{{{{ trigger.payload_json.data }}}}"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def config_entries(port: int) -> dict:
    """What Home Assistant keeps once somebody has set up MQTT in its pages."""
    entry = {
        "created_at": "2026-01-01T00:00:00+00:00", "modified_at": "2026-01-01T00:00:00+00:00",
        "data": {"broker": "127.0.0.1", "port": port, "protocol": "5"}, "options": {}, "discovery_keys": {},
        "disabled_by": None, "domain": "mqtt", "entry_id": "01JD0000000000000000000000", "version": 1, "minor_version": 2,
        "pref_disable_new_entities": False, "pref_disable_polling": False, "source": "user", "subentries": [],
        "title": "mosquitto", "unique_id": None,
    }
    return {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}


class Broker:
    """mosquitto, and the last payload of every topic on it."""

    def __init__(self, folder: Path):
        self.port, self.last = free_port(), {}
        (folder / "mosquitto.conf").write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        log = (folder / "mosquitto.log").open("w")
        self.server = subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stdout=log, stderr=log)
        time.sleep(1)
        command = ["mosquitto_sub", "-p", str(self.port), "-t", "#", "-F", "%j"]
        self.listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        for line in self.listener.stdout:
            try:
                message = json.loads(line)
            except json.JSONDecodeError:
                continue  # a picture
            self.last[message["topic"]] = message["payload"]

    def publish(self, topic: str, payload: dict) -> None:
        subprocess.run(["mosquitto_pub", "-p", str(self.port), "-t", topic, "-m", json.dumps(payload)], check=True)

    def call(self, action: str, entity: str, **data: object) -> None:
        """Lets Home Assistant do something with one of its entities."""
        self.publish("call", {"action": action, "entity_id": entity, "data": data})

    def ask(self) -> None:
        """Has Home Assistant tell what it thinks of every entity."""
        self.publish("ask", {})

    def state(self, entity: str, attribute: str | None = None) -> object:
        """What it told: of `sensor.easeld_desk_state`, say."""
        for line in (self.last.get("told") or "").splitlines():
            name, _, rest = line.strip().partition("|")
            if name == entity:
                state, _, attributes = rest.partition("|")
                return json.loads(attributes).get(attribute) if attribute else state
        return None

    def config(self) -> dict:
        """What the node says its settings are."""
        return json.loads(self.last.get(f"easel/{NODE}/config") or "{}")


def until(broker: Broker, what: str, true, seconds: float = 60.0) -> None:
    """Waits until `true()` holds, and prints so."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"  MISSING  {what} (waited {seconds:.0f} s)")
        broker.ask()
        time.sleep(0.5)
    print(f"  ok       {what}", flush=True)


def entity(kind: str, key: str) -> str:
    return f"{kind}.easeld_{NODE}_{key}"


def stop(process: subprocess.Popen, patience: float) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def try_entities(broker: Broker) -> None:
    """A person's evening with it."""
    until(broker, "the node is idle", lambda: broker.state(entity("sensor", "state")) == "idle")
    for platform, key, action, data, setting, wanted in (
        ("number", "steps", "number.set_value", {"value": 3}, "steps", 3),
        ("number", "guidance_scale", "number.set_value", {"value": 2.5}, "guidance_scale", 2.5),
        ("select", "scheduler", "select.select_option", {"option": "ddim"}, "scheduler", "ddim"),
        ("text", "style", "text.set_value", {"value": "on a blue background"}, "style", "on a blue background"),
    ):
        broker.call(action, entity(platform, key), **data)
        until(broker, f"{action} of {key}: the node has it", lambda: broker.config().get(setting) == wanted)
        until(broker, f"{action} of {key}: Home Assistant shows it",
              lambda: broker.state(entity(platform, key)) in (str(wanted), f"{wanted}.0"))
    broker.call("notify.send_message", entity("notify", "prompt"), message="a fox")
    picture = entity("image", "image")
    until(broker, "a prompt sent as a notification becomes a picture",
          lambda: "fox" in str(broker.state(picture, "prompt")), 120)
    until(broker, "the picture has a time", lambda: str(broker.state(picture)).startswith("20"))
    until(broker, "an event says so", lambda: broker.state(entity("event", "job"), "event_type") == "succeeded")
    until(broker, "its duration is known",
          lambda: broker.state(entity("sensor", "last_duration")) not in (None, "unknown", "0", "0.0"))
    first = broker.state(picture, "id")
    broker.call("button.press", entity("button", "again"))
    until(broker, "again makes another", lambda: broker.state(picture, "id") not in (None, first), 120)
    for way, word in (("on", "paused"), ("off", "idle")):
        broker.call(f"switch.turn_{way}", entity("switch", "paused"))
        until(broker, f"the switch turned {way}: {word}", lambda: broker.state(entity("sensor", "state")) == word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--easeld", type=Path, default=ROOT / "target/debug/easeld")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--hass", default="hass")
    args = parser.parse_args()
    root = args.root.resolve() if args.root else Path("/")
    folder = Path(tempfile.mkdtemp(prefix="easeld-ha-", dir=root / "tmp"))
    broker = Broker(folder)
    home = folder / "config"
    (home / ".storage").mkdir(parents=True)
    (home / "configuration.yaml").write_text(CONFIGURATION.format(port=free_port()))
    (home / ".storage/core.config_entries").write_text(json.dumps(config_entries(broker.port)))
    enter = ["chroot", str(root)] if args.root else []
    log = (folder / "hass.log").open("w")
    hass = subprocess.Popen([*enter, args.hass, "-c", f"/{home.relative_to(root)}"], stdout=log, stderr=log)
    environment = os.environ | {
        "EASELD__MQTT__URL": f"mqtt://127.0.0.1:{broker.port}", "EASELD__NODE__NAME": NODE, "EASELD__HTTP__LISTEN": "none",
        "EASELD__MODELS__DEFAULT": str(ROOT / "models/emoji"), "EASELD__STATE__DIR": str(folder / "state"),
    }
    daemon = None
    try:
        until(broker, "Home Assistant is there", lambda: broker.last.get("homeassistant/status") == "online", 900)
        until(broker, "it answers", lambda: "told" in broker.last, 300)
        daemon = subprocess.Popen([args.easeld, "serve"], env=environment, stderr=(folder / "easeld.log").open("w"))
        shown = subprocess.run([args.easeld, "discovery", "show"], env=environment, check=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        entities = [component["default_entity_id"] for component in json.loads(shown.stdout)["components"].values()]
        for name in entities:
            until(broker, f"{name} is known", lambda name=name: broker.state(name) is not None)
        try_entities(broker)
        stop(daemon, 30)
        gone = entity("sensor", "state")
        until(broker, "a node that stops is unavailable", lambda: broker.state(gone) == "unavailable")
        subprocess.run([args.easeld, "discovery", "remove"], env=environment, check=True)
        time.sleep(3)
        stop(hass, 60)
        registry = json.loads((home / ".storage/core.entity_registry").read_text())["data"]["entities"]
        left = [row["entity_id"] for row in registry if row["platform"] == "mqtt"]
        until(broker, "discovery remove takes all of them away", lambda: not left, 1)
        said = [line for line in (folder / "hass.log").read_text().splitlines()
                if "easeld" in line and ("ERROR" in line or "WARNING" in line)]
        until(broker, "Home Assistant's log has nothing to say about it", lambda: not said, 1)
    except BaseException:
        print(f"logs are in {folder}", file=sys.stderr)
        raise
    finally:
        for process in (daemon, hass, broker.listener, broker.server):
            if process is not None and process.poll() is None:
                stop(process, 20)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
