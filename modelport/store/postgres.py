"""PostgreSQL: one store of several gateways: what connections are set to, the writers' lock, and errors in words."""

import contextlib
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from modelport.errors import ModelportError

LOCKS = 0x6D706F72
"""The first half of our advisory locks' keys, "mpor". They are a database's own: each installation needs one."""
WRITE, LEAD = 1, 2
DEFAULTS = {
    "application_name": "modelport",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""What the URL may set otherwise (libpq, "Parameter Key Words"): a server that vanished is noticed within 15 s, seconds
but for the last, which is in milliseconds."""
SESSION = "; ".join(
    f"SET {name} = {value}"
    for name, value in {
        "statement_timeout": "'10s'",
        "lock_timeout": "'10s'",
        "idle_in_transaction_session_timeout": "'5s'",  # who hangs with the writers' lock loses it while others wait
        "tcp_keepalives_idle": "10",  # by default the server holds a vanished machine's locks for two hours
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }.items()
)
PATIENT = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"
"""For migrations, which rewrite tables while those who open the store at the same time wait for them."""
READING: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""All that one transaction reads is of one moment, as in SQLite: a snapshot must not be newer than its revision."""
HINTS = (
    ("password authentication failed", "Check the user and the password in the URL"),
    ("no password supplied", "Put the password into the URL"),
    ("does not exist", "Make it, or name another in the URL"),
    ("permission denied", "The user must own the database, or be granted CREATE on its schema"),
    ("pg_hba.conf", "Let this machine and user in there"),
    ("read-only", "Name the primary in the URL, or add target_session_attrs=read-write"),
    ("connection", "Check that it runs and that the URL names its host and port"),
    ("resolve host", "Check the host's name in the URL"),
)
"""What to do, by a part of what libpq or the server said."""


def engine(url: str) -> sa.Engine:
    """Connections to the server: at most five, checked before they are lent out, so that a restarted server costs
    nothing but time. One with the option `modelport_write` holds the writers' lock from its first statement.

    The URL goes to libpq and is not kept where anything could show it. Raises ModelportError.
    """
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise ModelportError(
            "A store on PostgreSQL needs the package psycopg: pip install 'modelport[postgres]'."
        ) from None
    try:
        if not url.startswith(("postgresql://", "postgres://")):
            raise psycopg.ProgrammingError
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = None
    if given is None or not _whole(given):
        raise ModelportError(
            "What store_url_ref refers to is not of the form postgresql://user:password@host:port/database; write "
            "other characters than letters and digits in the password as % and two hex digits."
        ) from None
    made = sa.create_engine(
        "postgresql+psycopg://",
        connect_args=DEFAULTS | given,
        isolation_level="READ COMMITTED",
        pool_size=3,
        max_overflow=2,
        pool_timeout=10,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    event.listen(made, "connect", _on_connect)
    event.listen(made, "begin", _on_begin)
    return made


def refusal(said: str) -> str:
    """The sentences for a store that cannot be opened, from the first line of what libpq or the server said."""
    hint = next((f" {hint}." for part, hint in HINTS if part in said), "")
    return f"The PostgreSQL that store_url_ref refers to cannot be used: {said}.{hint}"


def _whole(given: dict[str, Any]) -> bool:
    """Whether libpq's reading is the writer's: an unescaped `@` or `/` in a password would make its rest a part of the
    host, port or database, which errors show."""
    hosts, ports = str(given.get("host", "")), str(given.get("port", ""))
    return (
        re.fullmatch(r"[\w.:,/-]*", hosts) is not None
        and re.fullmatch(r"[\d,]*", ports) is not None
        and re.search(r"[@/:]", str(given.get("dbname", ""))) is None
    )


def _on_connect(connection: Any, _record: object) -> None:
    from psycopg.types.string import StrDumper

    class Dumper(StrDumper):
        """PostgreSQL's text holds no NUL; an engine's last words, which become a reason, may."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    connection.adapters.register_dumper(str, Dumper)
    connection.autocommit = True
    connection.execute(SESSION)
    connection.autocommit = False


def _on_begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if options.get("modelport_migrates"):
        connection.exec_driver_sql(PATIENT)
    if options.get("modelport_write"):  # READ COMMITTED: each statement after it sees what was committed before
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCKS}, {WRITE})")


class Lead:
    """The lock that one control of all holds. The server drops it when its connection ends, however that ends."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def held(self) -> bool:
        """Whether it still is ours; asks the server, so not more often than each second. Lost once is lost."""
        if self._connection.invalidated:  # asking would make a new connection, which holds nothing
            return False
        try:
            return self._connection.exec_driver_sql("SELECT true").scalar() is True
        except DBAPIError:
            return False

    def end(self) -> None:
        """Let the next one lead."""
        with contextlib.suppress(DBAPIError):
            if not self._connection.invalidated:
                self._connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCKS}, {LEAD})")
        self._connection.close()


def lead(made: sa.Engine) -> Lead | None:
    """The lock, or None while another control has it."""
    connection = made.connect().execution_options(isolation_level="AUTOCOMMIT")
    if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCKS}, {LEAD})").scalar():
        return Lead(connection)
    connection.close()
    return None
