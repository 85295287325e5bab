"""The store that every table's tests run on: SQLite, and PostgreSQL where there is one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelport.store import Store, open_store
from tests.postgres import References, Server, postgres

__all__ = ["postgres"]


@pytest.fixture
def references(postgres: Server, tmp_path: Path) -> References:
    """Where the URL of a new, empty database is."""
    return References(tmp_path / "secrets", postgres.url(postgres.database()))


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new store on each database in turn."""
    if request.param == "sqlite":
        store = open_store(tmp_path / "state")
    else:
        given: References = request.getfixturevalue("references")
        store = open_store(tmp_path / "state", given.url_ref, given.pepper_ref)
    yield store
    store.close()
