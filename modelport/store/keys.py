"""Keys: `mp-` + 8 characters that are public (the prefix) + a secret, of which only an HMAC is kept."""

import hashlib
import secrets
import string
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import sqlalchemy as sa

from modelport.domain.account import KeyView
from modelport.domain.key import KeySpec
from modelport.domain.limits import NO_LIMITS, Limits
from modelport.errors import NOT_FOUND, ModelportError
from modelport.store.revision import bump
from modelport.store.tables import keys

_ALPHABET = string.ascii_letters + string.digits
PREFIX_LENGTH = len("mp-") + 8


@dataclass(frozen=True, slots=True)
class Key:
    """A key as a gateway checks it. While a rotated one overlaps, two of these share an id, with a digest each."""

    id: str
    prefix: str
    digest: bytes
    scopes: frozenset[str]
    models: frozenset[str]
    expires_at: float | None
    routes: tuple[str, ...] = ()
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    team: str = ""
    user: str = ""
    limits: Limits = field(default=NO_LIMITS)
    log_bodies: bool = False


def digest(pepper: bytes, key: str) -> bytes:
    """HMAC-SHA-256 of a key under the installation's pepper. A key has 256 bits of its own, so no slow hash is owed."""
    keyed = _keyed(pepper)
    inner, outer = keyed[0].copy(), keyed[1].copy()
    inner.update(key.encode())
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=8)
def _keyed(pepper: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """SHA-256 with the pepper read already, on both sides of an HMAC (RFC 2104): a third of the time of hmac.digest."""
    block = (hashlib.sha256(pepper).digest() if len(pepper) > 64 else pepper).ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def create(tx: sa.Connection, pepper: bytes, spec: KeySpec, now: float) -> KeyView:
    """A new key. The answer's `secret` is the only place where it ever stands whole."""
    prefix, secret = _made()
    row: dict[str, Any] = {
        "id": "key-" + secrets.token_hex(6),
        "prefix": prefix,
        "digest": digest(pepper, secret).hex(),
        "created_at": now,
        "expires_at": None if spec.expires_in_s is None else now + spec.expires_in_s,
        "revoked_at": None,
        **spec.model_dump(mode="json", exclude={"expires_in_s"}),
        "models": sorted(set(spec.models)),
    }
    tx.execute(keys.insert().values(**row))
    bump(tx)
    return KeyView(**row, secret=secret)


def rotate(tx: sa.Connection, pepper: bytes, key: str, overlap_s: float, now: float) -> KeyView:
    """The same key with a new secret; the old one works for `overlap_s` more. One that still overlapped from before
    ends at once. Raises ModelportError: 404 for none, 400 for one that is over."""
    row = find(tx, key)
    if row["revoked_at"] is not None or (row["expires_at"] is not None and row["expires_at"] <= now):
        raise ModelportError(f"The key {row['id']} is over and cannot be rotated; make a new one.")
    prefix, secret = _made()
    values: dict[str, Any] = {"prefix": prefix, "digest": digest(pepper, secret).hex()}
    old = {"old_prefix": row["prefix"], "old_digest": row["digest"], "old_until": now + overlap_s}
    values |= old if overlap_s > 0 else dict.fromkeys(old)
    tx.execute(keys.update().where(keys.c.id == row["id"]).values(**values))
    bump(tx)
    return KeyView.model_validate({**row, **values, "secret": secret})


def _made() -> tuple[str, str]:
    """A prefix and the whole key that begins with it."""
    prefix = "mp-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    return prefix, prefix + "".join(secrets.choice(_ALPHABET) for _ in range(43))


def views(tx: sa.Connection, revoked_after: float = 0.0) -> list[KeyView]:
    """Keys as they may be shown, newest first, without those that were revoked before `revoked_after`."""
    shown = sa.or_(keys.c.revoked_at.is_(None), keys.c.revoked_at >= revoked_after)
    rows = tx.execute(sa.select(keys).where(shown).order_by(keys.c.created_at.desc())).mappings()
    return [KeyView.model_validate(dict(row)) for row in rows]


def revoke(tx: sa.Connection, key: str, now: float) -> KeyView:
    """End a key, by id or by its prefix. Raises ModelportError (404) when there is none; revoking twice is fine."""
    row = find(tx, key)
    if row["revoked_at"] is None:
        tx.execute(keys.update().where(keys.c.id == row["id"]).values(revoked_at=now))
        bump(tx)
    return KeyView.model_validate({**row, "revoked_at": row["revoked_at"] or now})


def find(tx: sa.Connection, key: str) -> dict[str, Any]:
    """A key's row, by id or by its prefix, also the one before a rotation. Raises ModelportError (404)."""
    named = sa.or_(keys.c.id == key, keys.c.prefix == key, keys.c.old_prefix == key)
    row = tx.execute(sa.select(keys).where(named)).mappings().first()
    if row is None:
        raise ModelportError(
            "There is no key with that id or prefix; `modelport keys list` shows them (give the id, not the key).",
            NOT_FOUND,
        )
    return dict(row)


def valid(tx: sa.Connection) -> dict[str, Key]:
    """Every key that is not revoked, by prefix, for the gateway's memory; a rotated one by both of its prefixes.
    Expired ones too, so that they can be told apart from unknown ones."""
    found: dict[str, Key] = {}
    for row in tx.execute(sa.select(keys).where(keys.c.revoked_at.is_(None))):
        limits = Limits.model_validate(row.limits)
        key = Key(
            id=row.id,
            prefix=row.prefix,
            digest=bytes.fromhex(row.digest),
            scopes=frozenset(row.scopes),
            models=frozenset(row.models),
            expires_at=row.expires_at,
            routes=tuple(row.routes),
            addresses=tuple(ip_network(address) for address in row.addresses),
            team=row.team,
            user=row.user,
            limits=limits if limits != NO_LIMITS else NO_LIMITS,
            log_bodies=row.log_bodies,
        )
        found[key.prefix] = key
        if row.old_prefix is not None:
            until = row.old_until if row.expires_at is None else min(row.old_until, row.expires_at)
            old = bytes.fromhex(row.old_digest)
            found[row.old_prefix] = replace(key, prefix=row.old_prefix, digest=old, expires_at=until)
    return found


def any_admin(tx: sa.Connection) -> bool:
    """Whether an admin key was ever made: the first start makes one."""
    return any("admin" in scopes for (scopes,) in tx.execute(sa.select(keys.c.scopes)))
