"""What /proc says about this user's processes: who they are, whose they are, what they take."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress

import psutil


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None for one that is gone. With its pid, who it is."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def parent(pid: int) -> int | None:
    """The pid of its parent."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def marks(pid: int) -> dict[str, str]:
    """Its `MODELPORT_…` environment as it was at exec; empty for one that is gone or not of this user.

    Another user's are never believed: they could name a directory of ours as theirs.
    """
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return {}
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry.startswith(b"MODELPORT_"))
    return {name: value for name, _, value in pairs}


def marked(wanted: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """All processes of this user whose environment has these marks, with all their marks."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            has = marks(int(name))
            if has and wanted.items() <= has.items():
                yield int(name), has


def send(pid: int, number: signal.Signals, wanted: Mapping[str, str]) -> bool:
    """Signal the process only if it has these marks; held by a pidfd, so that a reused pid is never hit."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            if wanted.items() <= marks(pid).items():
                signal.pidfd_send_signal(fd, number)
                return True
        finally:
            os.close(fd)
    return False


def memory_bytes(pid: int) -> int | None:
    """The proportional set size of a process and all below it; None where the kernel does not tell."""
    try:
        root = psutil.Process(pid)
        return sum(process.memory_full_info().pss for process in [root, *root.children(recursive=True)])
    except (psutil.Error, AttributeError):
        return None


def listens(wanted: Mapping[str, str], port: int | None) -> bool:
    """Whether a process with these marks listens on that TCP port."""
    for pid, _ in marked(wanted):
        with suppress(psutil.Error):
            if any(
                c.status == psutil.CONN_LISTEN and c.laddr.port == port
                for c in psutil.Process(pid).net_connections("tcp")
            ):
                return True
    return False


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from the state on (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
