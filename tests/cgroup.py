#!/usr/bin/env python3
"""A picture inside a memory cgroup, against the same picture with all the memory there is.

    tests/cgroup.py job PACK [--mib 512 320] [--steps 4] [--size 512]
    tests/cgroup.py idle [PACK]

`job`: caches dropped, every read made inside the cgroup, no swap. Prints for each limit the seconds, the peak, the bytes
read and the read rate in the same cgroup; fails where the process is killed, or takes more than 1.5 times the unrestricted time
and more than 1.15 times (bytes read / read rate). `idle`: the daemon's memory once it has dropped its networks, and the processor
time it takes with a broker and nothing to do. EASELD names the program (default: target/release/easeld). Needs root; version 1 or 2 of the memory controller.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EASELD = os.environ.get("EASELD", str(ROOT / "target/release/easeld"))
MIB = 1 << 20
TIMES, OF_READING = 1.5, 1.15
IDLE_MIB = 30
IDLE_SHARE, IDLE_S = 0.005, 60


class Cgroup:
    """A group with a limit; processes enter it themselves."""

    def __init__(self, mib: int | None):
        self.version_1 = Path("/sys/fs/cgroup/memory").is_dir()
        base = Path("/sys/fs/cgroup/memory" if self.version_1 else "/sys/fs/cgroup")
        self.path = base / f"easeld-test-{os.getpid()}-{mib}"
        if not self.version_1:
            (base / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        if mib and self.version_1:
            self.write("memory.limit_in_bytes", mib * MIB)
            self.write("memory.swappiness", 0)
        elif mib:
            self.write("memory.max", mib * MIB)
            self.write("memory.swap.max", 0)

    def write(self, name: str, value: int) -> None:
        (self.path / name).write_text(str(value))

    def enter(self) -> None:
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self) -> int:
        return int((self.path / ("memory.max_usage_in_bytes" if self.version_1 else "memory.peak")).read_text())

    def kills(self) -> int:
        text = (self.path / ("memory.oom_control" if self.version_1 else "memory.events")).read_text()
        return int(re.search(r"^oom_kill (\d+)", text, re.M).group(1))

    def close(self) -> None:
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.1)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def run(command: list[str], group: Cgroup) -> tuple[float, int, str]:
    """Seconds, bytes read from disks, what it printed."""
    drop_caches()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock
    began = time.monotonic()
    done = subprocess.run(command, preexec_fn=group.enter, capture_output=True, text=True)
    seconds = time.monotonic() - began
    read = (resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock - before) * 512
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        raise SystemExit(f"exit {done.returncode}; killed for memory: {group.kills()}")
    return seconds, read, done.stdout


def read_rate(pack: Path, group: Cgroup) -> float:
    """Bytes a second of the largest packed file, read once from the disk inside the group."""
    largest = max(pack.glob("*/model.packed"), key=lambda path: path.stat().st_size)
    seconds, _, _ = run(["dd", f"if={largest}", "of=/dev/null", "bs=4M", "status=none"], group)
    return largest.stat().st_size / seconds


def job(args: argparse.Namespace) -> None:
    subprocess.run([EASELD, "pack", "prepare", args.pack], check=True, stdout=subprocess.DEVNULL)
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        command = [EASELD, "generate", "a cat", "--model", args.pack, "--steps", str(args.steps), "--seed", "1", "--json"]
        command += ["--guidance-scale", "7.5", "--width", str(args.size), "--height", str(args.size), "-o"]
        free = Cgroup(None)
        whole, _, printed = run([*command, f"{directory}/free.png"], free)
        print(f"unrestricted: {whole:.1f} s, peak {free.peak() >> 20} MiB, stages {json.loads(printed)['seconds']}")
        free.close()
        for mib in args.mib:
            group = Cgroup(mib)
            seconds, read, printed = run([*command, f"{directory}/{mib}.png"], group)
            rate = read_rate(Path(args.pack), group)
            bound = max(TIMES * whole, OF_READING * read / rate)
            same = Path(f"{directory}/{mib}.png").read_bytes() == Path(f"{directory}/free.png").read_bytes()
            print(
                f"{mib} MiB: {seconds:.1f} s ({seconds / whole:.2f} times), at most {bound:.1f} s; peak {group.peak() >> 20} MiB, "
                f"killed {group.kills()}; {read / 1e9:.2f} GB read at {rate / 1e6:.0f} MB/s; same picture: {same}; "
                f"stages {json.loads(printed)['seconds']}"
            )
            failed |= seconds > bound or group.kills() > 0 or not same
            group.close()
    sys.exit(failed)


def idle(args: argparse.Namespace) -> None:
    mib, share = idle_memory(args.pack), idle_share(args.pack)
    sys.exit(mib > IDLE_MIB or share > IDLE_SHARE)


def daemon(directory: str, pack: str, **settings: str) -> subprocess.Popen:
    settings |= {"STATE__DIR": directory, "MODELS__DEFAULT": pack, "HTTP__LISTEN": "127.0.0.1:0"}
    environment = {**os.environ, **{f"EASELD__{name}": value for name, value in settings.items()}}
    return subprocess.Popen([EASELD, "serve"], env=environment, stderr=subprocess.PIPE, text=True)


def has_said(process: subprocess.Popen, words: str) -> None:
    for line in process.stderr:
        if words in line:
            return
    raise SystemExit(f"the daemon ended before it said {words!r}")


def idle_memory(pack: str) -> float:
    """MiB that are resident two seconds after the networks were dropped."""
    with tempfile.TemporaryDirectory() as directory:
        process = daemon(directory, pack, MQTT__URL="none", MODELS__IDLE_S="2", SCHEDULE__ENTRIES="every 8s a cat")
        try:
            has_said(process, "pictures made")
            time.sleep(4)
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.terminate()
            process.wait()
    kib = {name: int(value) for name, value in re.findall(r"(VmRSS|RssAnon|RssFile|VmHWM):\s+(\d+)", status)}
    print(f"after a picture, networks dropped: {({name: f'{value / 1024:.1f} MiB' for name, value in kib.items()})}")
    return kib["VmRSS"] / 1024


def idle_share(pack: str) -> float:
    """Share of one core that a daemon takes that is connected to a mosquitto and has nothing to do."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        configuration = Path(directory) / "mosquitto.conf"
        configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        broker = subprocess.Popen(["mosquitto", "-c", configuration], stderr=subprocess.DEVNULL)
        process = daemon(directory, pack, MQTT__URL=f"mqtt://127.0.0.1:{port}")
        try:
            has_said(process, "connected to the broker")
            time.sleep(10)
            before = processor_seconds(process.pid)
            time.sleep(IDLE_S)
            share = (processor_seconds(process.pid) - before) / IDLE_S
        finally:
            for started in (process, broker):
                started.terminate()
                started.wait()
    print(f"connected, nothing to do: {100 * share:.2f} % of a core")
    return share


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    of_job = commands.add_parser("job")
    of_job.add_argument("pack")
    of_job.add_argument("--mib", type=int, nargs="+", default=[512, 320])
    of_job.add_argument("--steps", type=int, default=4)
    of_job.add_argument("--size", type=int, default=512)
    of_job.set_defaults(run=job)
    of_idle = commands.add_parser("idle")
    of_idle.add_argument("pack", nargs="?", default=str(ROOT / "models/emoji"))
    of_idle.set_defaults(run=idle)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
