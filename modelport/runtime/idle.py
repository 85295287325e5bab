"""Idle: a server that nobody asks ends by itself. Failed requests count as asking; health and status do not."""

import asyncio
import logging
import time

from modelport.runtime.state import State

log = logging.getLogger("modelport.runtime")


async def until_idle(state: State) -> None:
    """Returns when no request was under way for `idle_timeout_s`, counted from when the model was ready; never where
    that is 0."""
    if not state.idle_timeout_s:
        await asyncio.Event().wait()
    state.quiet_since_s = time.monotonic()
    while True:
        left = state.idle_timeout_s - (time.monotonic() - state.quiet_since_s)
        if state.active:
            left = state.idle_timeout_s
        elif left <= 0:
            break
        await asyncio.sleep(left)
    log.warning("ending: no inference request for %g minutes", round(state.idle_timeout_s / 60, 2))
