"""Host: the process that serves one model. Its port answers before anything is loaded, and until all is answered.

    python -m modelport.runtime --model DIRECTORY --port 8080

Two threads matter: the event loop's, which serves, and the model's, which downloads, loads and then runs what waits.
After a failed load the process stays and says why; SIGTERM, idling or the end of a batch end it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import uvicorn

from modelport.domain.progress import Stage
from modelport.errors import ModelportError
from modelport.runtime import arguments, handlers, source
from modelport.runtime.app import App
from modelport.runtime.arguments import Arguments
from modelport.runtime.batch import Batch
from modelport.runtime.desk import Desk
from modelport.runtime.handler import Handler, LoadFailed
from modelport.runtime.idle import until_idle
from modelport.runtime.inputs import Sources
from modelport.runtime.job import Scalar
from modelport.runtime.state import DOWNLOAD, LOAD, State
from modelport.runtime.work import Queue

log = logging.getLogger("modelport.runtime")

DRAIN_S = 10.0
"""How long what is in flight may take after SIGTERM."""
CLOSE_S = 2.0
"""How long the model may take to let go of what it holds; then the process ends without it."""
KEEP_ALIVE_S = 75
BASE = "base_model_path"
"""The one option that names another model: it is brought to this disk too."""


def main(argv: Sequence[str] | None = None, program: str = "python -m modelport.runtime") -> int:
    """Serve until it is over; the exit code. Ends the process with 2 for wrong arguments."""
    wanted = arguments.read(sys.argv[1:] if argv is None else argv, os.environ, program)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpcore", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not wanted.key and not wanted.on_loopback:
        log.warning("anyone who reaches %s may use this server: %s is not set", wanted.host, arguments.KEY)
    try:
        listening = _listen(wanted.host, wanted.port)
    except OSError as error:
        sys.stderr.write(f"{program}: cannot listen on {wanted.host}:{wanted.port}: {error.strerror}.\n")
        return 1
    host = Host(wanted, arguments.environment(), listening)
    log.info("listening on %s:%d", wanted.host, host.state.port)
    factory = host.config.get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        code = runner.run(host.run())
    if host.busy():  # a load or a run that nothing can interrupt: nobody waits for it
        logging.shutdown()
        os._exit(code)
    return code


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


class Host:
    """One server: the event loop's side, and the model's."""

    def __init__(self, wanted: Arguments, env: Mapping[str, str], listening: socket.socket) -> None:
        self.wanted, self.env, self.listening = wanted, env, listening
        self.state = State(
            name=wanted.name,
            job_id=wanted.job_id,
            port=listening.getsockname()[1],
            idle_timeout_s=wanted.idle_timeout_s,
            instance=env.get("MODELPORT_INSTANCE", ""),
            shown_idle_s=wanted.shown_idle_s,
        )
        self.queue = Queue(wanted.max_queue, wanted.batch_wait_s)
        sources = Sources(wanted.bucket, wanted.hosts, env)
        self.desk = Desk(self.state, self.queue, sources, wanted.timeout_s)
        self.config = uvicorn.Config(
            App(self.desk, wanted.key), http="httptools", log_config=None, access_log=False, lifespan="off",
            server_header=False, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._model, name="model", daemon=True)

    async def run(self) -> int:
        self.loop = asyncio.get_running_loop()
        self.loaded = asyncio.Event()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, stop.set)
        server = _Server(self.config)
        serving = asyncio.create_task(server.serve([self.listening]))
        self._thread.start()
        working = asyncio.create_task(self._work())
        over = {asyncio.create_task(stop.wait()), working, serving}
        try:
            done, _ = await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
            code = working.result() if working in done else 0
        finally:
            await self._drain()
            server.should_exit = True
            for task in over - {serving}:
                task.cancel()
            await asyncio.wait(over)
        return code

    async def _work(self) -> int:
        """What ends by itself, once the model is ready: the batch, else idling. The exit code."""
        await self.loaded.wait()
        if self.wanted.batch is not None:
            return await Batch(self.wanted.batch, self.desk, self.env, self.wanted.model).run()
        await until_idle(self.state)
        return 0

    async def _drain(self) -> None:
        """Nothing new is taken; what is in flight ends, or is ended."""
        self.state.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self.state.quiet.wait()
        self.desk.close()
        log.info("stopped%s", f" with {self.state.active} request(s) unanswered" if self.state.active else "")

    def busy(self) -> bool:
        """Whether the model's thread goes on, after a moment to end in."""
        if self._thread.ident is not None and self.state.ready:
            self._thread.join(CLOSE_S)
        return self._thread.is_alive()

    def _model(self) -> None:
        """The model's thread, from nothing to the last run."""
        with self._failures():
            model, options = self._located()
            handler = handlers.choose(model, self.wanted.task, options)
            self.state.model_type = handler.model_type
            self._tell_loop(lambda: self._known(handler))
            self.state.move(Stage.LOADING, "Model is loading")
            began = time.monotonic()
            handler.load(self.state.tell)
            self.state.move(Stage.READY, "Model is ready")
            log.info("loaded in %.2f s", time.monotonic() - began)
            self._tell_loop(self.loaded.set)
            self.queue.serve(handler)
            handler.close()

    def _located(self) -> tuple[Path, dict[str, Scalar]]:
        options = dict(self.wanted.options)
        base = options.get(BASE)
        if not source.is_here(self.wanted.model) or (isinstance(base, str) and base and not source.is_here(base)):
            self.state.move(Stage.DOWNLOADING, DOWNLOAD, LOAD)
        model = source.located(self.wanted.model, self.env, self.state.tell)
        if isinstance(base, str) and base:
            options[BASE] = str(source.located(base, self.env, self.state.tell))
        return model, options

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """What goes wrong becomes the state's error, in words fit for clients."""
        try:
            yield
        except ModelportError as error:
            again = error.again if isinstance(error, LoadFailed) else error.kind.status >= 500
            self.state.fail(error.message, again=again)
        except MemoryError:
            self.state.fail("The memory of this machine is not enough for it.", again=True)
        except Exception:
            log.exception("the model could not be served")
            self.state.fail("It could not be loaded; the server's log says why.", again=False)

    def _known(self, handler: Handler) -> None:
        self.desk.handler = handler

    def _tell_loop(self, act: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # it was stopped meanwhile
            self.loop.call_soon_threadsafe(act)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the host's."""
        yield
