"""Cgroup: the memory limit the kernel holds this process to, which is what kills it, whatever the machine has."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# v1 writes "no limit" as the largest multiple of the page size below 2^63.
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Limit:
    """One cgroup's memory limit, and what it could still give."""

    limit_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class _Version:
    """The files of one cgroup version (kernel: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst)."""

    mount: str
    limit: str
    usage: str
    inactive_file: str


_V1 = _Version("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Version("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def limits(root: Path = Path("/")) -> list[Limit]:
    """The limits of our own cgroup and all above it; empty where there are none or this is not Linux.

    Inside a container the path in /proc may be the host's; what exists of it under the mount is then its upper part,
    at least the mount itself, which is the container's own cgroup.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Limit] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version = _V2 if not controllers else _V1 if "memory" in controllers.split(",") else None
        if version is None or ".." in path:
            continue
        own = PurePosixPath(path.lstrip("/"))
        for part in (own, *own.parents):
            limit = _limit(root / version.mount / part, version)
            if limit is not None and limit not in found:
                found.append(limit)
    return found


def _limit(directory: Path, version: _Version) -> Limit | None:
    try:
        limit = int((directory / version.limit).read_text())  # v2 says "max" for none: ValueError
        usage = int((directory / version.usage).read_text())
        stat = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
        # Page cache that nothing uses is given back before anything is killed.
        reclaimable = int(stat.get(version.inactive_file, 0))
    except (OSError, ValueError):
        return None
    if limit >= _NO_LIMIT:
        return None
    return Limit(limit, max(0, limit - max(0, usage - reclaimable)))
