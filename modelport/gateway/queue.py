"""Queue: who goes next into a service that is full. One FairQueue for each service.

Higher priorities go first, whole classes at a time. Within a class the keys share by weight, counted in the tokens that
their requests may need: deficit round robin, with the smallest quantum that lets somebody go. That is kept as a virtual
time per class, so that no key has to be visited in vain: a key's first request is due at its start plus cost / weight,
the earliest goes, and is the time from then on (self-clocked fair queueing, Golestani 1994).
"""

import asyncio
from collections import OrderedDict
from operator import attrgetter

from modelport.domain.units import show_seconds
from modelport.errors import BUSY, DEADLINE, QUEUE_TIMEOUT, ModelportError

DEFAULT_PLACES = 1000
DEFAULT_TIMEOUT_S = 60.0
UNMEASURED_RETRY_S = 5.0
"""Until it was seen how fast the queue drains."""
_SMOOTHING = 0.1
_due = attrgetter("due")

Waiter = asyncio.Future[None]


class _Flow:
    """One key's requests that wait, in their order, each with its cost."""

    __slots__ = ("due", "id", "priority", "start", "waiters", "weight")

    def __init__(self, flow: str, priority: int, start: float) -> None:
        self.id = flow
        self.priority = priority
        self.start = start
        self.weight = 1.0
        self.waiters: OrderedDict[Waiter, float] = OrderedDict()
        self.due = (-priority, start)

    def reckon(self) -> None:
        """When its first request is due; after anything that changes which that is."""
        cost = next(iter(self.waiters.values()))
        self.due = (-self.priority, self.start + cost / self.weight)


class FairQueue:
    """Lets `capacity` requests in at once (None: any number); of the others, at most `places` wait.

    Whoever got in by `try_enter` or `enter` calls `leave` once. Both numbers may change at any time. A service that is
    gone gets the capacity None: all come in, and are told so by whom they meet there.
    """

    def __init__(self, capacity: int | None, places: int = DEFAULT_PLACES) -> None:
        self.places = places
        self.inside = 0
        self.waiting = 0
        self._capacity = capacity
        self._flows: dict[tuple[int, str], _Flow] = {}
        self._time: dict[int, float] = {}
        """The virtual time of each priority."""
        self._left_at: float | None = None
        self._gap_s: float | None = None
        """Mean time between two requests that leave while others wait."""

    @property
    def capacity(self) -> int | None:
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._grant()

    def try_enter(self) -> bool:
        """Come in at once, where there is room and nobody waits."""
        if self.waiting or (self._capacity is not None and self.inside >= self._capacity):
            return False
        self.inside += 1
        return True

    async def enter(
        self,
        flow: str,
        *,
        cost: int,
        weight: float = 1.0,
        priority: int = 0,
        flow_places: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        deadline_s: float | None = None,
    ) -> None:
        """Come in when it is this request's turn. `flow` is the key's id, `cost` the tokens it may need, `flow_places`
        how many of this key may wait, `deadline_s` what is left of the request's own time.

        Raises ModelportError: 429 when too many wait or it took longer than `timeout_s`, 504 at the deadline.
        """
        if self.try_enter():
            return
        queue = self._flows.get((priority, flow))
        if flow_places is not None and (0 if queue is None else len(queue.waiters)) >= flow_places:
            raise self._full(f"This API key has {flow_places} requests waiting for this model, as many as it may")
        if self.waiting >= self.places and not self._make_room(priority, queue, weight):
            raise self._full(f"{self.waiting} requests wait for this model already")
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._add(flow, priority, weight, waiter, cost)
        wait_s = timeout_s if deadline_s is None else min(timeout_s, deadline_s)
        timer = loop.call_later(wait_s, self._late, priority, flow, waiter, wait_s, wait_s == deadline_s)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.leave()  # let in and cancelled at once: the room goes to the next
            else:
                self._remove(priority, flow, waiter)
            raise
        finally:
            timer.cancel()

    def leave(self) -> None:
        """One is out; the next comes in."""
        self.inside -= 1
        if self.waiting:
            now = asyncio.get_running_loop().time()
            if self._left_at is not None:
                gap_s = now - self._left_at
                self._gap_s = gap_s if self._gap_s is None else self._gap_s + _SMOOTHING * (gap_s - self._gap_s)
            self._left_at = now
            self._grant()
        else:
            self._left_at = None

    def lengths(self) -> dict[str, int]:
        """How many wait, by key."""
        found: dict[str, int] = {}
        for flow in self._flows.values():  # a key whose priority was changed may stand in two classes
            found[flow.id] = found.get(flow.id, 0) + len(flow.waiters)
        return found

    def retry_after_s(self) -> float:
        """How long those who wait now will take to come in, at the pace that was measured."""
        return UNMEASURED_RETRY_S if self._gap_s is None else max(1.0, self.waiting * self._gap_s)

    def _full(self, why: str) -> ModelportError:
        wait_s = self.retry_after_s()
        return ModelportError(f"{why}; try again in {show_seconds(wait_s)}.", BUSY, retry_after_s=wait_s)

    def _add(self, flow: str, priority: int, weight: float, waiter: Waiter, cost: float) -> None:
        queue = self._flows.get((priority, flow))
        if queue is None:
            start = self._time.setdefault(priority, 0.0)
            queue = self._flows[priority, flow] = _Flow(flow, priority, start)
        queue.weight = weight
        queue.waiters[waiter] = cost
        queue.reckon()
        self.waiting += 1

    def _grant(self) -> None:
        """Let in who is due, while there is room."""
        while self.waiting and (self._capacity is None or self.inside < self._capacity):
            flow = min(self._flows.values(), key=_due)
            waiter = next(iter(flow.waiters))
            if not waiter.done():
                waiter.set_result(None)
                self.inside += 1
                self._time[flow.priority] = flow.start = flow.due[1]
            self._remove(flow.priority, flow.id, waiter)

    def _remove(self, priority: int, flow: str, waiter: Waiter) -> None:
        queue = self._flows.get((priority, flow))
        if queue is None or queue.waiters.pop(waiter, None) is None:
            return
        self.waiting -= 1
        if queue.waiters:
            queue.reckon()
        else:  # its start is never ahead of the class's time, so nothing is owed or gained by forgetting it
            del self._flows[priority, flow]

    def _late(self, priority: int, flow: str, waiter: Waiter, wait_s: float, deadline: bool) -> None:
        waited = show_seconds(wait_s)
        if deadline:
            error = ModelportError(f"The request's time was over after {waited} in the model's queue.", DEADLINE)
        else:
            text = f"The model had no room for this request within {waited}; try again."
            error = ModelportError(text, QUEUE_TIMEOUT, retry_after_s=self.retry_after_s())
        self._refuse(priority, flow, waiter, error)

    def _refuse(self, priority: int, flow: str, waiter: Waiter, error: ModelportError) -> None:
        self._remove(priority, flow, waiter)
        if not waiter.done():
            waiter.set_exception(error)

    def _make_room(self, priority: int, mine: _Flow | None, weight: float) -> bool:
        """Turn away the last one of whom most wait for their weight, if that is more than the newcomer would have, so
        that one key cannot keep the others out by filling all places. A lower class gives way to a higher."""
        longest = max(self._flows.values(), key=lambda f: (-f.priority, len(f.waiters) / f.weight), default=None)
        if longest is None or longest.priority > priority:
            return False
        would_have = (1 if mine is None else len(mine.waiters) + 1) / weight
        if longest.priority == priority and len(longest.waiters) / longest.weight <= would_have:
            return False
        last = next(reversed(longest.waiters))
        self._refuse(longest.priority, longest.id, last, self._full("More requests of other keys came to a full queue"))
        return True
