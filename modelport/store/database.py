"""Store: one installation's database: SQLite in its state directory, or a PostgreSQL that several gateways share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, DBAPIError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from modelport.errors import NOT_READY, ModelportError
from modelport.statedir import file_system, prepare
from modelport.store import installation, postgres, sqlite, tables
from modelport.store.secret import secret

HEAD = "0004"
"""The newest migration; a database that already is there is not migrated, so Alembic is not imported."""
READING: dict[str, dict[str, Any]] = {"sqlite": {}, "postgresql": postgres.READING}
"""By dialect: what makes all that one transaction reads be of one moment."""
ALONE: dict[str, tuple[bool, ...]] = {"sqlite": (True, False), "postgresql": (True,)}
"""By dialect: the values of `alone` for which a writer takes the lock; SQLite has one writer at a time anyway."""


class Store:
    """An open database. `read()` and `write()` give a connection within one transaction."""

    def __init__(self, engine: sa.Engine, directory: Path, owner: str, pepper: bytes) -> None:
        self.engine = engine
        self.directory = directory
        self.owner = owner
        """This installation's id, the label that tells its processes from another's."""
        self.pepper = pepper
        """The secret that keys are hashed with; it is never in the database."""

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Raises ModelportError (503) where the database cannot be reached."""
        options = READING[self.engine.dialect.name]
        with _spoken("read"), self.engine.connect() as connection:
            yield connection.execution_options(**options)

    @contextmanager
    def write(self, *, alone: bool = True) -> Iterator[sa.Connection]:
        """Alone, it holds the writers' lock from its first statement, so that what was read in it still holds when it
        is written. Not alone is for statements that are each atomic by themselves: gateways do them side by side.

        Raises ModelportError (503) where the disk is full, the database stays locked or cannot be reached; nothing is
        written then.
        """
        options = {"modelport_write": alone in ALONE[self.engine.dialect.name]}
        with _spoken("written"), self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def lead(self) -> postgres.Lead | None:
        """The leadership of all controls that share a PostgreSQL, None while another has it. ModelportError (503)."""
        with _spoken("read"):
            return postgres.lead(self.engine)

    def close(self) -> None:
        self.engine.dispose()


def open_store(directory: Path, url_ref: str = "", pepper_ref: str = "") -> Store:
    """The store of a state directory, made and migrated where it is new; or, where `url_ref` is given, the PostgreSQL
    whose URL it refers to, with the secret for keys that `pepper_ref` refers to (store/secret.py).

    Raises ModelportError when it cannot be used: the directory not ours to read or write or on a network file system,
    a reference to nothing, a server that cannot be reached or lets us not in.
    """
    prepare(directory)
    return _shared(directory, url_ref, pepper_ref) if url_ref else _own(directory)


def _own(directory: Path) -> Store:
    path = directory / "modelport.db"
    engine = sqlite.engine(path)
    try:
        with sqlite.opening(directory):
            _bring_up_to_date(engine)
    except (OSError, DatabaseError) as error:
        raise ModelportError(
            f"The store {path} cannot be opened: {getattr(error, 'orig', error)}. If it is damaged, move it away; "
            "services and keys have to be made again then."
        ) from error
    return Store(engine, directory, sqlite.kept(directory / "owner", 6).decode(), sqlite.kept(directory / "pepper", 32))


def _shared(directory: Path, url_ref: str, pepper_ref: str) -> Store:
    if not pepper_ref:
        raise ModelportError("store_url_ref needs pepper_ref: where the secret is that all gateways hash keys with.")
    pepper = secret("pepper_ref", pepper_ref).encode()
    if len(pepper) < installation.LEAST_PEPPER:
        raise ModelportError(
            f"The secret that pepper_ref refers to is shorter than {installation.LEAST_PEPPER} characters."
        )
    engine = postgres.engine(secret("store_url_ref", url_ref))
    try:
        _bring_up_to_date(engine)
        with engine.connect() as tx, tx.begin():
            installation.check_pepper(tx, pepper)
            return Store(engine, directory, installation.owner(tx), pepper)
    except DBAPIError as error:
        raise ModelportError(postgres.refusal(_said(error))) from None


@contextmanager
def _spoken(verb: str) -> Iterator[None]:
    """What the database says when it fails by no fault of a statement's, as a sentence."""
    try:
        yield
    except (OperationalError, InternalError, PoolTimeout) as error:
        raise ModelportError(f"The store cannot be {verb}: {_said(error)}.", NOT_READY, retry_after_s=5) from error


def _said(error: DBAPIError | PoolTimeout) -> str:
    """The first line of the database's own words; the others repeat it per address, or quote the statement."""
    if isinstance(error, PoolTimeout):
        return "all connections are in use"
    return str(error.orig).strip().partition("\n")[0].rstrip(".") or type(error.orig).__name__


def _bring_up_to_date(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = _found_version(connection)
    if found != HEAD:
        _migrate(engine)


def _found_version(connection: sa.Connection) -> str:
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or ""


def _migrate(engine: sa.Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    options = {"modelport_write": True, "modelport_migrates": True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        found = _found_version(connection)  # again: another opener may have been first
        if found and found not in known:
            raise ModelportError(
                f"The store was made by a newer Modelport (its version is {found}, this one knows up to {HEAD}). "
                "Use that Modelport, or another store."
            )
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
