"""StateDir: the one directory of an installation: made for its owner only, on a disk that can hold a store, and locked.

Apart from the store itself, because the parent of a server needs this much and nothing that takes memory.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import ModelportError

NETWORK_FILE_SYSTEMS = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "glusterfs",
        "afs",
        "9p",
        "ocfs2",
        "gfs2",
    )
) | frozenset(("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone", "fuse.s3fs", "fuse.beegfs"))
"""Types in /proc/self/mountinfo on which SQLite's WAL does not work: it needs memory shared between all writers
(sqlite.org/wal.html, «all processes using a database must be on the same host computer»)."""


def prepare(directory: Path) -> None:
    """Make the state directory (0700) where there is none, and refuse one that cannot hold a store. ModelportError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mounts = Path("/proc/self/mountinfo")
        kind = file_system(directory.resolve(), mounts.read_text()) if mounts.exists() else ""
        if kind in NETWORK_FILE_SYSTEMS:
            raise ModelportError(
                f"The state directory {directory} is on a network file system ({kind}), where the store would be "
                "damaged. Set state_dir (MODELPORT_STATE_DIR) to a directory on a local disk."
            )
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(0o700)
        probe = directory / f".probe-{os.getpid()}"
        probe.touch(0o600)
        probe.unlink()
    except OSError as error:
        raise ModelportError(
            f"The state directory {directory} cannot be used: {error.strerror}. Set state_dir (MODELPORT_STATE_DIR) "
            "to a directory you own."
        ) from None


def file_system(path: Path, mountinfo: str) -> str:
    """The type of the file system `path` lies on, from the text of /proc/self/mountinfo (proc(5)); '' if not found."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = fields[4].encode().decode("unicode_escape")  # spaces stand as \040
        inside = point == "/" or str(path) == point or str(path).startswith(point + "/")
        if inside and len(point) >= best:  # a later mount on the same point hides the earlier one
            best, kind = len(point), after.split()[0]
    return kind


@contextlib.contextmanager
def locked(state_dir: Path, name: str) -> Iterator[None]:
    """Hold the state directory's lock of that name. Raises ModelportError when another process has it. The kernel
    drops it when the holder dies, however it dies."""
    with open(os.open(state_dir / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip()
            raise ModelportError(
                f"Modelport is already serving from {state_dir}" + (f" (process {holder})" if holder else "") + ". "
                "Use it (`modelport ps`), or give this one another state directory (--state-dir)."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
