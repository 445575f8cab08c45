"""Conditional and range requests as curl makes them: what a script on any machine would do."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from node import Daemon

SCRATCH = Path(tempfile.mkdtemp())


def curl(*arguments) -> str:
    """What curl's `--write-out` says: status, bytes that came, type."""
    command = ["curl", "--silent", "--show-error", "--write-out", "%{http_code} %{size_download} %{content_type}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def said(passed, what, detail) -> bool:
    print(f"  {'ok' if passed else 'FAILED':7} {what}: {detail}", flush=True)
    return passed


def check(daemon: Daemon):
    daemon.paint("a fox on a pink background", seed=7)
    for path, kind in [("/image", "image/png"), ("/image/trmnl", "image/bmp"), ("/image/waveshare-7in3-e6", "application/octet-stream")]:
        url, whole, etag = daemon.url + path, SCRATCH / "whole", SCRATCH / "etag"
        etag.unlink(missing_ok=True)
        first = curl(url, "--output", whole, "--etag-save", etag, "--remote-time")
        size = whole.stat().st_size
        yield said(first == f"200 {size} {kind}", f"{path} whole", first)
        again = curl(url, "--output", SCRATCH / "again", "--etag-compare", etag, "--etag-save", etag)
        yield said(again.startswith("304 0"), f"{path} --etag-compare", again)
        newer = curl(url, "--output", SCRATCH / "again", "--time-cond", "1 Jan 2000")
        older = curl(url, "--output", SCRATCH / "again", "--time-cond", whole)
        yield said(newer.startswith(f"200 {size}") and older.startswith("304 0"), f"{path} --time-cond", f"{newer}; {older}")
        part = curl(url, "--output", SCRATCH / "part", "--range", "10-19")
        same = (SCRATCH / "part").read_bytes() == whole.read_bytes()[10:20]
        yield said(part.startswith("206 10 ") and same, f"{path} --range", part)
        (SCRATCH / "broken").write_bytes(whole.read_bytes()[: size // 3])
        rest = curl(url, "--output", SCRATCH / "broken", "--continue-at", "-")
        same = (SCRATCH / "broken").read_bytes() == whole.read_bytes()
        yield said(rest.startswith(f"206 {size - size // 3} ") and same, f"{path} --continue-at", rest)
        beyond = curl(url, "--output", SCRATCH / "beyond", "--range", f"{size}-")
        yield said(beyond.startswith("416"), f"{path} beyond its end", beyond)
        head = subprocess.run(["curl", "--silent", "--head", url], capture_output=True, text=True, check=True).stdout.lower()
        yield said(f"content-length: {size}" in head and "refresh: " in head, f"{path} --head", head.splitlines()[0])
    before = curl(daemon.url + "/image/trmnl", "--output", SCRATCH / "old", "--etag-save", SCRATCH / "etag")
    daemon.paint("an owl on teal", seed=8)
    after = curl(daemon.url + "/image/trmnl", "--output", SCRATCH / "new", "--etag-compare", SCRATCH / "etag")
    changed = (SCRATCH / "old").read_bytes() != (SCRATCH / "new").read_bytes()
    yield said(after.startswith("200") and changed, "another picture, the old tag", f"{before}; {after}")
    body = json.dumps({"prompt": "a cat", "renditions": ["no-such-panel"]})
    wrong = curl(daemon.url + "/api/generate", "--output", SCRATCH / "wrong", "--json", body)
    yield said(wrong.startswith("400"), "a request that is refused", (SCRATCH / "wrong").read_text())


daemon = Daemon()
try:
    passed = list(check(daemon))
finally:
    daemon.close()
print(f"{len(passed)} checks, {passed.count(False)} failed")
sys.exit(not all(passed))
