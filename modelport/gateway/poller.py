"""Poller: looks at the store's revision and swaps in the new snapshot when it changed."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelport.gateway.routes import Routes
from modelport.store import Store
from modelport.store.revision import current
from modelport.store.snapshot import Snapshot, snapshot

POLL_S = 0.25
"""A revoked key must stop within a second: one poll, one read, and room for a busy machine."""
WAITING_POLL_S = 0.05
"""While requests are held, each poll is time that they wait longer."""
TOGETHER_S = 0.01
CATCH_UP_S = 2.0
"""The longest that an unknown key or model waits for the store."""
log = logging.getLogger("modelport.gateway")


class Poller:
    """Reads on a thread of its own, so that a writer that waits for the store's lock delays no revocation."""

    def __init__(self, store: Store, routes: Routes, hurry: asyncio.Event, on_swap: Callable[[], None]) -> None:
        self._store = store
        self._routes = routes
        self._hurry = hurry
        self._on_swap = on_swap
        self._next: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "gateway-read")
        self._engine_keys: dict[str, str] = {}
        self._failing = False

    async def run(self) -> None:
        while True:
            await self.look()
            self._hurry.clear()
            pause = WAITING_POLL_S if self._routes.any_held() else POLL_S
            try:
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    async def catch_up(self) -> bool:
        """Whether a look that begins after this call brings a new snapshot: what was just made is known at once.
        Calls that come close together share one look, so that a stranger who guesses keys costs little."""
        before = self._routes.revision
        if self._next is None:
            self._next = asyncio.create_task(self._look_soon())
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await asyncio.shield(self._next)
        except TimeoutError:  # the store does not answer: what is known stays in force
            return False
        return self._routes.revision != before

    async def _look_soon(self) -> None:
        await asyncio.sleep(TOGETHER_S)
        self._next = None
        await self.look()

    async def look(self) -> None:
        """Swap in a new snapshot where there is one. When the store cannot be read the last one stays in force."""
        loop = asyncio.get_running_loop()
        known = self._routes.revision if self._routes.loaded else None
        try:
            fresh = await loop.run_in_executor(self._thread, self._read, known)
        except Exception as error:  # whatever a damaged or locked store raises
            if not self._failing:
                log.error("the store cannot be read, the last routes and keys stay in force: %s", error)
            self._failing = True
            return
        if self._failing:
            log.info("the store can be read again")
        self._failing = False
        if fresh is not None:
            self._routes.swap(fresh, self._engine_keys)
            self._on_swap()

    def _read(self, known: int | None) -> Snapshot | None:
        with self._store.read() as tx:
            if current(tx) == known:
                return None
            fresh = snapshot(tx)
        replicas = [replica for routed in fresh.services for replica in routed.replicas]
        keys = {replica.id: self._engine_keys.get(replica.id) or _key(replica.key_ref) for replica in replicas}
        self._engine_keys = {instance: key for instance, key in keys.items() if key is not None}
        return fresh

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _key(reference: str) -> str | None:
    """An engine's key from `file:/path`, or None where it cannot be read."""
    scheme, _, path = reference.partition(":")
    try:
        return Path(path).read_text().strip() if scheme == "file" else None
    except OSError:
        return None
