"""Window: at most so much in any 60 seconds, whichever seconds one looks at, not by the clock's minutes."""

from collections import deque

SLOTS = 1200
"""Amounts that come within span / SLOTS (50 ms of a minute) are one entry, which bounds a window's memory. The entry
counts until the last of them is over, so the limit holds exactly; the first may count up to 50 ms too long."""
_GONE = float("-inf")

Entry = list[float]
"""`[at, amount]`; what `add` gives and `correct` takes."""


class Window:
    """A sliding sum over a monotonic clock in seconds, which every call is handed. `limit` may be set at any time."""

    __slots__ = ("_entries", "_open_until", "_slot_s", "limit", "span_s", "used")

    def __init__(self, limit: int, span_s: float = 60.0) -> None:
        self.limit = limit
        self.span_s = span_s
        self.used: float = 0
        self._entries: deque[Entry] = deque()
        self._open_until = _GONE
        self._slot_s = span_s / SLOTS

    def remaining(self, now: float) -> float:
        """How much fits now; below zero where corrections went over the limit."""
        entries = self._entries
        edge = now - self.span_s
        while entries and entries[0][0] <= edge:
            entry = entries.popleft()
            self.used -= entry[1]
            entry[0] = _GONE
        return self.limit - self.used

    def add(self, now: float, amount: int) -> Entry:
        """Count an amount from now on, whether it fits or not. What is given is for `correct`."""
        self.used += amount
        if now < self._open_until and self._entries:
            entry = self._entries[-1]
            entry[0] = max(now, entry[0])
            entry[1] += amount
        else:
            entry = [now, amount]
            self._entries.append(entry)
            self._open_until = now + self._slot_s
        return entry

    def correct(self, entry: Entry, change: int) -> None:
        """An amount turned out to be larger or smaller. It belongs to the time when it was added, so that nothing is
        left to correct when that is out of the window."""
        if entry[0] != _GONE:
            entry[1] += change
            self.used += change

    def reset_s(self, now: float, amount: int) -> float:
        """Seconds until an amount fits; until nothing is counted any more for one that never will."""
        excess = amount - self.remaining(now)
        if excess <= 0:
            return 0.0
        for at, counted in self._entries:
            excess -= counted
            if excess <= 0:
                return at + self.span_s - now
        return self.whole_s(now)

    def whole_s(self, now: float) -> float:
        """Seconds until nothing is counted any more."""
        self.remaining(now)
        return self._entries[-1][0] + self.span_s - now if self._entries else 0.0
