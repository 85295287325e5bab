"""Processes: one that is measured and all its children, by what /proc says of them."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def start(command: Sequence[object], core: int, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process in a group of its own on one core, which its children and threads inherit."""
    with log.open("wb") as out:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)], env=dict(env), stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """End its group: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    time.sleep(0.3)  # the port is free again


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time that these processes have used, in seconds."""
    return sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid))) / TICK


def rss_mb(pids: Sequence[int]) -> float:
    """Proportional set size in MiB: a page shared by several processes counts once for all."""
    total_kb = 0
    for pid in pids:
        with suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
            total_kb += int(found[1]) if found else 0
    return total_kb / 1024


def pin(pids: Sequence[int], core: int) -> None:
    """Move processes and all their threads to one core."""
    for pid in pids:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {core})


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from `state` on, empty where the process is gone (proc(5): utime is the 12th)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()
