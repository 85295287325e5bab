"""Admit: whose key this is, and what it may do. Nothing is remembered between requests."""

import hmac
import re
import time
from collections.abc import Mapping
from ipaddress import ip_address

from modelport.errors import FORBIDDEN, UNAUTHORIZED, ModelportError
from modelport.store.keys import PREFIX_LENGTH, Key, digest

_LOCAL = re.compile(rb"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")
ANONYMOUS = Key(id="-", prefix="", digest=b"", scopes=frozenset({"infer"}), models=frozenset(), expires_at=None)
"""Who asks on a service's own port with `auth: none`."""
AIRGAPPED = Key(
    id="-", prefix="", digest=b"", scopes=frozenset({"infer", "operate"}), models=frozenset(), expires_at=None
)
"""Who asks TAO's routes without a key, where the settings have that."""
_USER_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
"""What TAO's login gives instead of a token there."""
UNKNOWN_KEY = "This API key is not known, or was revoked."
_NEEDED = {
    "infer": "This API key may not use models; a key with the scope 'infer' is needed here.",
    "operate": "This API key may not look after services; one with the scope 'operate' is needed here.",
    "admin": "This API key may use models only; an admin key is needed here.",
}


class Unknown(ModelportError):
    """A key, model or service that the last snapshot does not have; the store may know it by now."""


def presented(headers: Mapping[bytes, bytes]) -> str | None:
    """The key that a request came with, if any."""
    value = headers.get(b"authorization")
    if value is not None:
        scheme, _, text = value.partition(b" ")
        return text.strip().decode("latin-1") if scheme.lower() == b"bearer" and text.strip() else None
    value = headers.get(b"x-api-key")
    return value.decode("latin-1") if value else None


def admit(text: str | None, keys: Mapping[str, Key], pepper: bytes, address: str) -> Key:
    """The key of this text. Raises ModelportError: 401 for none, unknown, revoked or expired; 403 from an address
    that it is not for."""
    if text is None:
        raise ModelportError(
            "This request has no API key; send it as 'Authorization: Bearer mp-…' or 'x-api-key: mp-…'.", UNAUTHORIZED
        )
    key = keys.get(text[:PREFIX_LENGTH])
    # The HMAC is made for unknown prefixes too, so that the time taken does not tell which exist.
    made = digest(pepper, text)
    if key is None or not hmac.compare_digest(made, key.digest):
        raise Unknown(UNKNOWN_KEY, UNAUTHORIZED)
    if key.expires_at is not None and key.expires_at <= time.time():
        raise ModelportError("This API key has expired; ask for a new one.", UNAUTHORIZED)
    if key.addresses:
        _require_address(key, address)
    return key


FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")
"""What proxies add: who asks through one is somebody else than it."""


def is_airgapped(text: str | None, address: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether it comes from this machine itself, and with no more than a user's id."""
    if any(name in headers for name in FORWARDED):
        return False
    try:
        local = ip_address(address).is_loopback
    except ValueError:
        return False
    return local and (text is None or _USER_ID.fullmatch(text) is not None)


def _require_address(key: Key, address: str) -> None:
    try:
        found = ip_address(address)
    except ValueError:
        found = None
    mapped = getattr(found, "ipv4_mapped", None) or found
    if mapped is None or not any(mapped in network for network in key.addresses):
        raise ModelportError("This API key may not be used from this address.", FORBIDDEN)


def require_scope(key: Key, scope: str) -> None:
    """Raises ModelportError (403) for a key without this scope; `admin` has all."""
    if scope not in key.scopes and "admin" not in key.scopes:
        raise ModelportError(_NEEDED[scope], FORBIDDEN)


def require_route(key: Key, path: str) -> None:
    """Raises ModelportError (403) for a path that the key is not for."""
    if key.routes and not any(
        path.startswith(route[:-1]) if route.endswith("*") else path == route for route in key.routes
    ):
        raise ModelportError("This API key may not use this route.", FORBIDDEN)


def require_local(headers: Mapping[bytes, bytes]) -> None:
    """Raises ModelportError (403) where a keyless port is asked under a foreign name or by a foreign page: a web page
    could reach it through the browser of this machine's user (DNS rebinding, cross-origin posts)."""
    origin = headers.get(b"origin")
    names = [headers.get(b"host", b"localhost"), *([origin.partition(b"://")[2]] if origin is not None else [])]
    if any(_LOCAL.fullmatch(name) is None for name in names):
        raise ModelportError("This port needs no key, and so answers only to this machine's own names.", FORBIDDEN)
