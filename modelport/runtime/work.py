"""Queue: the works that wait for the model, and the one thread that it runs on.

Works are taken in the order they came. Those that wait are joined in one run, as many as the handler takes; a run waits
a moment for requests that are on their way already, and for nothing else. What nobody waits for is not begun.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence

from modelport.errors import BUSY, INTERNAL, NOT_READY, ModelportError
from modelport.runtime.handler import Handler, Result, Work

log = logging.getLogger("modelport.runtime")

Answer = Result | ModelportError
BROKE = "The model failed on this request; the server's log says why."


class Ticket:
    """One request's place: from when it came until its answer. Made and awaited on the event loop."""

    __slots__ = ("answer", "deadline_s", "left", "loop", "work")

    def __init__(self, deadline_s: float) -> None:
        """`deadline_s`: on the monotonic clock."""
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Answer] = self.loop.create_future()
        self.deadline_s = deadline_s
        self.left = False
        self.work: Work | None = None

    def stopped(self) -> bool:
        """Whether nobody waits any more."""
        return self.left or time.monotonic() > self.deadline_s

    def tell(self, answer: Answer) -> None:
        """`settle` from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and everybody with it
            self.loop.call_soon_threadsafe(self.settle, answer)

    def settle(self, answer: Answer) -> None:
        """On the event loop; what comes second is dropped."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Queue:
    """At most `limit` requests wait or are prepared at any time."""

    def __init__(self, limit: int, batch_wait_s: float) -> None:
        self.limit, self.batch_wait_s = limit, batch_wait_s
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._arriving = 0
        self._closed = False
        self._run_s = 0.0
        """What a run took lately."""
        self._most = 1

    def arrive(self) -> None:
        """A request begins to be prepared; `submit` or `turn_away` follows. Raises ModelportError (429) when full."""
        with self._changed:
            if len(self._waiting) + self._arriving >= self.limit:
                runs = len(self._waiting) / self._most + 1
                raise ModelportError(
                    f"{self.limit} requests wait already; try again soon.",
                    BUSY,
                    retry_after_s=math.ceil(max(1.0, runs * self._run_s)),
                )
            self._arriving += 1

    def submit(self, work: Work, ticket: Ticket) -> None:
        """Put what arrived behind the others. Its answer comes to the ticket. From any thread."""
        ticket.work = work
        with self._changed:
            self._arriving -= 1
            if not ticket.left and not self._closed:
                self._waiting.append(ticket)
            self._changed.notify()
        if self._closed:
            ticket.tell(stopping())

    def turn_away(self, ticket: Ticket, problem: ModelportError) -> None:
        """What arrived is not put into the queue: this is its answer. From any thread."""
        with self._changed:
            self._arriving -= 1
            self._changed.notify()
        ticket.tell(problem)

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for it: its place is free at once, and where it runs, the handler is told."""
        ticket.left = True
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def serve(self, handler: Handler) -> None:
        """Run works until `close`. On the model's thread."""
        self._most = max(1, handler.most)
        while batch := self._take():
            self._run(handler, batch)
            with self._changed:
                self._running = []

    def close(self) -> None:
        """No more runs. Whoever still waits is told so (503), whoever runs is stopped. On the event loop."""
        with self._changed:
            self._closed = True
            rest = [*self._waiting, *self._running]
            self._waiting.clear()
            self._changed.notify_all()
        for ticket in rest:
            ticket.left = True
            ticket.settle(stopping())

    def _take(self) -> list[Ticket]:
        """The next works that run together; none when it is over."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._closed:
                        return []
                    self._changed.wait()
                self._join()
                batch: list[Ticket] = []
                size = 0
                while self._waiting and (not batch or size + _size(self._waiting[0]) <= self._most):
                    ticket = self._waiting.popleft()
                    if not ticket.stopped():
                        batch.append(ticket)
                        size += _size(ticket)
                if batch:
                    self._running = batch
                    return batch

    def _join(self) -> None:
        """Wait for requests on their way, where more would fit into the run; never longer than a run takes."""
        end = time.monotonic() + min(self.batch_wait_s, self._run_s)
        while (
            self._arriving
            and self._waiting
            and sum(map(_size, self._waiting)) < self._most
            and (left := end - time.monotonic()) > 0
        ):
            self._changed.wait(left)

    def _run(self, handler: Handler, batch: Sequence[Ticket]) -> None:
        began = time.monotonic()
        works = [ticket.work for ticket in batch if ticket.work is not None]
        try:
            answers: Sequence[Answer] = handler.run(works)
            if len(answers) != len(works):
                raise RuntimeError(f"{len(answers)} answers to {len(works)} works")
        except Exception:
            log.exception("the model failed on %d request(s) in one run", len(batch))
            if len(batch) > 1 and not any(work.call.emit for work in works):
                for ticket in batch:  # so that the one that breaks it breaks nobody else's
                    self._run(handler, [ticket])
                return
            answers = [ModelportError(BROKE, INTERNAL)] * len(batch)
        took = time.monotonic() - began
        self._run_s = took if not self._run_s else 0.8 * self._run_s + 0.2 * took
        pairs = list(zip(batch, answers, strict=True))
        with contextlib.suppress(RuntimeError):  # the loop has ended, and everybody with it
            batch[0].loop.call_soon_threadsafe(_deliver, pairs)


def stopping() -> ModelportError:
    return ModelportError("This server is stopping; try again soon.", NOT_READY, retry_after_s=5)


def _deliver(pairs: Sequence[tuple[Ticket, Answer]]) -> None:
    for ticket, answer in pairs:
        ticket.settle(answer)


def _size(ticket: Ticket) -> int:
    return ticket.work.size if ticket.work else 1
