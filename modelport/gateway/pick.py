"""Pick: which replica of a service gets the next request. Those that are down or have an open breaker get none.

Bounded loads: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal

from modelport.gateway.upstream import Upstream

OVER_AVERAGE = 1.25
"""A replica with more in flight than so many times the average, and one, is passed over, whatever is in its cache."""
PREFIX_BYTES = 1024
BEGINNINGS = (b'"messages":', b'"prompt":', b'"input":')
"""After the first of these that a body has comes what was said so far. Inside a JSON string the quotes are escaped, so
that no text of a user's is taken for one."""
SESSION = b"x-session-id"


def home_of(balance: Literal["least", "session", "prefix"], headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """What requests that belong to one replica have in common; b"" where any replica will do."""
    if balance == "session":
        return headers.get(SESSION, b"")
    if balance == "prefix":
        for beginning in BEGINNINGS:
            if (at := body.find(beginning)) >= 0:
                start = at + len(beginning)
                return body[start : start + PREFIX_BYTES]
    return b""


def least(upstreams: Sequence[Upstream], now: float, turn: int) -> Upstream | None:
    """The one with the fewest requests in flight, by turns where they are equal."""
    count = len(upstreams)
    best: Upstream | None = None
    for i in range(count):
        upstream = upstreams[(turn + i) % count]
        if (best is None or upstream.in_flight < best.in_flight) and upstream.usable(now):
            best = upstream
    return best


def at_home(upstreams: Sequence[Upstream], now: float, home: bytes) -> Upstream | None:
    """The same one for the same `home`, unless it has far more to do than the others: then the next in an order that
    is this home's own. When a replica comes or goes, only what was at home there moves."""
    usable = [upstream for upstream in upstreams if upstream.usable(now)]
    if not usable:
        return None
    most = OVER_AVERAGE * sum(u.in_flight for u in usable) / len(usable) + 1
    free = [upstream for upstream in usable if upstream.in_flight <= most]
    point = blake2b(home, digest_size=16).digest()
    return max(free, key=lambda upstream: blake2b(point + upstream.id.encode(), digest_size=8).digest())
