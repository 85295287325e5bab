"""PostgreSQL: refusals in a sentence that shows no password; several processes that lose nothing; a server that goes."""

import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from modelport.errors import ModelportError
from modelport.store import Store, gateways, open_store, revision, services
from modelport.store import starts as recorded
from modelport.store.database import HEAD
from modelport.store.tables import metadata
from tests.postgres import PASSWORD, References, Server


@pytest.fixture
def store(references: References, tmp_path: Path) -> Iterator[Store]:
    store = shared(references, tmp_path)
    yield store
    store.close()


def shared(references: References, tmp_path: Path) -> Store:
    return open_store(tmp_path / "state", references.url_ref, references.pepper_ref)


def processes(count: int, code: str, references: References, tmp_path: Path) -> list[str]:
    """What so many processes said that ran `code` on a store `s` of their own at the same time."""
    begin = "import sys; from pathlib import Path; from modelport.store import open_store, revision; s = open_store(Path(sys.argv[1]), *sys.argv[2:])\n"
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                begin + code,
                str(tmp_path / f"state{n}"),
                references.url_ref,
                references.pepper_ref,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(count)
    ]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count
    return said


def refused(url: str, tmp_path: Path, password: str = PASSWORD, pepper: str = "pepper-" * 6) -> str:
    """The sentence with which a store at this URL is refused; nothing of it shows the password."""
    with pytest.raises(ModelportError) as caught:
        shared(References(tmp_path / "refused", url, pepper), tmp_path)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert password not in shown and url not in shown
    return caught.value.message


def test_what_the_url_or_the_server_lacks_is_said_without_the_password(postgres: Server, tmp_path: Path) -> None:
    wrong = refused(postgres.url("postgres", password="wr0ng-one"), tmp_path, "wr0ng-one")
    assert 'password authentication failed for user "tester"' in wrong and "Check the user" in wrong
    assert 'database "nowhere" does not exist' in refused(postgres.url("nowhere"), tmp_path)
    unreachable = f"postgresql://tester:{PASSWORD[0] * 9}@127.0.0.1:1/x"
    assert "Connection refused" in refused(unreachable, tmp_path, PASSWORD[0] * 9)


def test_a_user_who_may_make_no_tables_is_told_so(postgres: Server, tmp_path: Path) -> None:
    name = postgres.database()
    postgres.run(f"CREATE ROLE {name} LOGIN PASSWORD 'pw-of-{name}'")
    said = refused(postgres.url(name, name, f"pw-of-{name}"), tmp_path, f"pw-of-{name}")
    assert "permission denied for schema public" in said and "must own the database" in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr/et@host/db",  # libpq reads host u, port s3cr
        "postgresql://u:12/s3cret@host/db",
        "postgresql://u:a@s3cret@host/db",
        "postgresql://u:s3cret%zz@host/db",
        "postgresql://u:s3cret@host:port/db",
        "postgresql://u:x@host/db?s3cret=1",
        "mysql://u:s3cret@host/db",
        "host=h password=s3cret",
    ],
)
def test_a_url_that_libpq_would_read_otherwise_than_it_was_meant_is_refused_unseen(url: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    assert "is not of the form postgresql://" in refused(url, tmp_path, "s3cr")


@pytest.mark.parametrize(
    ("url_ref", "pepper_ref", "sentence"),
    [
        ("postgresql://u:s3cret@host/db", "env:PEPPER", "store_url_ref must say where the secret is, not hold it"),
        ("env:NOT_THERE", "env:PEPPER", "store_url_ref refers to the environment variable NOT_THERE, which is not set"),
        ("file:/not/there", "env:PEPPER", "store_url_ref refers to /not/there, which cannot be read: No such file"),
        ("file:relative", "env:PEPPER", "an absolute one"),
        ("env:URL", "", "store_url_ref needs pepper_ref"),
        ("env:URL", "env:SHORT", "shorter than 32 characters"),
        ("env:URL", "s3cret", "pepper_ref must say where the secret is"),
    ],
)
def test_a_reference_to_nothing_is_a_sentence_that_repeats_no_secret(
    url_ref: str, pepper_ref: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PEPPER": "p" * 32, "SHORT": "s3cret", "URL": "postgresql://u:s3cret@127.0.0.1:1/d"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelportError) as caught:
        open_store(tmp_path / "state", url_ref, pepper_ref)
    assert sentence in caught.value.message and "s3cret" not in caught.value.message


def test_without_psycopg_the_package_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from modelport.store import postgres\n"
        "from modelport.errors import ModelportError\n"
        "try: postgres.engine('postgresql://u:p@h/d')\n"
        "except ModelportError as error: print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'modelport[postgres]'" in done.stdout, done.stderr


def test_an_open_store_shows_its_password_nowhere(store: Store) -> None:
    with store.read() as tx:
        shown = [store, store.engine, store.engine.url, tx, tx.connection.dbapi_connection, vars(store)]
    assert all(PASSWORD not in repr(thing) for thing in shown)
    with pytest.raises(DBAPIError) as caught, store.write() as tx:
        tx.execute(sa.text("SELECT nonsense FROM nowhere WHERE x = :x"), {"x": "s3cret-value"})
    assert "s3cret-value" not in str(caught.value), "nor what a statement was given"


def test_several_processes_that_open_a_new_store_at_once_migrate_it_once_and_agree(
    references: References, tmp_path: Path
) -> None:
    said = processes(4, "print(s.owner, s.pepper.hex())", references, tmp_path)
    assert len(set(said)) == 1 and len(said[0].split()[0]) == 12
    store = shared(references, tmp_path)
    with store.read() as tx:
        assert tx.exec_driver_sql("SELECT version_num FROM alembic_version").all() == [(HEAD,)]
        found = sa.inspect(tx)
        for table in metadata.tables.values():
            assert {c["name"] for c in found.get_columns(table.name)} == set(table.columns.keys())
        stored = str(tx.exec_driver_sql("SELECT * FROM installation").all())
    assert "pepper-pepper" not in stored, "the pepper does not lie beside the digests"
    store.close()


def test_a_pepper_that_the_keys_were_not_made_with_is_refused(
    store: Store, postgres: Server, references: References, tmp_path: Path
) -> None:
    url = Path(references.url_ref.removeprefix("file:")).read_text().strip()
    assert "not the one that this store's keys were made with" in refused(url, tmp_path, pepper="another-" * 6)


@pytest.mark.parametrize("alone", [True, False])
def test_processes_that_bump_at_the_same_time_lose_no_revision(
    alone: bool, store: Store, references: References, tmp_path: Path
) -> None:
    code = f"""
for _ in range(50):
    with s.write(alone={alone}) as tx:
        print(revision.bump(tx))
"""
    said = processes(2, code, references, tmp_path)
    assert sorted(int(line) for text in said for line in text.split()) == list(range(1, 101))


def test_what_a_writer_read_still_holds_when_it_writes(store: Store) -> None:
    """Read, then write what follows from it: the lock is held from the first statement, the read sees all before."""

    def add_one() -> None:
        for _ in range(20):
            with store.write() as tx:
                at = gateways.last_requests(tx).get("s", 0.0)
                gateways.touch(tx, {"s": at + 1})

    threads = [threading.Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as tx:
        assert gateways.last_requests(tx) == {"s": 80.0}


def test_a_writer_that_is_not_alone_waits_for_none(store: Store) -> None:
    with store.write() as tx, store.write(alone=False) as other:
        revision.current(tx)
        gateways.touch(other, {"s": 1.0})


def test_all_that_a_reader_reads_is_of_one_moment(store: Store) -> None:
    with store.read() as reader:
        assert revision.current(reader) == 0
        with store.write() as tx:
            revision.bump(tx)
            gateways.touch(tx, {"s": 1.0})
        assert revision.current(reader) == 0 and gateways.last_requests(reader) == {}
        with pytest.raises(ModelportError, match="read-only transaction"), store.read() as other:
            gateways.touch(other, {"s": 2.0})


def test_a_server_that_went_away_is_a_sentence_and_one_that_came_back_is_used_again(
    store: Store, postgres: Server
) -> None:
    with store.write() as tx:
        revision.bump(tx)
    postgres.stop()
    try:
        for use in (store.read, store.write):
            with pytest.raises(ModelportError, match="The store cannot be .*Connection refused") as caught, use() as tx:
                revision.current(tx)
            assert caught.value.kind.status == 503
    finally:
        postgres.start()
    with store.write() as tx:
        assert revision.bump(tx) == 2, "no first use fails on a connection from before"


def test_a_server_that_goes_within_a_transaction_has_kept_nothing_of_it(store: Store, postgres: Server) -> None:
    with pytest.raises(ModelportError, match="cannot be written"), store.write() as tx:
        revision.bump(tx)
        postgres.stop()
        postgres.start()
        revision.bump(tx)
    with store.read() as tx:
        assert revision.current(tx) == 0


def test_a_nul_in_a_reason_is_kept_as_a_mark(store: Store) -> None:
    from modelport.domain.spec import Spec

    with store.write() as tx:
        service = services.insert(tx, Spec(model="m"), None, 1.0)
        assert services.update(tx, service, 2.0, reason="died: \0!").reason == "died: \N{REPLACEMENT CHARACTER}!"


def test_starts_of_a_private_server_are_carried_into_it(store: Store, tmp_path: Path) -> None:
    own = open_store(tmp_path / "own")
    with own.write() as tx:
        recorded.record(tx, model="m", engine="e", seconds=4.0, planned_bytes=1, measured_bytes=2, now=1.0)
    with own.read() as source, store.write() as into:
        recorded.carry(source, into)
    with store.read() as tx:
        assert recorded.estimates(tx) == {"m": 4.0}
    own.close()


def test_one_control_leads_and_the_next_does_when_its_connection_ends(
    store: Store, references: References, tmp_path: Path, postgres: Server
) -> None:
    other = shared(references, tmp_path)
    first = store.lead()
    assert first is not None and first.held() and other.lead() is None
    first.end()
    second = other.lead()
    assert second is not None and second.held() and store.lead() is None
    postgres.run(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        "WHERE l.locktype = 'advisory' AND d.datname = current_database()",
        other_database(references),
    )
    assert not second.held() and not second.held(), "lost once is lost"
    third = store.lead()
    assert third is not None
    third.end()
    second.end()
    other.close()


def other_database(references: References) -> str:
    return Path(references.url_ref.removeprefix("file:")).read_text().strip().rpartition("/")[2]
