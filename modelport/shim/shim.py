"""Owns one engine process: starts it once, drains its output, obeys its lease, ends it whole, and writes down why.

Run as `python -I -S shim.py DIR`. It goes into the background and answers by its exit code when the engine was started
(or could not be). Linux, Python 3.9 or newer, standard library only: this file is copied to other machines as it is.
It has one thread, so forking is safe and PR_SET_PDEATHSIG, which follows the forking thread, means the whole shim.

    read     launch.json   argv, env, secret_env, marks (the labels as environment), grace_s, lease_s
             key           the engine key; the reference `engine-key` in secret_env means this file, `env:NAME` the
                           launcher's variable, if it has one, `file:/path` a file's text
             lease         seconds; every rewrite or touch renews the lease, 0 is forever
             grace         seconds, overrides grace_s at the next SIGTERM
    written  lock          locked (F_OFD_SETLK) as long as the shim lives: observers can ask without taking it
             state.json    written once, before the engine's first instruction: where it is, no engine is started again
             engine.log    and .1, .2: its stdout and stderr
             exit.json     how it ended; where it is, no engine is started again
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import select
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any

STARTED, USAGE, ALREADY, CANNOT = 0, 2, 3, 4
"""Exit codes. ALREADY: another shim has this DIR, or its one engine was started before. CANNOT: stderr says why."""

PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "XDG_*"),
    *("*_PROXY", "*_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),  # behind a company's proxy
    *("HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE"),  # where weights are; HF_TOKEN is a secret, so not
    *("LD_LIBRARY_PATH", "CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "HSA_*", "ZE_*", "VK_*", "NCCL_*"),  # accelerators
    *("OMP_*", "MKL_*", "OPENBLAS_*", "GGML_*"),  # threads and kernels
)
"""What an engine gets of its parent's environment. All else stays out: it may hold other services' secrets."""

LOG_BYTES, LOG_FILES = 10 << 20, 3
LINE_BYTES = 16 << 10
"""A longer line is cut into pieces."""
TAIL_LINES, TAIL_LINE_BYTES = 200, 2000
RESERVE_BYTES = 64 << 10
"""Kept aside on the disk, so that the reason of an exit can be written when the disk is full."""
CHUNK_BYTES = 64 << 10
TICK_S = 0.5
SWEEP_S = 10.0

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
NOISE = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
"""Colours and control bytes: nothing an engine prints shall steer the terminal of whoever reads its log."""

prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here, so that the forked child only has to call it


def main(argv: list[str]) -> int:
    """Start the engine of `argv[1]` and go into the background; returns an exit code."""
    if len(argv) != 2 or not os.path.isdir(argv[1]):
        return say(USAGE, "usage: shim.py DIR")
    home = os.path.realpath(argv[1])
    os.closerange(3, max(int(fd) for fd in os.listdir("/proc/self/fd")) + 1)  # no socket or lock of a launcher's
    try:
        if not take_lock(home) or any(os.path.exists(os.path.join(home, n)) for n in ("state.json", "exit.json")):
            return ALREADY
        with open(os.path.join(home, "launch.json"), encoding="utf-8") as file:
            launch = json.load(file)
        return in_background(lambda report: own(home, launch, report))
    except (OSError, ValueError) as error:
        return say(CANNOT, f"{home}: {error}")


def take_lock(home: str) -> bool:
    """Whether DIR is ours now. The descriptor stays open, across our fork too, and closes when its engine starts."""
    fd = os.open(os.path.join(home, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def in_background(work: Callable[[Callable[[str], None]], None]) -> int:
    """Run `work(report)` in a session of its own; returns once it reported, with the code that it reported."""
    answers, answer = os.pipe()
    if os.fork():
        os.close(answer)
        with open(answers, encoding="utf-8") as pipe:
            said = pipe.read() or "the shim died while it was starting"
        return STARTED if said == "started" else say(CANNOT, said)

    def report(text: str) -> None:
        """Answer the launcher, the first time; it may be gone."""
        nonlocal answer
        if answer >= 0:
            with suppress(OSError):
                os.write(answer, text.encode())
            os.close(answer)
            answer = -1

    try:
        os.close(answers)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stdio in (0, 1, 2):
            os.dup2(null, stdio)
        work(report)
    except Exception as error:
        report(f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def own(home: str, launch: dict[str, Any], report: Callable[[str], None]) -> None:
    """The shim's whole life: start, watch, sweep up, write down."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what an engine leaves behind becomes our child, to be seen and killed
    signals = Signals()
    env, secrets = engine_env(home, launch)
    log = Log(os.path.join(home, "engine.log"), secrets)
    reserve = Reserve(home)
    engine = Engine(home, launch["argv"], env)
    failure = engine.release()
    report("started")
    cause = ""
    try:
        if failure:
            log.feed(failure.encode())
        else:
            cause = watch(home, launch, engine, log, signals)
    except Exception as error:
        cause = "shim died"  # a defect of ours: say so, rather than leave an engine that nobody owns
        log.feed(f"\nmodelport: the shim failed: {type(error).__name__}: {error}\n".encode())
    engine.sweep()
    log.drain(engine.output)
    log.close()
    code = os.waitstatus_to_exitcode(engine.status) if engine.status is not None else None
    reserve.write_exit(
        {
            "code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "cause": cause,
            "tail": [line.decode("utf-8", "replace") for line in log.tail],
            "at": time.time(),
        }
    )


def watch(home: str, launch: dict[str, Any], engine: Engine, log: Log, signals: Signals) -> str:
    """Drain and wait until the engine has ended; returns who ended it, empty where that was the engine itself."""
    lease = Lease(os.path.join(home, "lease"), launch["lease_s"])
    poller = select.poll()
    poller.register(engine.output, select.POLLIN)
    poller.register(signals.wakeup, select.POLLIN)
    cause, kill_at, look_at = "", float("inf"), 0.0
    while True:
        for fd, _ in poller.poll(max(1, 1000 * min(TICK_S, kill_at - time.monotonic()))):
            chunk = os.read(fd, CHUNK_BYTES)
            if fd == engine.output and chunk:
                log.feed(chunk)
            elif fd == engine.output:
                poller.unregister(fd)
        if engine.reap():
            return cause
        now = time.monotonic()
        if signals.take_stop():
            cause = cause or "stopped"
            kill_at = min(kill_at, now + seconds_in(os.path.join(home, "grace"), launch["grace_s"]))
            engine.signal(signal.SIGTERM)
        elif not cause and now >= look_at:
            look_at = now + TICK_S
            if lease.expired(now):
                cause, kill_at = "lease expired", now + launch["grace_s"]
                engine.signal(signal.SIGTERM)
        if now >= kill_at:
            engine.signal(signal.SIGKILL)
            kill_at = now + TICK_S  # again, should one have been forked meanwhile


class Signals:
    """SIGTERM and SIGINT ask for a stop, SIGCHLD wakes the loop, SIGHUP is nothing to us.

    Handlers, never SIG_IGN: an ignored signal would stay ignored in the engine.
    """

    def __init__(self) -> None:
        self._stop = False
        self.wakeup, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever the launcher had blocked

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._stop = self._stop or number in (signal.SIGTERM, signal.SIGINT)

    def take_stop(self) -> bool:
        """Whether a stop was asked for since the last call."""
        stop, self._stop = self._stop, False
        return stop


class Engine:
    """The engine process, forked but held back until state.json is written. Raises OSError where it cannot be."""

    def __init__(self, home: str, argv: list[str], env: dict[str, str]) -> None:
        self.status: int | None = None
        self._childless = False
        self.output, out = os.pipe()
        gate, self._gate = os.pipe()
        self._failure, failure = os.pipe()
        self._program = argv[0]
        shim = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            become(shim, gate, out, failure, home, argv, env)
        for fd in (out, gate, failure):
            os.close(fd)
        state = {
            "shim_pid": shim,
            "shim_start": start_ticks(shim),
            "engine_pid": self.pid,
            "engine_start": start_ticks(self.pid),
            "pgid": self.pid,
            "started_at": time.time(),
        }
        try:
            write(os.path.join(home, "state.json"), json.dumps(state).encode())
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            raise

    def release(self) -> str | None:
        """Let it run; returns the sentence why its program could not be run, or None."""
        os.write(self._gate, b"g")
        os.close(self._gate)
        with open(self._failure, encoding="ascii") as pipe:
            number = pipe.read()
        if not number:
            return None
        why = "was not found" if int(number) == errno.ENOENT else f"cannot be run: {os.strerror(int(number))}"
        return f"modelport: the program {self._program!r} {why}\n"

    def signal(self, number: int) -> None:
        """To its whole group, which cannot be a stranger's: we have not reaped its leader."""
        if self.status is None:
            with suppress(OSError):
                os.killpg(self.pid, number)

    def reap(self) -> bool:
        """Take in whoever has ended; True once the engine has."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self.pid:
                    self.status = status
        except ChildProcessError:
            self._childless = True
        return self.status is not None

    def sweep(self) -> None:
        """Kill all that is left of it, in whatever session it hides.

        Only our own children are killed: their pids cannot be reused before we reap them. As each one dies, its
        children become ours, until there are none.
        """
        deadline = time.monotonic() + SWEEP_S
        self.reap()
        while not self._childless and time.monotonic() < deadline:
            for pid in children():
                with suppress(OSError):  # it may have taken another user's rights
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
            self.reap()


def become(shim: int, gate: int, out: int, failure: int, home: str, argv: list[str], env: dict[str, str]) -> None:
    """Turn the forked child into the engine. Never returns; an errno goes to `failure`."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim or os.read(gate, 1) != b"g":
            os._exit(1)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would keep that
        os.chdir(home)
        os.execvpe(argv[0], argv, env)  # noqa: S606
    except Exception as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        missing = number in (errno.ENOENT, errno.ENOTDIR)
        os.write(failure, str(errno.ENOENT if missing else number).encode())
        os._exit(127 if missing else 126)


class Log:
    """Output in whole lines, rotated; `tail` holds the last ones. A disk that takes no more loses lines, never time."""

    def __init__(self, path: str, secrets: list[str]) -> None:
        self.tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._path = path
        self._secrets = [secret.encode() for secret in secrets if secret]
        self._rest = b""
        self._fd, self._size, self._lost = -1, 0, 0

    def feed(self, chunk: bytes) -> None:
        """Take in bytes as they came."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        lines = [self._clean(line) for line in lines]
        if len(rest) > LINE_BYTES:
            # A line without an end: most of it goes on now. What could be the beginning of a secret waits.
            text, keep = self._clean(rest), max(map(len, self._secrets), default=1)
            lines.append(text[:-keep])
            rest = text[-keep:]
        self._rest = rest
        self._put([line[at : at + LINE_BYTES] for line in lines for at in range(0, len(line) or 1, LINE_BYTES)])

    def drain(self, fd: int) -> None:
        """Take in what is left in a pipe."""
        os.set_blocking(fd, False)
        with suppress(BlockingIOError):
            while chunk := os.read(fd, CHUNK_BYTES):
                self.feed(chunk)

    def close(self) -> None:
        """Put away the last line where it had no end, and say what was lost."""
        if self._rest:
            self.feed(b"\n")
        if self._lost:
            self.tail.append(self._notice())

    def _clean(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r").rpartition(b"\r")[2]  # of a progress bar, what a terminal would show
        line = NOISE.sub(b"", line)
        for secret in self._secrets:
            line = line.replace(secret, b"[engine key]")
        return line

    def _notice(self) -> bytes:
        return b"modelport: %d lines of output were lost, the log could not be written" % self._lost

    def _put(self, lines: list[bytes]) -> None:
        if not lines:
            return
        self.tail.extend(line[:TAIL_LINE_BYTES] for line in lines)
        data = b"".join(line + b"\n" for line in ([self._notice(), *lines] if self._lost else lines))
        try:
            if self._fd < 0 or self._size + len(data) > LOG_BYTES:
                self._open()
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            self._lost += len(lines)
            if self._fd >= 0:
                with suppress(OSError):
                    os.truncate(self._fd, self._size)  # no torn line stays
        else:
            self._size += len(data)
            self._lost = 0

    def _open(self) -> None:
        """Open the log; one that is open already is rotated away first."""
        if self._fd >= 0:
            names = [self._path] + [f"{self._path}.{n}" for n in range(1, LOG_FILES)]
            for older, newer in reversed(list(zip(names[1:], names))):  # noqa: B905 (strict= needs Python 3.10)
                if os.path.exists(newer):
                    os.replace(newer, older)
            os.close(self._fd)
            self._fd = -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd, self._size = os.open(self._path, flags, 0o600), 0


class Lease:
    """How long the engine may go on unless somebody renews. Measured by our own clock, so that a wrong date on either
    side ends nothing."""

    def __init__(self, path: str, lease_s: float) -> None:
        self._path, self._lease_s = path, lease_s
        self._mark: tuple[int, int] | None = None
        self._since = time.monotonic()

    def expired(self, now: float) -> bool:
        """Whether the lease ran out at `now` (monotonic seconds)."""
        try:
            stat = os.stat(self._path)
            mark = (stat.st_ino, stat.st_mtime_ns)
        except OSError:
            mark = self._mark
        if mark != self._mark:
            self._mark, self._since = mark, now
            self._lease_s = seconds_in(self._path, self._lease_s)
        return 0 < self._lease_s < now - self._since


class Reserve:
    """Room on the disk for exit.json, taken before the engine starts. Raises OSError where there is none."""

    def __init__(self, home: str) -> None:
        self._path, self._exit = os.path.join(home, "exit.reserve"), os.path.join(home, "exit.json")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._fd, 0, RESERVE_BYTES)

    def write_exit(self, exit: dict[str, Any]) -> None:
        """Write in place and rename; on a full disk with as many of the last lines as fit."""
        while True:
            data = json.dumps(exit).encode()
            try:
                if os.pwrite(self._fd, data, 0) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.ftruncate(self._fd, len(data))
                os.fsync(self._fd)
                return os.replace(self._path, self._exit)
            except OSError:
                if not exit["tail"]:
                    return None  # the directory is gone: nobody will look here
                exit["tail"] = exit["tail"][len(exit["tail"]) // 2 + 1 :]


def engine_env(home: str, launch: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The engine's environment, and the secrets in it. Raises ValueError for a reference that means nothing here."""
    secrets = {}
    with open(os.path.join(home, "key"), encoding="ascii") as file:
        key = file.read().strip()
    for name, reference in launch["secret_env"].items():
        if reference.startswith("env:"):
            if value := os.environ.get(reference.removeprefix("env:")):
                secrets[name] = value
        elif reference.startswith("file:/"):
            with open(reference.removeprefix("file:"), encoding="utf-8") as file:
                secrets[name] = file.read(64 << 10).strip()
        elif reference == "engine-key":
            secrets[name] = key
        else:
            raise ValueError(f"{name} refers to no secret: only 'engine-key', 'env:NAME' and 'file:/path' are known")
    passed = {k: v for k, v in os.environ.items() if any(fnmatchcase(k, pattern) for pattern in PASSED_ON)}
    return {**passed, **launch["env"], **secrets, **launch["marks"]}, [key, *secrets.values()]


def children() -> list[int]:
    """The pids of our direct children, zombies not among them."""
    found, me = [], str(os.getpid())
    for name in os.listdir("/proc"):
        fields = stat_fields(name) if name.isdigit() else None
        if fields and fields[1] == me and fields[0] not in "ZX":
            found.append(int(name))
    return found


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with its pid, who it is."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def stat_fields(pid: int | str) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from the state on (proc_pid_stat(5)), or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def seconds_in(path: str, otherwise: float) -> float:
    """The number of seconds in a file."""
    try:
        with open(path, encoding="ascii") as file:
            return float(file.read())
    except (OSError, ValueError):
        return otherwise


def write(path: str, data: bytes) -> None:
    """Write a file in one step, mode 0600."""
    part = f"{path}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), part)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(part, path)


def say(code: int, text: str) -> int:
    """A line on stderr, and the exit code to go with it."""
    print(text, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
