"""SQLite: one machine's store, opened safely: local disk, 0600, WAL, writers begin immediate."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

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


def engine(path: Path) -> sa.Engine:
    """Connections to the file. One with the option `modelport_write` holds the write lock from its first statement."""
    made = sa.create_engine(
        f"sqlite:///{path}", connect_args={"timeout": 10, "check_same_thread": False}, hide_parameters=True
    )
    event.listen(made, "connect", _on_connect)
    event.listen(made, "begin", _on_begin)
    return made


@contextmanager
def opening(directory: Path) -> Iterator[None]:
    """One opener at a time, with the file there: SQLite switches to WAL without waiting for others who do the same."""
    with open(os.open(directory / "store.lock", os.O_CREAT | os.O_RDWR, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path := directory / "modelport.db").exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        yield


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


def kept(path: Path, size: int) -> bytes:
    """A random value made once and kept 0600: hex text. Linked into place, so that two makers agree on one."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        made = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
        with open(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(size))
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # another process was first: its value is the one
        finally:
            made.unlink()
        return path.read_bytes()


def _on_connect(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # pysqlite then leaves BEGIN to us
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: sa.Connection) -> None:
    # A writer that begins later than with its first statement could find that what it read is no longer so, and
    # SQLite would refuse it at once (SQLITE_BUSY_SNAPSHOT).
    writes = connection.get_execution_options().get("modelport_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
