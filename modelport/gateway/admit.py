"""Admit: whose key this is, and what it may do. Nothing is remembered between requests."""

import hmac
import re
import time
from collections.abc import Mapping

from modelport.errors import FORBIDDEN, UNAUTHORIZED, ModelportError
from modelport.store.keys import PREFIX_LENGTH, Key, digest

_LOCAL = re.compile(rb"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")
ANONYMOUS = Key(id="-", prefix="", digest=b"", scope="infer", models=frozenset(), expires_at=None)
"""Who asks on a service's own port with `auth: none`."""


class Unknown(ModelportError):
    """A key, model or service that the last snapshot does not have; the store may know it by now."""


def admit(headers: Mapping[bytes, bytes], keys: Mapping[str, Key], pepper: bytes) -> Key:
    """The key a request came with. Raises ModelportError (401): none, unknown, revoked or expired."""
    text = _presented(headers)
    if text is None:
        raise ModelportError(
            "This request has no API key; send it as 'Authorization: Bearer mp-…' or 'x-api-key: mp-…'.", UNAUTHORIZED
        )
    key = keys.get(text[:PREFIX_LENGTH])
    # The HMAC is made for unknown prefixes too, so that the time taken does not tell which exist.
    made = digest(pepper, text)
    if key is None or not hmac.compare_digest(made, key.digest):
        raise Unknown("This API key is not known, or was revoked.", UNAUTHORIZED)
    if key.expires_at is not None and key.expires_at <= time.time():
        raise ModelportError("This API key has expired; ask for a new one.", UNAUTHORIZED)
    return key


def require_admin(key: Key) -> None:
    """Raises ModelportError (403) for a key that may only infer."""
    if key.scope != "admin":
        raise ModelportError("This API key may use models only; an admin key is needed here.", FORBIDDEN)


def require_local(headers: Mapping[bytes, bytes]) -> None:
    """Raises ModelportError (403) where a keyless port is asked under a foreign name or by a foreign page: a web page
    could reach it through the browser of this machine's user (DNS rebinding, cross-origin posts)."""
    origin = headers.get(b"origin")
    names = [headers.get(b"host", b"localhost"), *([origin.partition(b"://")[2]] if origin is not None else [])]
    if any(_LOCAL.fullmatch(name) is None for name in names):
        raise ModelportError("This port needs no key, and so answers only to this machine's own names.", FORBIDDEN)


def require_model(key: Key, name: str) -> None:
    """Raises ModelportError (403) for a service the key is not for."""
    if not may_use(key, name):
        raise ModelportError(f"This API key may not use the model '{name}'.", FORBIDDEN, param="model")


def may_use(key: Key, name: str) -> bool:
    return not key.models or name in key.models


def _presented(headers: Mapping[bytes, bytes]) -> str | None:
    value = headers.get(b"authorization")
    if value is not None:
        scheme, _, text = value.partition(b" ")
        return text.strip().decode("latin-1") if scheme.lower() == b"bearer" and text.strip() else None
    value = headers.get(b"x-api-key")
    return value.decode("latin-1") if value else None
