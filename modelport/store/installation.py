"""Installation: what all processes that share a PostgreSQL agree on, and what shows that they do."""

import hmac
import secrets

import sqlalchemy as sa

from modelport.errors import ModelportError
from modelport.store.dialect import insert
from modelport.store.tables import installation

LEAST_PEPPER = 32
"""Characters; fewer might be guessed by one who has the digests."""


def owner(tx: sa.Connection) -> str:
    """This installation's id, made by who is first."""
    return _agreed(tx, "owner", secrets.token_hex(6))


def check_pepper(tx: sa.Connection, pepper: bytes) -> None:
    """Refuse a pepper that the keys here were not hashed with: every key would be unknown. ModelportError. Only an HMAC
    of a fixed text is kept, which says no more of the pepper than the digests of keys do."""
    mine = hmac.digest(pepper, b"modelport: the pepper of this store", "sha256").hex()
    if not hmac.compare_digest(_agreed(tx, "pepper_check", mine), mine):
        raise ModelportError(
            "The secret that pepper_ref refers to is not the one that this store's keys were made with. Give all "
            "gateways and control the same."
        )


def _agreed(tx: sa.Connection, key: str, value: str) -> str:
    tx.execute(insert(tx, installation).values(key=key, value=value).on_conflict_do_nothing())
    return tx.execute(sa.select(installation.c.value).where(installation.c.key == key)).scalar_one()
