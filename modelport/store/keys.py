"""Keys: `mp-` + 8 characters that are public (the prefix) + a secret, of which only an HMAC is kept."""

import hmac
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from modelport.domain.service import KeyView
from modelport.errors import NOT_FOUND, ModelportError
from modelport.store.revision import bump
from modelport.store.tables import keys

_ALPHABET = string.ascii_letters + string.digits
PREFIX_LENGTH = len("mp-") + 8


@dataclass(frozen=True, slots=True)
class Key:
    """A key as a gateway checks it."""

    id: str
    prefix: str
    digest: bytes
    scope: Literal["infer", "admin"]
    models: frozenset[str]
    expires_at: float | None


def digest(pepper: bytes, key: str) -> bytes:
    """HMAC-SHA-256 of a key under the installation's pepper. A key has 256 bits of its own, so no slow hash is owed."""
    return hmac.digest(pepper, key.encode(), "sha256")


def create(
    tx: sa.Connection,
    pepper: bytes,
    *,
    name: str,
    scope: Literal["infer", "admin"],
    models: Sequence[str],
    expires_at: float | None,
    now: float,
) -> KeyView:
    """A new key. The answer's `secret` is the only place where it ever stands whole."""
    prefix = "mp-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(43))
    row: dict[str, Any] = {
        "id": "key-" + secrets.token_hex(6),
        "prefix": prefix,
        "digest": digest(pepper, secret).hex(),
        "name": name,
        "scope": scope,
        "models": sorted(set(models)),
        "created_at": now,
        "expires_at": expires_at,
        "revoked_at": None,
    }
    tx.execute(keys.insert().values(**row))
    bump(tx)
    return KeyView(**row, secret=secret)


def views(tx: sa.Connection) -> list[KeyView]:
    """All keys, newest first, as they may be shown."""
    rows = tx.execute(sa.select(keys).order_by(keys.c.created_at.desc())).mappings()
    return [KeyView.model_validate(dict(row)) for row in rows]


def revoke(tx: sa.Connection, key: str, now: float) -> KeyView:
    """End a key, by id or by its prefix. Raises ModelportError (404) when there is none; revoking twice is fine."""
    row = tx.execute(sa.select(keys).where(sa.or_(keys.c.id == key, keys.c.prefix == key))).mappings().first()
    if row is None:
        raise ModelportError(
            "There is no key with that id or prefix; `modelport keys list` shows them (give the id, not the key).",
            NOT_FOUND,
        )
    if row["revoked_at"] is None:
        tx.execute(keys.update().where(keys.c.id == row["id"]).values(revoked_at=now))
        bump(tx)
    return KeyView.model_validate({**row, "revoked_at": row["revoked_at"] or now})


def valid(tx: sa.Connection) -> dict[str, Key]:
    """Every key that is not revoked, by prefix, for the gateway's memory. Expired ones too, so that they can be told
    apart from unknown ones."""
    return {
        row.prefix: Key(row.id, row.prefix, bytes.fromhex(row.digest), row.scope, frozenset(row.models), row.expires_at)
        for row in tx.execute(sa.select(keys).where(keys.c.revoked_at.is_(None)))
    }


def any_admin(tx: sa.Connection) -> bool:
    """Whether an admin key was ever made: the first start makes one."""
    return tx.execute(sa.select(keys.c.id).where(keys.c.scope == "admin").limit(1)).first() is not None
