"""The same on SQLite and on PostgreSQL, where there is one."""

from tests.store.conftest import postgres, references, store

__all__ = ["postgres", "references", "store"]
