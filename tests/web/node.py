"""`easeld serve` for tests in Python: the real binary on the bundled pack, on a port of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Start-up, and a picture on a busy machine: what takes longer has failed.
PATIENCE_S = 120


def binary() -> str:
    """The program under test: `$EASELD`, or cargo's debug build."""
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return os.environ.get("EASELD", str(Path(target) / "debug" / "easeld"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    """A daemon without a broker. Its port stays the same over restarts."""

    def __init__(self, address: str = "127.0.0.1", **settings: str):
        self.port = free_port()
        self.state = tempfile.mkdtemp(prefix="easeld-kiosk-")
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "EASELD__MQTT__URL": "none",
            "EASELD__NODE__NAME": "desk",
            "EASELD__MODELS__DEFAULT": str(ROOT / "models" / "emoji"),
            "EASELD__STATE__DIR": self.state,
            "EASELD__HTTP__LISTEN": f"{address}:{self.port}",
            **settings,
        }
        self.process = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = open(Path(self.state) / "log", "ab")
        self.process = subprocess.Popen([binary(), "serve"], env=self.env, stdout=log, stderr=log)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.json("/healthz")
            except (OSError, urllib.error.URLError):
                assert self.process.poll() is None and time.monotonic() < until, self.log()
                time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut does it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.state, ignore_errors=True)

    def log(self) -> str:
        return (Path(self.state) / "log").read_text()

    def request(self, path: str, body=None, method=None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.read()

    def json(self, path: str, body=None, method=None):
        return json.loads(self.request(path, body, method))

    def paint(self, prompt: str, **fields):
        """Asks for a picture and waits until it is there: what is said of it."""
        job = self.json("/api/generate", {"prompt": prompt, "preset": "fast", **fields})
        return self.ended(job["id"])["images"][0]

    def ended(self, job: str):
        until = time.monotonic() + PATIENCE_S
        while True:
            view = self.json(f"/api/jobs/{job}")
            if view["status"] not in ("queued", "running"):
                return view
            assert time.monotonic() < until, view
            time.sleep(0.1)
