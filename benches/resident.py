"""Memory of a running process, sampled every 2 ms, for the measuring scripts beside this file."""

from __future__ import annotations

import threading
import time
from pathlib import Path

FIELDS = ("VmHWM", "RssAnon", "RssFile")


class Peaks:
    """The largest VmHWM, RssAnon and RssFile of the process `pid` until `stop`, in KiB; `resident` is that of the sum of the
    last two: VmHWM counts pages that were there before the program began."""

    def __init__(self, pid: int):
        self.kib = dict.fromkeys((*FIELDS, "resident"), 0)
        self._status = Path(f"/proc/{pid}/status")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.is_set():
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            now = {name: int(line.split()[1]) for line in lines for name in FIELDS if line.startswith(f"{name}:")}
            now["resident"] = now.get("RssAnon", 0) + now.get("RssFile", 0)
            for name, kib in now.items():
                self.kib[name] = max(self.kib[name], kib)
            time.sleep(0.002)

    def stop(self) -> dict[str, int]:
        self._done.set()
        self._thread.join()
        return self.kib
