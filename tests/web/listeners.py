"""1,000 listeners to /api/events while a job runs: what they cost the daemon, in CPU seconds of the same job with and without them.

The daemon's threads are told apart. Those that paint do the same work in both cases, number for number; where that takes them
longer beside a thousand clients, it is because the clients' own process shares this machine's cores and caches, which it does
not in use. What listeners cost is what the other threads take more. Both are printed, the second is held to the bound.
"""

import asyncio
import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from node import Daemon

LISTENERS = int(os.environ.get("EASELD_LISTENERS", "1000"))
STEPS = int(os.environ.get("EASELD_STEPS", "200"))
# Pictures of the job: together they take about as long as one of a larger model.
PICTURES = int(os.environ.get("EASELD_PICTURES", "4"))
ROUNDS = int(os.environ.get("EASELD_ROUNDS", "3"))
# Of the job's own CPU seconds.
MOST = 0.03
# Threads of the daemon that make pictures; the others serve.
PAINTING = ("engine-", "worker")


async def listen(port: int, ended: asyncio.Queue) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    heard = 0
    while line := await reader.readline():
        if line.startswith(b"HTTP/1.1 ") and b"200" not in line:
            print(line.decode(), flush=True)
            return
        if line.startswith(b"event: hello"):
            await ended.put(None)
        if line.startswith(b"data: "):
            heard += 1
            if b'"status":"succeeded"' in line:
                await ended.put(heard)


async def crowd(port: int) -> None:
    """In a process of its own: says `ready` once all listen, then how many heard the end of each job."""
    ended: asyncio.Queue = asyncio.Queue()
    listeners = [asyncio.create_task(listen(port, ended)) for _ in range(LISTENERS)]
    for _ in listeners:
        assert await ended.get() is None
    print("ready", flush=True)
    while True:
        heard = [await ended.get() for _ in listeners]
        print(f"all {len(heard)} heard {min(heard)} to {max(heard)} events", flush=True)


@dataclass(frozen=True)
class Spent:
    """CPU seconds of the daemon, and seconds by the clock."""

    painting: float
    serving: float
    took: float = 0.0

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.painting - other.painting, self.serving - other.serving, self.took - other.took)

    @property
    def all(self) -> float:
        return self.painting + self.serving


def spent(pid: int) -> Spent:
    """Until now. The kernel counts nanoseconds on the run queue's own clock, finer than the ticks of `stat`."""
    painting = serving = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, seconds = (task / "comm").read_text(), int((task / "schedstat").read_text().split()[0]) / 1e9
        except FileNotFoundError:
            continue
        if name.startswith(PAINTING):
            painting += seconds
        else:
            serving += seconds
    return Spent(painting, serving, time.monotonic())


def job(daemon: Daemon) -> Spent:
    """What one picture takes."""
    before = spent(daemon.process.pid)
    daemon.paint("a fox next to a crown on a pink background", preset="default", steps=STEPS, num_images=PICTURES, seed=7)
    ended = time.monotonic()
    # The last events come with the last batch.
    time.sleep(0.5 + LISTENERS / 1000)
    return dataclasses.replace(spent(daemon.process.pid) - before, took=ended - before.took)


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    daemon = Daemon(EASELD__HTTP__MAX_CONNECTIONS=str(LISTENERS + 100), EASELD__HTTP__MAX_LISTENERS=str(LISTENERS))
    job(daemon)
    with_them, without = [], []
    for _ in range(ROUNDS):
        without.append(job(daemon))
        crowd = subprocess.Popen([sys.executable, __file__, str(daemon.port)], stdout=subprocess.PIPE, text=True)
        assert crowd.stdout.readline() == "ready\n"
        with_them.append(job(daemon))
        print(crowd.stdout.readline().strip(), flush=True)
        crowd.kill()
        crowd.wait()
        time.sleep(1)
    for name, jobs in [("without", without), ("with them", with_them)]:
        each = "; ".join(f"{job.painting:.2f} + {job.serving:.3f} in {job.took:.1f} s" for job in jobs)
        print(f"{name}, CPU s, painting + serving: {each}")
    middle = lambda jobs, of: statistics.median(of(job) for job in jobs)  # noqa: E731
    own, crowded = (middle(jobs, lambda job: job.all) for jobs in (without, with_them))
    cost = middle(with_them, lambda job: job.serving) - middle(without, lambda job: job.serving)
    print(f"{LISTENERS} listeners, a job of {PICTURES} pictures in {STEPS} steps, medians of {ROUNDS}: serving them {cost:.3f} CPU s, "
          f"{100 * cost / own:+.2f} % of the job's {own:.2f}; all threads {100 * (crowded / own - 1):+.1f} %")
    daemon.close()
    assert cost <= own * MOST


if __name__ == "__main__":
    asyncio.run(crowd(int(sys.argv[1]))) if len(sys.argv) > 1 else main()
