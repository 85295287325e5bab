"""Edge: under which names the gateway answers, and which web pages may read its answers (CORS). Nobody's by default."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

Headers = tuple[tuple[bytes, bytes], ...]
_HOST = re.compile(rb"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+){0,63}")
METHODS = b"GET, POST, PUT, PATCH, DELETE"
EXPOSED = (
    b"x-request-id, retry-after, x-modelport-overhead-ms, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    b"x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
"""What a page may read of an answer beside its body; the names are OpenAI's."""
MAX_AGE_S = 600
VARY = (b"vary", b"origin")
"""Goes with every answer where any origin is listed, so that no cache gives one page's answer to another."""


@lru_cache(maxsize=1024)
def host_allowed(host: bytes, allowed: tuple[str, ...]) -> bool:
    """Whether a Host header is one to answer to.

    Without a list any well-formed host is. With one: the names on it (`example.com`, or `*.example.com` for all below
    it; any port), and IP addresses and localhost, which no other site's page can make its own and health checks use.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found["name"].decode().lower().removesuffix(".")
    if name.startswith("["):
        return _is(IPv6Address, name[1:-1])
    if not name or ".." in name:
        return False
    if not allowed or name == "localhost" or _is(IPv4Address, name):
        return True
    names = (entry.lower() for entry in allowed)
    return any(name == entry or (entry.startswith("*.") and name.endswith(entry[1:])) for entry in names)


def preflight(headers: Mapping[bytes, bytes], allowed: Iterable[str]) -> Headers | None:
    """The headers that answer a browser's OPTIONS (with 204), or None where it is no preflight of a listed origin:
    then it is a request like any other."""
    origin = _listed(headers, allowed)
    if origin is None or b"access-control-request-method" not in headers:
        return None
    wanted = headers.get(b"access-control-request-headers", b"")
    named = ((b"access-control-allow-headers", wanted),) if _HEADER_NAMES.fullmatch(wanted) else ()
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", METHODS),
        *named,
        (b"access-control-max-age", b"%d" % MAX_AGE_S),
        (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
    )


def cors(headers: Mapping[bytes, bytes], allowed: Iterable[str]) -> Headers:
    """What every answer gets: nothing where no origin is listed. Cookies are never allowed: a key is in a header."""
    if not allowed:
        return ()
    origin = _listed(headers, allowed)
    if origin is None:
        return (VARY,)
    return (b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED), VARY


def _listed(headers: Mapping[bytes, bytes], allowed: Iterable[str]) -> bytes | None:
    """The request's origin where it is on the list, compared byte by byte: browsers write it in one way only."""
    origin = headers.get(b"origin")
    return origin if origin is not None and any(entry.encode() == origin for entry in allowed) else None


def _is(kind: type[IPv4Address] | type[IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
