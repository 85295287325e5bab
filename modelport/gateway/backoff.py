"""Backoff: whoever keeps presenting keys that do not exist is answered less and less often.

A valid key always passes, wherever it comes from: its secret has 256 bits, so guessing finds none, while locking out an
address or a key's public prefix would let strangers deny service to its owner. What is saved is the work that a failure
causes: a look into the store for every unknown key. (So a key that was made a moment ago may be held back where others
fail, until this gateway polls its store, which is four times a second.)
"""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from modelport.errors import BACKING_OFF, ModelportError

FAILURES = 10
WITHIN_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
FORGET_S = 60.0
"""After a wait is over, this long without a failure."""
MAX_ORIGINS = 8192
"""Remembered at once, addresses and prefixes together; the longest unseen is forgotten for a new one."""


class _Origin:
    """Until it fails too often: when it failed. From then on: how long it has to wait, and until when."""

    __slots__ = ("failed_at", "until", "wait_s")

    def __init__(self) -> None:
        self.failed_at: tuple[float, ...] = ()
        self.wait_s = 0.0
        self.until = 0.0

    def fail(self, now: float) -> None:
        if self.wait_s and now < self.until + FORGET_S:
            self.wait_s = min(self.wait_s * 2, LONGEST_WAIT_S)
        else:
            self.wait_s = 0.0
            self.failed_at = (*(at for at in self.failed_at if at > now - WITHIN_S), now)
            if len(self.failed_at) < FAILURES:
                return
            self.failed_at = ()
            self.wait_s = FIRST_WAIT_S
        self.until = now + self.wait_s


class Backoff:
    """Failures by address (IPv6 by its /64, of which one host may use every address) and by key prefix. Times are
    seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._origins: OrderedDict[str, _Origin] = OrderedDict()

    def failed(self, address: str, prefix: str, now: float) -> None:
        """Somebody presented a key that is not known."""
        for name in _names(address, prefix):
            origin = self._origins.get(name)
            if origin is None:
                origin = self._origins[name] = _Origin()
                if len(self._origins) > MAX_ORIGINS:
                    self._origins.popitem(last=False)
            self._origins.move_to_end(name)
            origin.fail(now)

    def refuse_if_backing_off(self, address: str, prefix: str, now: float) -> None:
        """Raises ModelportError (429) for one more failure from there; it is not looked up, nor counted."""
        wait_s = 0.0
        for name in _names(address, prefix):
            if (origin := self._origins.get(name)) is not None:
                wait_s = max(wait_s, origin.until - now)
        if wait_s > 0:
            raise ModelportError(
                "This API key is not known, and too many before it were not either; a valid key is let in at any time.",
                BACKING_OFF,
                retry_after_s=wait_s,
            )


def _names(address: str, prefix: str) -> tuple[str, str]:
    return f"address {_network(address)}", f"prefix {prefix}"


def _network(address: str) -> str:
    """An address as it is counted. What is none (a unix socket's peer) counts as it is."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{int(parsed) >> 64:x}::/64"
