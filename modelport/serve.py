"""Wiring: the one place that puts processes together. `modelport serve` is a small parent of two: control and gateway.

The parent forks before anything heavy is imported or any loop or thread exists, so both start at the same time and
inherit the tables of engines and platforms as they are. It starts a child that died again, and ends both in order.
"""

import contextlib
import ctypes
import logging
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelport.domain.verbs import Accounts, Plans, Verbs
from modelport.errors import NOT_READY, ModelportError
from modelport.settings import Settings

if TYPE_CHECKING:
    from modelport.control.doctor import Check
    from modelport.domain.spec import Spec
    from modelport.gateway.sockets import Listening
    from modelport.store import Store

log = logging.getLogger("modelport.serve")

PR_SET_PDEATHSIG = 1
RUNS = "runs"
"""Below the state directory: the private ones of `modelport run`."""
RUN_LEASE_S = 30.0
CONTROL, GATEWAY = "control", "gateway"
ENDING = {signal.SIGTERM, signal.SIGINT}


def serve(settings: Settings, on_ready: Callable[[str], None], only: str | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `on_ready` gets the gateway's URL (control's socket, where only that runs) once.

    Raises ModelportError when it cannot start: served already, port in use, state directory unusable.
    """
    from modelport.gateway.sockets import bind_main
    from modelport.statedir import prepare

    settings.socket  # noqa: B018  # a path that is too long is refused before anything is made
    prepare(settings.state_dir)
    parts = [only] if only else [CONTROL, GATEWAY]
    with contextlib.ExitStack() as locks:
        for part in parts:
            locks.enter_context(_locked(settings.state_dir, part))
        more = [f"{GATEWAY}-{number}" for number in range(2, settings.gateways + 1)] if GATEWAY in parts else []
        _Parent(settings, on_ready, bind_main(settings) if GATEWAY in parts else None).run([*parts, *more])


@contextlib.contextmanager
def private(settings: Settings, *, any_port: bool) -> Iterator[Settings]:
    """Settings for a server of one's own, which leaves nothing behind: a state directory below the usual one, a short
    lease. What an earlier one left when it was killed is swept, unless it still runs."""
    from modelport.statedir import prepare

    prepare(settings.state_dir)
    runs = settings.state_dir / RUNS
    runs.mkdir(mode=0o700, exist_ok=True)
    for old in runs.iterdir():
        with contextlib.suppress(ModelportError, OSError), _locked(old, CONTROL):
            if time.time() - old.stat().st_mtime > 2 * RUN_LEASE_S:  # its engines have ended by their lease
                shutil.rmtree(old, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(dir=runs))
    try:
        changes = {"state_dir": directory, "lease": RUN_LEASE_S, "log_level": "warning", "store_url_ref": ""}
        yield settings.model_copy(update=changes | ({"port": 0} if any_port else {}))
    finally:
        _keep_starts(directory, settings)
        shutil.rmtree(directory, ignore_errors=True)


def _keep_starts(source: Path, into: Settings) -> None:
    """What the starts of a private server took is the next plan's to know, so it outlives that server."""
    from modelport.store import open_store, starts

    if not (source / "modelport.db").exists():
        return
    with contextlib.suppress(ModelportError):
        of_run, own = open_store(source), _store(into)
        with of_run.read() as theirs, own.write() as ours:
            starts.carry(theirs, ours)
        of_run.close()
        own.close()


@contextlib.contextmanager
def background(settings: Settings) -> Iterator[None]:
    """A server in a child process, from when it answers until this ends. Raises ModelportError when it cannot start."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(told)
            os.setpgid(0, 0)  # Ctrl-C is the caller's to act on
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # a caller that is killed ends us in good order
            log_to_stderr(settings)
            serve(settings, lambda _url: _say(tell, "ready"))
            code = 0
        except ModelportError as error:
            _say(tell, f"failed {error.message}")
        except BaseException:
            log.exception("serving failed")
        finally:
            os._exit(code)
    os.close(tell)
    try:
        with open(told) as words:
            word, _, rest = words.readline().strip().partition(" ")
        if word != "ready":
            raise ModelportError(rest or "Modelport could not start; --debug may show why.")
        while not running(settings):
            time.sleep(0.02)
            if os.waitpid(child, os.WNOHANG)[0]:
                child = 0
                raise ModelportError("The server of this run ended before it answered.", NOT_READY)
        signal.signal(signal.SIGCHLD, _child_ended)
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if child:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGTERM)
                os.waitpid(child, 0)


def _child_ended(*_: object) -> None:
    raise ModelportError("The server of this run was killed; its engines end by themselves soon.", NOT_READY)


def log_to_stderr(settings: Settings) -> None:
    """One line an event, on stderr, from the level that is set."""
    level = logging.getLevelNamesMapping().get(settings.log_level.upper())
    if level is None:
        raise ModelportError(f"log_level is {settings.log_level!r}; it can be debug, info, warning or error.")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpcore", "alembic", "asyncio", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def verbs(settings: Settings) -> Verbs:
    """The Verbs of the control that serves these settings. Raises ModelportError on the first call if none does."""
    from modelport.client import Client

    return Client(socket=settings.socket)


def running(settings: Settings) -> bool:
    """Whether a control answers for these settings."""
    if not settings.socket.exists():
        return False
    try:
        verbs(settings).info()
    except ModelportError:
        return False
    return True


def accounts(settings: Settings) -> Accounts:
    """The verbs on keys, budgets and usage: control's, or the store's own when control is down, so that a key can
    always be revoked."""
    if running(settings):
        return verbs(settings)
    from modelport.control.accounts import StoreAccounts

    if not _has_store(settings):
        raise ModelportError(
            f"There is no store in {settings.state_dir} yet; start one with `modelport serve`.", NOT_READY
        )
    return StoreAccounts(_store(settings))


def plans(settings: Settings) -> Plans:
    """The verbs that plan, done in this process, also where one serves: with the starts recorded there, and with the
    caller's own environment (HF_TOKEN, HF_ENDPOINT, cloud credentials)."""
    from modelport.control.control import StorePlans

    with contextlib.suppress(ModelportError):  # what earlier starts teach is a refinement: a plan goes on without
        if _has_store(settings):
            return StorePlans(_store(settings))
    return StorePlans(None)


def _has_store(settings: Settings) -> bool:
    return bool(settings.store_url_ref) or settings.database.exists()


def _store(settings: Settings) -> "Store":
    from modelport.store import open_store

    return open_store(settings.state_dir, settings.store_url_ref, settings.pepper_ref)


def examine(settings: Settings, wanted: "Spec | None" = None) -> "list[Check]":
    """What `modelport doctor` shows, with a Spec also what a start of it would meet."""
    from modelport.control import doctor

    return doctor.examine(settings, verbs(settings).info().gateway_url if running(settings) else "", wanted)


def host(arguments: Sequence[str]) -> int:
    """Our own model server, by hand, until it is told to end; its exit code. In the Python that has torch, where
    MODELPORT_HF_PYTHON names one: that one has whatever else is needed too."""
    if (other := os.environ.pop("MODELPORT_HF_PYTHON", "")) and not Path(other).samefile(sys.executable):
        os.execv(other, [other, "-m", "modelport.runtime", *arguments])  # noqa: S606 - an argv list
    from modelport.runtime.host import main

    return main(arguments, "modelport host")


def is_alias(model: str) -> bool:
    """Whether the catalog knows a model by this very name."""
    from modelport.catalog.aliases import ALIASES

    return model in ALIASES


def admin_key(settings: Settings) -> str | None:
    """The bootstrap admin key from its file, where this user may read it."""
    from modelport.control.server import ADMIN_KEY

    try:
        return (settings.state_dir / ADMIN_KEY).read_text().strip()
    except OSError:
        return None


def _locked(state_dir: Path, part: str) -> contextlib.AbstractContextManager[None]:
    from modelport.statedir import locked

    return locked(state_dir, f"serve-{part}")


def _say(pipe: int, words: str) -> None:
    os.write(pipe, " ".join(words.split()).encode() + b"\n")


class _Parent:
    """Starts the children, restarts what dies, ends them: the gateway first, so that what is in flight is answered."""

    def __init__(self, settings: Settings, on_ready: Callable[[str], None], listening: "Listening | None") -> None:
        self.settings = settings
        self.on_ready = on_ready
        self.listening = listening
        """The public socket is the parent's: while a gateway is started again, connections wait instead of being
        refused, and the URL stays the same."""
        self.children: dict[int, str] = {}
        self.deaths: dict[str, int] = {}
        self.started: dict[str, float] = {}
        self.stopping = False
        self.served = False

    def run(self, names: list[str]) -> None:
        ready, ready_write = os.pipe()
        wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        due = {name: 0.0 for name in names}
        failure: ModelportError | None = None
        url = b""
        try:
            while not self.stopping and failure is None:
                for name in [n for n, at in due.items() if time.monotonic() >= at]:
                    del due[name]
                    self._start(name, ready_write)
                readable, _, _ = select.select([ready, wake], [], [], 0.2 if due else None)
                if wake in readable:
                    os.read(wake, 4096)
                if ready in readable:
                    url += os.read(ready, 4096)
                    while b"\n" in url:
                        line, _, url = url.partition(b"\n")
                        failure = self._heard(line.decode())
                for name in self._reaped():
                    if name in names and not self.stopping:
                        due[name] = time.monotonic() + min(30.0, 0.1 * 2 ** min(self.deaths[name], 9))
                        log.warning("%s ended and is started again", name)
        finally:
            signal.set_wakeup_fd(-1)
            if self.listening:
                self.listening[0].close()
            self._end(GATEWAY, 15)
            if failure is None and CONTROL in due:  # it died, and only it can stop the engines in good order
                self._start(CONTROL, ready_write)
            self._end(CONTROL, 45)
        if failure is not None:
            raise failure

    def _heard(self, line: str) -> ModelportError | None:
        """A child's word: `ready URL`, or `failed SENTENCE`, which is final before anything was served."""
        word, _, rest = line.partition(" ")
        if word == "failed" and not self.served:
            return ModelportError(rest)
        if word == "failed":
            log.error("%s", rest)  # it is started again, and the other part goes on
        elif not self.served:
            self.served = True
            with contextlib.suppress(OSError):  # nobody may read our output any more
                self.on_ready(rest)
        return None

    def _start(self, name: str, ready_write: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        # Told to end while it begins, control must still stop its engines: it hears of it once it can.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            self.children[pid] = name
            self.started[name] = time.monotonic()
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # A parent that is killed takes its children along; the engines live on under their shims' lease.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            os.setpgid(0, 0)  # Ctrl-C reaches the parent only, which ends its children in order
            if name != CONTROL:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            self._child(name, ready_write)
            code = 0
        except ModelportError as error:
            _say(ready_write, f"failed {error.message}")
        except BaseException:
            log.exception("%s failed", name)
        finally:
            os._exit(code)

    def _child(self, name: str, ready_write: int) -> None:
        if name == CONTROL:
            if self.listening:
                self.listening[0].close()
            from modelport.control.server import run as run_control
            from modelport.tao.app import make_app as tao

            if self.listening is None:
                _say(ready_write, f"ready {self.settings.socket}")
            return run_control(self.settings, {"/api": tao})
        from modelport.gateway.server import run as run_gateway

        def ready(url: str) -> None:
            _say(ready_write, f"ready {url}")

        return run_gateway(self.settings, ready, self.listening)

    def _reaped(self) -> list[str]:
        names: list[str] = []
        while self.children:
            pid, _status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            name = self.children.pop(pid, "")
            if time.monotonic() - self.started.get(name, 0.0) > 60:
                self.deaths[name] = 0
            self.deaths[name] = self.deaths.get(name, 0) + 1
            names.append(name)
        return names

    def _end(self, name: str, grace_s: float) -> None:
        pids = [pid for pid, child in self.children.items() if child.partition("-")[0] == name]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for pid in pids:
            while pid in self.children and time.monotonic() < deadline:
                self._reaped()
                time.sleep(0.01)
            if pid in self.children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                del self.children[pid]

    def _stop(self, *_: object) -> None:
        self.stopping = True
