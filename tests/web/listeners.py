"""1,000 listeners to /api/events while a job runs: what they cost the daemon, in CPU seconds of the same job with and without them."""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time

from node import Daemon

LISTENERS = int(os.environ.get("EASELD_LISTENERS", "1000"))
STEPS = int(os.environ.get("EASELD_STEPS", "200"))
# Pictures of the job: together they take about as long as one of a larger model.
PICTURES = int(os.environ.get("EASELD_PICTURES", "4"))
ROUNDS = int(os.environ.get("EASELD_ROUNDS", "3"))
# Of the job's own CPU seconds.
MOST = 0.03
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


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


def cpu_s(pid: int) -> tuple[float, float]:
    """In its own code, and in the kernel on its behalf."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return int(fields[11]) * TICK_S, int(fields[12]) * TICK_S


def job(daemon: Daemon) -> tuple[float, float, float]:
    """CPU seconds of the daemon for one picture, how many of them in the kernel, and seconds by the clock."""
    (own, kernel), began = cpu_s(daemon.process.pid), time.monotonic()
    daemon.paint("a fox next to a crown on a pink background", preset="default", steps=STEPS, num_images=PICTURES, seed=7)
    took = time.monotonic() - began
    # The last events come with the last batch.
    time.sleep(0.5 + LISTENERS / 1000)
    own_after, kernel_after = cpu_s(daemon.process.pid)
    return own_after + kernel_after - own - kernel, kernel_after - kernel, took


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
        each = "; ".join(f"{cpu:.2f} ({kernel:.2f} in the kernel, {took:.1f} s by the clock)" for cpu, kernel, took in jobs)
        print(f"{name}, CPU s: {each}")
    own, crowded = (statistics.median(cpu for cpu, _, _ in jobs) for jobs in (without, with_them))
    print(f"{LISTENERS} listeners, a job of {PICTURES} pictures in {STEPS} steps: {own:.2f} CPU s without, {crowded:.2f} with them (medians of {ROUNDS}): {100 * (crowded / own - 1):+.1f} %")
    daemon.close()
    assert crowded <= own * (1 + MOST)


if __name__ == "__main__":
    asyncio.run(crowd(int(sys.argv[1]))) if len(sys.argv) > 1 else main()
