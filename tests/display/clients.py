#!/usr/bin/env python3
"""The example clients of docs/displays against a real node: the Arduino sketches, compiled for this machine against the names of their
libraries (tests/display/arduino), and the MicroPython script in MicroPython's unix port (Debian 13's `micropython`). ESPHome's
configuration is held against `esphome config` (from PyPI), for each of its profiles.

    EASELD=target/debug/easeld tests/display/clients.py

Each has to show the very bytes of its rendition, nothing when there is nothing new, and the next picture when there is one.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "web"))
from node import ROOT, Daemon

CLIENTS = ROOT / "docs" / "displays"
SCRATCH = Path(tempfile.mkdtemp())
failures = 0


def say(passed, name, detail=""):
    global failures
    failures += not passed
    print(f"  {'ok' if passed else 'FAILED':7} {name} {detail}".rstrip(), flush=True)


def sketch(node, name, rendition):
    program, shown = SCRATCH / name, SCRATCH / f"{name}.shown"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    source = CLIENTS / f"{name}.ino"
    subprocess.run(["g++", "-std=c++17", *warnings, "-I", HERE / "arduino", "-x", "c++", source, "-o", program], check=True)
    env = {"EASELD_PORT": str(node.port), "EASELD_SHOWN": str(shown)}
    running = subprocess.Popen([program], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn():
        said = []
        while not (line := running.stdout.readline()).startswith("turn"):
            assert line, said
            said.append(line.strip())
        return said

    first = turn()
    say(shown.exists() and shown.read_bytes() == node.request(f"/image/{rendition}"), f"{name}.ino", "; ".join(first))
    shown.unlink(missing_ok=True)
    running.stdin.write("\n")
    running.stdin.flush()
    second = turn()
    say(not shown.exists(), f"{name}.ino draws nothing twice", "; ".join(second))
    node.paint(f"an owl on teal, for {name}", seed=8)
    running.stdin.write("\n")
    running.stdin.flush()
    third = turn()
    say(shown.exists() and shown.read_bytes() == node.request(f"/image/{rendition}"), f"{name}.ino, the next picture", "; ".join(third))
    running.kill()


MICROPYTHON = """
import sys, hashlib
sys.path.append({directory!r})
import micropython_client as client
client.HOST, client.PORT = "127.0.0.1", {port}
digest, rows = hashlib.sha256(), []
etag = client.fetch(lambda y, row: (digest.update(row), rows.append(y)))
assert rows == list(range(240)), rows
assert client.fetch(lambda y, row: rows.append(y), etag) == etag and len(rows) == 240, "nothing is drawn twice"
client.PATH = "/image/no-such-panel"
try:
    client.fetch(lambda y, row: None)
    assert False
except OSError as error:
    pass
print("".join("%02x" % byte for byte in digest.digest()), sys.implementation)
"""


def micropython(node):
    if shutil.which("micropython") is None:
        print("  not run micropython.py: no `micropython` here (apt install micropython)")
        return
    shutil.copy(CLIENTS / "micropython.py", SCRATCH / "micropython_client.py")
    script = SCRATCH / "run.py"
    script.write_text(MICROPYTHON.format(directory=str(SCRATCH), port=node.port))
    done = subprocess.run(["micropython", script], capture_output=True, text=True)
    wanted = hashlib.sha256(node.request("/image/esp32-240x240")).hexdigest()
    say(done.stdout.startswith(wanted), "micropython.py", (done.stdout[65:] + done.stderr).strip())


def esphome():
    if shutil.which("esphome") is None:
        print("  not run esphome.yaml: no `esphome` here (pip install esphome)")
        return
    (SCRATCH / "secrets.yaml").write_text("wifi_ssid: a\nwifi_password: long enough\n")
    whole = (CLIENTS / "esphome.yaml").read_text()
    for profile, picture, kind in [("esphome-480x480", "JPEG", "RGB565"), ("esphome-bw", "BMP", "BINARY"), ("esphome-spectra6", "PNG", "RGB565")]:
        text = whole.replace("profile: esphome-480x480", f"profile: {profile}")
        text = text.replace("format: JPEG", f"format: {picture}").replace("type: RGB565", f"type: {kind}")
        file = SCRATCH / f"{profile}.yaml"
        file.write_text(text)
        done = subprocess.run(["esphome", "config", file], capture_output=True, text=True)
        said = (done.stdout + done.stderr).strip().splitlines()
        say(done.returncode == 0 and "valid" in said[-1], f"esphome.yaml as {profile}", said[-1])


esphome()
node = Daemon()
try:
    node.paint("a fox on a pink background", seed=7)
    sketch(node, "inkplate", "inkplate-10")
    sketch(node, "tft_espi", "esp32-240x240")
    micropython(node)
finally:
    node.close()
print(f"{failures} failed")
sys.exit(failures > 0)
