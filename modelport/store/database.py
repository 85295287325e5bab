"""Store: one installation's database, opened safely: local disk, 0600, WAL, writers begin immediate."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError, OperationalError

from modelport.errors import NOT_READY, ModelportError
from modelport.store import tables

HEAD = "0002"
"""The newest migration; a database that already is there is not migrated, so Alembic is not imported."""
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


class Store:
    """An open database. `read()` and `write()` give a connection within one transaction; a write one holds the lock
    from its first statement, so that what was read in it still holds when it is written."""

    def __init__(self, engine: sa.Engine, directory: Path, owner: str, pepper: bytes) -> None:
        self.engine = engine
        self.directory = directory
        self.owner = owner
        """This installation's id, the label that tells its processes from another's."""
        self.pepper = pepper
        """The secret that keys are hashed with; it stays in this directory."""

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Raises ModelportError (503) where the disk is full or the database stays locked; nothing is written then."""
        try:
            with self.engine.connect().execution_options(modelport_write=True) as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise ModelportError(f"The store cannot be written: {error.orig}.", NOT_READY, retry_after_s=5) from error

    def close(self) -> None:
        self.engine.dispose()


def open_store(directory: Path) -> Store:
    """The store of a state directory, made and migrated where it is new.

    Raises ModelportError when the directory cannot be used: not ours to read or write, or on a network file system.
    """
    prepare(directory)
    path = directory / "modelport.db"
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 10, "check_same_thread": False})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    try:
        with open(os.open(directory / "store.lock", os.O_CREAT | os.O_RDWR, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # SQLite switches to WAL without waiting for others who do the same
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            with engine.connect() as connection:
                found = _found_version(connection)
            if found != HEAD:
                _migrate(engine, found)
    except (OSError, DatabaseError) as error:
        raise ModelportError(
            f"The store {path} cannot be opened: {getattr(error, 'orig', error)}. If it is damaged, move it away; "
            "services and keys have to be made again then."
        ) from error
    return Store(engine, directory, _kept(directory / "owner", 6).decode(), _kept(directory / "pepper", 32))


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


def _kept(path: Path, size: int) -> bytes:
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
    writes = connection.get_execution_options().get("modelport_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _found_version(connection: sa.Connection) -> str:
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or ""


def _migrate(engine: sa.Engine, found: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise ModelportError(
            f"The store was made by a newer Modelport (its version is {found}, this one knows up to {HEAD}). "
            "Use that Modelport, or another state_dir."
        )
    with engine.connect().execution_options(modelport_write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ModelportError(f"The store could not be brought up to date: {error}.") from error


def head() -> str:
    """The newest migration on disk; a test holds HEAD against it."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config).get_current_head() or ""


__all__ = ["HEAD", "Store", "file_system", "head", "open_store", "prepare", "tables"]
