"""Breaker: whether a replica that failed is asked again, and when."""

from collections import deque
from enum import StrEnum

from modelport.domain.states import IllegalTransition


class BreakerState(StrEnum):
    CLOSED = "closed"  # requests pass
    OPEN = "open"  # none passes until the probe is due
    HALF_OPEN = "half-open"  # the probe is under way, and nothing else passes


_B = BreakerState
TRANSITIONS: dict[BreakerState, frozenset[BreakerState]] = {
    _B.CLOSED: frozenset({_B.OPEN}),
    _B.OPEN: frozenset({_B.HALF_OPEN}),
    _B.HALF_OPEN: frozenset({_B.CLOSED, _B.OPEN}),
}

IN_A_ROW = 5
"""Failures one after the other that open it."""
LAST, FAILED_OF_LAST, WITHIN_S = 20, 10, 30.0
"""So many of the last answers failed, within so long: that opens it too, whatever succeeded between them."""
FIRST_OPEN_S, LONGEST_OPEN_S = 1.0, 60.0
"""How long it is open: doubled each time that the probe fails."""
BUSY = frozenset((429, 503))
"""Of an engine: it lives and has no room, which says nothing about whether it works."""
_MASK = (1 << LAST) - 1


class Breaker:
    """One replica's. Times are monotonic seconds. What a client did wrong and what it cancelled are no failures."""

    __slots__ = ("_failed_at", "_history", "_in_a_row", "_open_s", "_probe", "probe_at", "state")

    def __init__(self) -> None:
        self.state = BreakerState.CLOSED
        self.probe_at = 0.0
        """When an open one may be tried again."""
        self._open_s = FIRST_OPEN_S
        self._probe = 0
        self._in_a_row = 0
        self._history = 0
        """The last answers, a bit each, 1 where it failed."""
        self._failed_at: deque[float] = deque(maxlen=FAILED_OF_LAST)

    def ok(self, now: float) -> bool:
        """Whether a request may go there now: the first one after the pause is the probe."""
        return self.state is _B.CLOSED or (self.state is _B.OPEN and now >= self.probe_at)

    def enter(self, now: float) -> int:
        """A request goes there. Its number if it is the probe, else 0."""
        if self.state is not _B.OPEN or now < self.probe_at:
            return 0
        self._go(_B.HALF_OPEN)
        self._probe += 1
        return self._probe

    def leave(self, probe: int) -> None:
        """That request is over. A probe that ended without a word on the replica makes room for another."""
        if probe == self._probe and self.state is _B.HALF_OPEN:
            self._go(_B.OPEN)

    def heard(self, status: int, now: float) -> None:
        """An answer began with this status. Raises nothing and decides what it can: 5xx is a failure, an error of the
        client's is a success, and a good beginning is enough for a probe, which may stream for long."""
        if status in BUSY:
            return
        if status >= 500:
            self.failed(now)
        elif status >= 300 or self.state is _B.HALF_OPEN:
            self.succeeded()

    def succeeded(self) -> None:
        """An answer came whole."""
        if self.state is _B.CLOSED:
            self._in_a_row = 0
            self._history = (self._history << 1) & _MASK
        elif self.state is _B.HALF_OPEN:
            self._go(_B.CLOSED)
            self._open_s = FIRST_OPEN_S
            self._in_a_row = self._history = 0
            self._failed_at.clear()

    def failed(self, now: float) -> None:
        """No connection, an answer that broke off, a 5xx, or silence. While it is open, those are of requests from
        before."""
        if self.state is _B.HALF_OPEN:
            self._open_s = min(LONGEST_OPEN_S, 2 * self._open_s)
            self._open(now)
        elif self.state is _B.CLOSED:
            self._in_a_row += 1
            self._history = (self._history << 1 | 1) & _MASK
            self._failed_at.append(now)
            often = self._history.bit_count() >= FAILED_OF_LAST and now - self._failed_at[0] <= WITHIN_S
            if often or self._in_a_row >= IN_A_ROW:
                self._open(now)

    def _open(self, now: float) -> None:
        self._go(_B.OPEN)
        self.probe_at = now + self._open_s

    def _go(self, to: BreakerState) -> None:
        if to not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"breaker: {self.state} -> {to}")
        self.state = to
