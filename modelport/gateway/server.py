"""serve: the gateway process, from its first socket to its last log line."""

import asyncio
import contextlib
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from uvicorn import Config
from uvicorn.server import ServerState

from modelport.gateway.account import Accounts, interrupted
from modelport.gateway.app import Gateway
from modelport.gateway.bank import StoreBank
from modelport.gateway.bucket import Bucket
from modelport.gateway.control import ControlDoor
from modelport.gateway.infer import Inference
from modelport.gateway.journal import Journal, claim
from modelport.gateway.ledger import Ledger
from modelport.gateway.limits import Limiter
from modelport.gateway.listeners import Listeners
from modelport.gateway.meter import Meter
from modelport.gateway.poller import Poller
from modelport.gateway.queue import FairQueue
from modelport.gateway.replay import abandoned, replay
from modelport.gateway.reporter import Reporter, insert
from modelport.gateway.requestlog import RequestLog
from modelport.gateway.routes import Routes
from modelport.gateway.sockets import Listening, bind_main
from modelport.gateway.trace import Tracer
from modelport.gateway.upstream import Upstream
from modelport.gateway.wake import Waking
from modelport.gateway.watch import Watch
from modelport.settings import Settings
from modelport.store import Store, open_store

GC_THRESHOLD = 20_000
"""Objects between two passes: the default of 700 is a pass every few requests, and requests leave few cycles."""
TOGETHER_S = 0.005
CLOSE_S = 10.0
"""The longest wait for the store at the end."""
GRACE_S = 10.0
"""How long running requests may go on after SIGTERM; their engines have longer, clients of other gateways all of it."""
log = logging.getLogger("modelport.gateway")


def run(settings: Settings, on_ready: Callable[[str], None] | None = None, listening: Listening | None = None) -> None:
    """The gateway as a process of its own, until SIGTERM. Raises ModelportError where it cannot start."""
    import uvloop

    store = open_store(settings.state_dir, settings.store_url_ref, settings.pepper_ref)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, store, on_ready, listening))
    finally:
        store.close()


async def serve(
    settings: Settings,
    store: Store,
    on_ready: Callable[[str], None] | None = None,
    listening: Listening | None = None,
) -> None:
    """Answer requests until SIGTERM, SIGINT or cancellation, then end in good order.

    `listening` is a socket that a parent bound already and its URL; without, the port of the settings is bound.
    `on_ready` is called with the URL once requests are accepted. Raises ModelportError when the port is taken, before
    anything else happens.
    """
    sock, url = listening or bind_main(settings)
    journal = _recovered(settings, store)
    control = Upstream("control", f"unix:{settings.socket}", None)
    waking = Waking(control)
    state = ServerState()
    watch = Watch(settings, state.connections)  # type: ignore[arg-type]
    routes = Routes(on_free=lambda: reporter.kick())
    lease_thread = ThreadPoolExecutor(1, "gateway-lease")
    ledger = Ledger(journal, StoreBank(store, journal.gateway_id, lease_thread), together_s=TOGETHER_S)
    queues: dict[str, FairQueue] = {}
    meter = Meter(routes, queues, ledger)
    lines = RequestLog(settings.state_dir / "logs", int(journal.directory.name))
    accounts = Accounts(Limiter(), ledger, meter, lines, queues)
    tracer = Tracer(settings.trace_sample, journal.gateway_id) if settings.trace_sample else None
    bucket = None
    if settings.log_bucket:
        bucket = Bucket(settings.log_bucket, journal.gateway_id, lambda count: meter.drop("bucket", count))

    def swapped() -> None:
        accounts.swap(routes)
        reporter.kick()

    poller = Poller(store, routes, waking.hurry, on_swap=swapped)
    inference, door = Inference(settings, routes, waking, accounts, watch, tracer), ControlDoor(settings, control)
    gateway = Gateway(settings, routes, store.pepper, inference, door, accounts, poller.catch_up)
    listeners = Listeners(_config(gateway), state, settings)
    reporter = Reporter(settings, store, routes, listeners, accounts, journal, bucket)
    reporter.url = url

    stop = _stop_on_signals()
    await poller.look()
    await listeners.open_main(sock)
    await listeners.apply(routes)
    await reporter.report()
    log.info("gateway listens on %s", url)
    if on_ready is not None:
        on_ready(url)
    gc.collect()
    gc.freeze()  # what is there now stays: no pass needs to look at it again
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    loops = [asyncio.create_task(part.run()) for part in (poller, reporter, watch)]
    try:
        await stop.wait()
    finally:
        listeners.close()
        await _finish(state)
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        waking.close()
        for upstream in (control, *routes.all_upstreams()):
            upstream.close()
        poller.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await reporter.close()
        except TimeoutError:
            log.error("the store does not answer: what is left is in the journal, and the next start brings it in")
        for part in (bucket, tracer):
            if part is not None:
                await asyncio.to_thread(part.close)
        lease_thread.shutdown(wait=False)


def _recovered(settings: Settings, store: Store) -> Journal:
    """This process's journal, what an earlier one left in it brought into the store; those of gateways that were more
    before too. Raises ModelportError."""
    parent = settings.state_dir / "journal"
    journal = claim(parent)
    try:
        _replayed(store, journal)
        for left in abandoned(parent, settings.gateways):
            _replayed(store, left)
            left.close()
    except BaseException:
        journal.close()
        raise
    return journal


def _replayed(store: Store, journal: Journal) -> None:
    found = replay(store, journal, interrupted, insert, time.time())
    if found.settled or found.interrupted or found.damaged:
        log.warning(
            "the journal of an earlier gateway: %d settlements, %d interrupted requests, %d damaged lines",
            found.settled, found.interrupted, found.damaged,
        )  # fmt: skip


def _config(gateway: Gateway) -> Config:
    """uvicorn as a parser and writer only: no lifespan, no websockets, no log, no headers of its own."""
    config = Config(
        cast(Any, gateway), interface="asgi3", lifespan="off", ws="none", access_log=False, log_config=None,
        proxy_headers=False, server_header=False, date_header=False,
    )  # fmt: skip
    config.load()
    return config


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _finish(state: ServerState) -> None:
    """Close idle connections, let running requests end, and cancel those that take too long."""
    for connection in list(state.connections):
        connection.shutdown()
    tasks = set(state.tasks)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=GRACE_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
    for connection in list(state.connections):
        with contextlib.suppress(Exception):
            connection.transport.close()
