"""The control process: one per state directory, on a unix socket that only its owner can reach."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request

from modelport.control.access import caller
from modelport.control.caller import LOCAL
from modelport.control.control import Control
from modelport.control.reconciler import Reconciler
from modelport.control.rest import make_app
from modelport.control.retention import retain
from modelport.domain.key import KeySpec
from modelport.domain.verbs import Verbs
from modelport.errors import FORBIDDEN, ModelportError
from modelport.settings import Settings
from modelport.statedir import locked
from modelport.store import Store, audit, keys, open_store
from modelport.store.postgres import Lead

LOOK_S = 1.0
"""How often it is looked at who leads."""
log = logging.getLogger("modelport.control")
ADMIN_KEY = "admin.key"
"""The file, 0600 in the state directory, that holds the bootstrap admin key."""


Surface = Callable[[Callable[[Request], Verbs], Verbs, Settings], FastAPI]
"""A foreign API over the Verbs: made of those in a request's caller's name, control's own, and the settings."""


def run(settings: Settings, surfaces: Mapping[str, Surface]) -> None:
    """Run control until SIGTERM or SIGINT, then stop the engines and end. `surfaces` are served below their paths.
    Raises ModelportError."""
    with locked(settings.state_dir, "control"):
        store = open_store(settings.state_dir, settings.store_url_ref, settings.pepper_ref)
        lead = _led(store) if settings.store_url_ref else None
        bootstrap(store)
        asyncio.run(_serve(settings, store, lead, surfaces))


def _led(store: Store) -> Lead:
    """The leadership of all controls that share a store, as soon as no other has it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})  # who waits may be ended at once
    waited = False
    while (lead := store.lead()) is None:
        if not waited:
            log.info("another control leads; this one waits until it ends")
        waited = True
        time.sleep(LOOK_S)
    return lead


def bootstrap(store: Store) -> None:
    """Make the first admin key, into a file only its owner can read. Nothing where there was one already."""
    with store.write() as tx:
        if keys.any_admin(tx):
            return
        now = time.time()
        made = keys.create(tx, store.pepper, KeySpec(name="bootstrap", scopes=("admin",)), now)
        audit.record(tx, now, LOCAL.actor, "key.create", f"key:{made.id}", {"name": made.name, "scopes": ["admin"]})
        path = store.directory / ADMIN_KEY
        with open(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{made.secret}\n")


async def _while_leading(lead: Lead) -> None:
    """End this process once another may lead: its engines go on, and are the other's to adopt. The parent starts it
    again, and then it waits."""
    while await asyncio.to_thread(lead.held):  # noqa: ASYNC110 - the server is asked: nothing tells us by itself
        await asyncio.sleep(LOOK_S)
    log.error("the leadership was lost with the store's connection; control starts again and waits for it")
    os._exit(1)


async def _serve(settings: Settings, store: Store, lead: Lead | None, surfaces: Mapping[str, Surface]) -> None:
    reconciler = Reconciler(settings, store)
    loop = asyncio.get_running_loop()
    control = Control(settings, store, poke=reconciler.poke, platform=reconciler.platform, loop=loop)
    listener = bind(settings.socket)
    app = make_app(control)
    for path, make in surfaces.items():
        app.mount(path, make(partial(_acting, control), control, settings))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False)
    server = uvicorn.Server(config)
    work = [asyncio.create_task(reconciler.run()), asyncio.create_task(retain(settings, store))]
    if lead is not None:
        work.append(asyncio.create_task(_while_leading(lead)))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})  # the parent that forked us may block
    serving = asyncio.create_task(server._serve([listener]))  # serve() would install handlers of its own
    await stop.wait()
    for task in work:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await reconciler.shut_down()
    server.should_exit = True
    await serving
    settings.socket.unlink(missing_ok=True)
    if lead is not None:
        lead.end()


def _acting(control: Control, request: Request) -> Control:
    """Control in the name of who asks. Raises ModelportError (403) for a key that may not look after services."""
    who = caller(request)
    if not who.may("operate"):
        raise ModelportError("This API key may not do that; one with the scope `operate` is needed.", FORBIDDEN)
    return control.by(who)


def bind(path: Path) -> socket.socket:
    """A listening unix socket, mode 0600. One that a dead process left is replaced: our lock says nobody serves it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener
