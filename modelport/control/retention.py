"""Retention: what requests left in the store is taken away when it is older than the settings keep it."""

import asyncio
import logging
import time

from modelport.errors import ModelportError
from modelport.settings import Settings
from modelport.store import Store, usage

EVERY_S = 3600.0
PAUSE_S = 0.05
"""Between two portions, for the gateways to write in."""
log = logging.getLogger("modelport.control")


async def retain(settings: Settings, store: Store) -> None:
    """Forget what is too old, now and every hour, until cancelled."""
    while True:
        more = await asyncio.to_thread(_forget, settings, store)
        await asyncio.sleep(PAUSE_S if more else EVERY_S)


def _forget(settings: Settings, store: Store) -> bool:
    """Whether there may be more."""
    now = time.time()
    try:
        with store.write() as tx:
            return usage.forget(tx, now - settings.requests_keep, now - settings.bodies_keep) > 0
    except ModelportError as error:
        log.warning("old requests stay in the store for now: %s", error.message)
        return False
