"""Reporter: tells the store, through one thread, what control and people need to know of this gateway."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import sqlalchemy as sa

from modelport.gateway.account import Accounts
from modelport.gateway.bodies import Bodies
from modelport.gateway.bucket import Bucket
from modelport.gateway.journal import Journal
from modelport.gateway.listeners import Listeners
from modelport.gateway.outbox import TOGETHER, Batch
from modelport.gateway.requestlog import Line
from modelport.gateway.routes import Routes
from modelport.settings import Settings
from modelport.store import Store, bodies, gateways, leases, usage
from modelport.store.leases import Applied, BudgetPeriod

EVERY_S = 1.0
log = logging.getLogger("modelport.gateway")
_rows = msgspec.json.Decoder(list[dict[str, object]]).decode


def insert(tx: sa.Connection, lines: Sequence[bytes]) -> None:
    """Lines of the request log as rows; what is there already is left alone, and what is damaged is left out."""
    try:
        rows = _rows(b"[" + b",".join(lines) + b"]")
    except msgspec.DecodeError:
        rows = [row for line in lines if (row := _row_of(line)) is not None]
    usage.add(tx, rows)


def _row_of(line: bytes) -> dict[str, object] | None:
    try:
        return _rows(b"[%b]" % line)[0]
    except msgspec.DecodeError:
        log.error("a line of the journal is damaged: the request is charged, but not listed")
        return None


class Reporter:
    """A heartbeat each second, and at once when control waits for it; activity, usage and log lines with it."""

    def __init__(
        self, settings: Settings, store: Store, routes: Routes, listeners: Listeners, accounts: Accounts,
        journal: Journal, bucket: Bucket | None,
    ) -> None:  # fmt: skip
        self.url = ""
        self._settings = settings
        self._store = store
        self._routes = routes
        self._listeners = listeners
        self._accounts = accounts
        self._journal = journal
        self._bucket = bucket
        self._thread = ThreadPoolExecutor(1, "gateway-write")
        self._kick = asyncio.Event()
        self._touched: dict[str, float] = {}
        self._failing = False
        self._reporting = asyncio.Lock()

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
            await asyncio.shield(self.report())  # a batch that is out must not be left so
            await self._accounts.ledger.keep()
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._kick.wait()
            except TimeoutError:
                pass

    async def report(self) -> bool:
        """One heartbeat, with what happened since the last; whether settlements went with it, so that more may wait."""
        async with self._reporting:
            return await self._report()

    async def _report(self) -> bool:
        routes, ledger, lines = self._routes, self._accounts.ledger, self._accounts.lines
        problems = dict(self._listeners.problems)
        beat = gateways.Gateway(
            self._journal.gateway_id, self.url, time.time(), routes.revision, routes.busy(), problems
        )
        loop = asyncio.get_running_loop()
        batch, settled = None, False
        try:
            self._accounts.share(await loop.run_in_executor(self._thread, self._beat, beat, self._activity()))
            while (batch := ledger.take_batch()) is not None:
                ledger.applied(batch, await loop.run_in_executor(self._thread, self._settle, batch))
                settled = True
                if len(batch.lines) < TOGETHER:  # not behind: what came meanwhile waits for the next report
                    break
            batch = None
            self._failing = False
        except Exception as error:  # whatever a damaged or locked store raises: the heart must go on beating
            if not self._failing:
                log.error("the store cannot be written: %s", error)
            self._failing = True
            if batch is not None:
                ledger.put_back(batch)
            settled = False
        await loop.run_in_executor(
            self._thread, self._write_lines, lines.take(), lines.take_refused(), self._accounts.bodies.take()
        )
        return settled

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

    def _beat(self, beat: gateways.Gateway, activity: dict[str, float]) -> int:
        """How many gateways are alive."""
        with self._store.write(alone=False) as tx:
            gateways.report(tx, beat)
            gateways.touch(tx, activity)
            return len(gateways.live(tx, beat.seen_at))

    def _settle(self, batch: Batch) -> Mapping[BudgetPeriod, Applied] | None:
        self._journal.sync()  # or after a loss of power the store would be ahead of the journal
        with self._store.write(alone=False) as tx:
            insert(tx, batch.lines)
            return leases.apply(tx, self._journal.gateway_id, batch.position, batch.charges, time.time())

    def _write_lines(
        self, lines: Sequence[bytes], refused: Sequence[bytes], kept: Sequence[tuple[Bodies, Line]]
    ) -> None:
        # A full disk loses log lines and rows of refused requests here and says so in a metric. Of what was used
        # nothing is lost: the journal has it, written before dispatch.
        meter = self._accounts.meter
        if refused:
            try:
                with self._store.write(alone=False) as tx:
                    insert(tx, refused)
            except Exception:
                meter.drop("usage", len(refused))
        if lines:
            try:
                self._accounts.lines.write(lines)
            except OSError:
                meter.drop("log", len(lines))
            if self._bucket is not None:
                self._bucket.add(lines)
        if kept:
            try:
                rows = [each.row(line) for each, line in kept]
                with self._store.write(alone=False) as tx:
                    bodies.add(tx, rows)
            except Exception:
                meter.drop("bodies", len(kept))
        try:
            self._journal.sync()
            self._journal.prune(self._settings.journal_keep)
        except OSError as error:
            log.error("the journal cannot be written to disk: %s", error.strerror)

    async def close(self) -> None:
        """The last lines, what is left of the leases, then goodbye."""
        await self._accounts.ledger.keep()  # settlements that wait for company are written, and so reported
        while await self.report():
            pass
        await self._accounts.ledger.keep(close=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._goodbye)
        self._thread.shutdown()

    def _goodbye(self) -> None:
        try:
            with self._store.write() as tx:
                gateways.leave(tx, self._journal.gateway_id)
        except Exception as error:
            log.error("the store cannot be written: %s", error)
        self._journal.close()
