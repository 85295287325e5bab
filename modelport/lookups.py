"""Lookups: starts, which look models up at a Hub that may take a minute. They have threads of their own, so that what
asks for a status or a stop never waits for them."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from modelport.errors import NOT_READY, ModelportError

T = TypeVar("T")
AT_A_TIME = 4
WAITING = 16
"""More that wait for their turn."""
RETRY_S = 5.0


class Lookups:
    """Runs calls, a few at a time."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.threads = CapacityLimiter(AT_A_TIME)

    async def __call__(self, call: Callable[[], T]) -> T:
        """What `call` gives. Raises ModelportError (503) when too many are under way."""
        if self.in_flight >= AT_A_TIME + WAITING:
            sentence = f"{self.in_flight} models are being looked up at the moment; try again."
            raise ModelportError(sentence, NOT_READY, retry_after_s=RETRY_S)
        self.in_flight += 1
        try:
            return await to_thread.run_sync(call, limiter=self.threads)
        finally:
            self.in_flight -= 1
