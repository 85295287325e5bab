"""Desk: one request's way from its body to its answer, whichever route or folder it came by."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from modelport.errors import BUSY, INTERNAL, NOT_READY, ModelportError
from modelport.runtime import inputs
from modelport.runtime.handler import Call, Handler, Result
from modelport.runtime.inputs import Item, Sources
from modelport.runtime.state import State
from modelport.runtime.work import BROKE, Queue, Ticket, stopping

log = logging.getLogger("modelport.runtime")

MAX_FETCHING = 8
"""Requests whose media are fetched at once."""
MAX_HELD_BYTES = 4 << 30
"""Of all bodies that are held at once: what one may have at most, about three times."""


class Desk:
    """What answers calls: the handler, once it is loaded, behind its queue. Belongs to the event loop."""

    def __init__(self, state: State, queue: Queue, sources: Sources, timeout_s: float) -> None:
        self.state, self.queue, self.sources, self.timeout_s = state, queue, sources, timeout_s
        self.handler: Handler | None = None
        """Set as soon as it is known what the model is, before it is loaded."""
        self._pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "prepare")
        self._held_bytes = 0
        self._fetching = asyncio.Semaphore(MAX_FETCHING)

    def ticket(self) -> Ticket:
        return Ticket(time.monotonic() + self.timeout_s)

    async def ask(self, call: Call, items: Sequence[Item], ticket: Ticket) -> Result:
        """The answer. Raises ModelportError: for what is wrong with the call, 429 with a full queue, 503 when it ends.

        A TimeoutError where the ticket's deadline passes first. The ticket is left in any case.
        """
        if self.state.draining or self.handler is None:
            raise stopping() if self.state.draining else ModelportError("The model is not ready.", NOT_READY)
        call.stopped = ticket.stopped
        try:
            async with asyncio.timeout_at(ticket.loop.time() + ticket.deadline_s - time.monotonic()):
                if any(map(inputs.is_address, items)):
                    async with self._fetching:
                        await inputs.fetched(items, self.sources)
                self.queue.arrive()
                self._pool.submit(_prepare, self.queue, self.handler, call, items, ticket)
                answer = await ticket.answer
        finally:
            self.queue.leave(ticket)
        if isinstance(answer, ModelportError):
            raise answer
        return answer

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """While a body is held: what is given counts its bytes. Raises ModelportError (429) when memory is short."""
        mine = 0

        def more(size: int) -> None:
            nonlocal mine
            if self._held_bytes + size > MAX_HELD_BYTES:
                raise ModelportError("Too many large requests at once; try again soon.", BUSY, retry_after_s=5)
            mine += size
            self._held_bytes += size

        try:
            yield more
        finally:
            self._held_bytes -= mine

    def close(self) -> None:
        self.queue.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _prepare(queue: Queue, handler: Handler, call: Call, items: Sequence[Item], ticket: Ticket) -> None:
    """Straight on into the queue: every change of threads costs a request some 100 µs."""
    try:
        call.media = inputs.decoded(items)
        work = handler.check(call)
    except ModelportError as error:
        queue.turn_away(ticket, error)
    except Exception:
        log.exception("a request could not be prepared")
        queue.turn_away(ticket, ModelportError(BROKE, INTERNAL))
    else:
        queue.submit(work, ticket)
