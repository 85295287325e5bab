"""SQLite: one machine's store, opened safely: local disk, 0600, WAL, writers begin immediate."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event


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
