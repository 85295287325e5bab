"""Reporter: tells the store, through one thread, what control and people need to know of this gateway."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from modelport.gateway.listeners import Listeners
from modelport.gateway.meter import Meter
from modelport.gateway.requestlog import Line, RequestLog
from modelport.gateway.routes import Routes
from modelport.store import Store, gateways, usage

EVERY_S = 1.0
log = logging.getLogger("modelport.gateway")


class Reporter:
    """A heartbeat each second, and at once when control waits for it; activity, usage and log lines with it."""

    def __init__(
        self, store: Store, gateway_id: str, routes: Routes, listeners: Listeners, meter: Meter, lines: RequestLog
    ) -> None:
        self.url = ""
        self._store = store
        self._id = gateway_id
        self._routes = routes
        self._listeners = listeners
        self._meter = meter
        self._lines = lines
        self._thread = ThreadPoolExecutor(1, "gateway-write")
        self._kick = asyncio.Event()
        self._touched: dict[str, float] = {}
        self._failing = False

    def kick(self) -> None:
        """Report now: a new revision is in force, or an instance that control waits for is free."""
        self._kick.set()

    async def run(self) -> None:
        """Report for ever."""
        while True:
            self._kick.clear()
            await self._listeners.apply(self._routes)
            for upstream in self._routes.all_upstreams():
                upstream.sweep()
            await self.report()
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._kick.wait()
            except TimeoutError:
                pass

    async def report(self) -> None:
        """One heartbeat, with all that happened since the last."""
        routes = self._routes
        beat = gateways.Gateway(
            self._id, self.url, time.time(), routes.revision, routes.busy(), dict(self._listeners.problems)
        )
        work = (self._write, beat, self._activity(), self._lines.take())
        await asyncio.get_running_loop().run_in_executor(self._thread, *work)

    def _activity(self) -> dict[str, float]:
        """Services asked for since the last report, or still at work."""
        now = time.time()
        seen = {
            route.routed.id: now if route.in_flight or route.held else route.last_request_at
            for route in self._routes.by_id.values()
        }
        fresh = {service: at for service, at in seen.items() if at > self._touched.get(service, 0.0)}
        self._touched.update(fresh)
        return fresh

    # On the thread

    def _write(self, beat: gateways.Gateway, activity: dict[str, float], lines: Sequence[Line]) -> None:
        try:
            with self._store.write() as tx:
                gateways.report(tx, beat)
                gateways.touch(tx, activity)
            self._failing = False
        except Exception as error:  # whatever a damaged or locked store raises: the heart must go on beating
            if not self._failing:
                log.error("the store cannot be written: %s", error)
            self._failing = True
        if not lines:
            return
        # A full disk loses lines and rows here and says so in a metric; the requests themselves go on. Usage that
        # must never be lost is the ledger's journal, written before dispatch.
        rows = [line.row() for line in lines if line.service_id]
        try:
            with self._store.write() as tx:
                usage.add(tx, rows)
        except Exception:
            self._meter.drop("usage", len(rows))
        try:
            self._lines.write(lines)
        except OSError:
            self._meter.drop("log", len(lines))

    async def close(self) -> None:
        """The last lines, then goodbye."""
        await self.report()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._goodbye)
        self._thread.shutdown()

    def _goodbye(self) -> None:
        try:
            with self._store.write() as tx:
                gateways.leave(tx, self._id)
        except Exception as error:
            log.error("the store cannot be written: %s", error)
