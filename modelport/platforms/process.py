"""Engines as processes of this machine, each under a shim that outlives whoever launched it."""

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from signal import SIGKILL, SIGTERM
from urllib.parse import urlsplit

from modelport.domain.instance import Exit, Instance, Observed
from modelport.domain.launch import ENGINE_KEY, FROM_ENVIRONMENT, FROM_FILE, SECRET_MARK, Labels, Launch
from modelport.errors import NOT_FOUND, NOT_READY, ModelportError
from modelport.platforms import procfs
from modelport.platforms.home import Home, State
from modelport.platforms.logfile import LogFile

SHIM = Path(__file__).parent.parent / "shim" / "shim.py"
INSTANCE_ID = re.compile(r"[a-z0-9-]{1,100}")
SECRET_FILE = re.compile(r"[a-z0-9][a-z0-9_-]{0,50}\.(?:yaml|json|toml|key)")
OWN_FILES = frozenset({"launch.json", "state.json", "exit.json"})
"""What the platform and its shim keep in an instance's directory, of names that a secret file could have."""
SHIM_START_S = 30.0
POLL_S = 0.05
FOLLOW_S = 0.2
BEYOND_GRACE_S = 3.0
"""How long a shim may take over the grace before everything of the instance is killed over its head."""
GIVE_UP_S = 10.0
"""How long a killed process may linger in the kernel."""
TAIL_LINES = 200
MEMORY_SHARE = 0.02
"""Measuring memory walks page tables; it is done no more often than costs this share of one core."""


class ProcessPlatform:
    """Platform `process`. Everything is under `state_dir/instances/ID`, and in the processes' own environment."""

    name = "process"

    def __init__(self, state_dir: Path) -> None:
        self._instances = state_dir.absolute() / "instances"
        self._memory: dict[tuple[int, int], tuple[float, int | None]] = {}

    async def launch(self, launch: Launch) -> Instance:
        """Start it; see Platform. The engine runs, or exit.json says why it does not, when this returns."""
        return await asyncio.to_thread(self._launch, launch)

    async def inspect(self, instance: Instance) -> Observed:
        return await asyncio.to_thread(self._inspect, instance)

    async def listens(self, instance: Instance) -> bool:
        return await asyncio.to_thread(procfs.listens, _marks(instance.labels), urlsplit(instance.url).port)

    async def logs(self, instance: Instance, tail: int, follow: bool) -> AsyncIterator[str]:
        home = _home(instance)
        log = LogFile(home.path)
        try:
            for line in await asyncio.to_thread(log.tail, tail):
                yield line
            while follow:
                ended = not home.locked()  # asked before reading: then what is read is all
                while lines := await asyncio.to_thread(log.new):
                    for line in lines:
                        yield line
                if ended:
                    return
                await asyncio.sleep(FOLLOW_S)
        finally:
            log.close()

    async def stop(self, instance: Instance, grace_s: float) -> None:
        home, told = _home(instance), set[int]()
        asked_at = time.monotonic()
        await asyncio.to_thread(home.try_write, "grace", f"{grace_s}\n")
        while True:
            late_s = time.monotonic() - asked_at - grace_s
            left = await asyncio.to_thread(self._stop, home, instance.labels, told, late_s)
            if left is None:
                return
            if late_s > BEYOND_GRACE_S + GIVE_UP_S:
                raise ModelportError(
                    f"Instance {instance.labels.instance} does not end: the kernel keeps process "
                    f"{', '.join(map(str, left))} although it was killed. A device driver may hang.",
                    NOT_READY,
                )
            await asyncio.sleep(POLL_S)

    async def renew(self, instance: Instance, lease_s: float) -> None:
        try:
            await asyncio.to_thread(_home(instance).renew, lease_s)
        except OSError as error:
            raise ModelportError(
                f"The lease of instance {instance.labels.instance} cannot be renewed: {_why(error)}", NOT_FOUND
            ) from None

    async def discover(self, owner: str) -> list[Instance]:
        return await asyncio.to_thread(self._discover, owner)

    async def forget(self, instance: Instance) -> None:
        await asyncio.to_thread(self._forget, instance)

    def _launch(self, launch: Launch) -> Instance:
        if launch.labels is None:
            raise ValueError("a Launch is bound to an instance before it is launched")
        labels = launch.labels
        home = Home(self._instances / _checked(labels.instance))
        for name, reference in launch.secret_env.items():
            if reference != ENGINE_KEY and not reference.startswith((FROM_ENVIRONMENT, FROM_FILE)):
                raise ModelportError(f"{name} refers to no secret: write env:NAME or file:/path.")
        for name in launch.secret_files:
            if name in OWN_FILES or not SECRET_FILE.fullmatch(name):
                raise ModelportError(f"{name!r} cannot be the name of a secret file of instance {labels.instance}.")
        if any("\0" in text for text in (*launch.argv, *launch.env.values(), labels.service, labels.owner)):
            raise ModelportError(f"An argument or variable of instance {labels.instance} holds a NUL character.")
        try:
            home.make()
            # Hexadecimal: no parser takes it for an option, as it would a key that begins with "-".
            home.write_first("key", secrets.token_hex(32))
            for name, text in launch.secret_files.items():
                home.write_first(name, text.replace(SECRET_MARK, (home.path / "key").read_text()))
            home.write_first("lease", f"{launch.lease_s}\n")
            home.write_first("launch.json", json.dumps(_written(launch, labels, home)))
            first = home.launch()
        except (OSError, ValueError) as error:
            raise ModelportError(
                f"Instance {labels.instance} cannot be prepared: {_why(error)} Nothing was started.", NOT_READY
            ) from None
        if not home.begun():
            self._start(home, first["marks"])
        return _instance(first["marks"])

    def _start(self, home: Home, marks: Mapping[str, str]) -> None:
        """Run the shim until it went into the background. Raises ModelportError when no engine came of it."""
        try:
            shim = subprocess.run(
                [sys.executable, "-I", "-S", str(SHIM), str(home.path)],
                env={**os.environ, **marks},  # the shim passes on what an engine may see
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                timeout=SHIM_START_S,
            )
            said = shim.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        except subprocess.TimeoutExpired:
            self._kill(marks)
            said = f"it took longer than {SHIM_START_S:.0f} s."
        except (OSError, ValueError) as error:
            said = _why(error)
        # Whatever it answered, the files have the last word: another caller's shim may have been faster.
        if not home.begun():
            raise ModelportError(
                f"The shim of instance {home.path.name} could not start its engine: {said or 'it gave no reason.'}",
                NOT_READY,
            )

    def _inspect(self, instance: Instance) -> Observed:
        home = _home(instance)
        if home.locked():
            return self._running(home.state(), _marks(instance.labels))
        if exit := home.exit():
            return Observed(running=False, exit=exit)
        if home.state():
            return self._bury(home, instance.labels, "shim died")
        # Never started; or a shim that has not got to its lock; or its directory was lost while it runs.
        return Observed(running=any(procfs.marked(_marks(instance.labels))))

    def _running(self, state: State | None, marks: Mapping[str, str]) -> Observed:
        """What to say under a live shim. Its engine's pid is only believed with its start time, and as the shim's
        child (some engines overwrite their environment for a title) or by its marks."""
        if state is None or procfs.start_ticks(state.engine_pid) != state.engine_start:
            return Observed(running=True)
        witness = state.shim_pid if procfs.parent(state.engine_pid) == state.shim_pid else state.engine_pid
        if not marks.items() <= procfs.marks(witness).items():
            return Observed(running=True)
        return Observed(running=True, pid=state.engine_pid, memory_bytes=self._memory_of(state))

    def _memory_of(self, state: State) -> int | None:
        who, now = (state.engine_pid, state.engine_start), time.monotonic()
        due_at, taken = self._memory.get(who, (0.0, None))
        if now >= due_at:
            taken = procfs.memory_bytes(state.engine_pid)
            done = time.monotonic()
            self._memory = {w: m for w, m in self._memory.items() if m[0] > now - 3600} | {
                who: (done + (done - now) / MEMORY_SHARE, taken)
            }
        return taken

    def _bury(self, home: Home, labels: Labels, cause: str) -> Observed:
        """Write the end of an instance whose shim cannot, after killing what is left of it."""
        try:
            with home.hold() as held:
                if not held:
                    return Observed(running=True)
                if exit := home.exit():
                    return Observed(running=False, exit=exit)
                self._kill(_marks(labels))
                with closing(LogFile(home.path)) as log:
                    exit = Exit(cause=cause, tail=tuple(log.tail(TAIL_LINES)), at=time.time())
                home.try_write("exit.json", json.dumps(asdict(exit)))  # full disk: who asks again finds out again
                return Observed(running=False, exit=exit)
        except OSError:  # not even a lock can be made there, so no shim can begin
            self._kill(_marks(labels))
            return Observed(running=False, exit=Exit(cause=cause, at=time.time()))

    def _kill(self, marks: Mapping[str, str]) -> None:
        """SIGKILL to all with these marks, until there are none or GIVE_UP_S have passed."""
        deadline = time.monotonic() + GIVE_UP_S
        while (left := [pid for pid, _ in procfs.marked(marks)]) and time.monotonic() < deadline:
            for pid in left:
                procfs.send(pid, SIGKILL, marks)
            time.sleep(POLL_S / 5)

    def _stop(self, home: Home, labels: Labels, told: set[int], late_s: float) -> list[int] | None:
        """One look at an instance that is to end, and the next step. Returns the pids left, None at the end."""
        marks = _marks(labels)
        living = home.locked()
        if not living and home.exists() and not home.exit():
            self._bury(home, labels, "shim died" if home.state() else "stopped")
        left = [pid for pid, _ in procfs.marked(marks)]
        state = home.state()
        if not living and home.exists():
            late_s = BEYOND_GRACE_S + 1  # its shim is gone: nobody else would
        if late_s > BEYOND_GRACE_S:
            for pid in left:
                procfs.send(pid, SIGKILL, marks)
            return left if left or living else None
        # The shim alone is told, it tells its engine. Without a directory it is known by having no parent of ours.
        shims = {state.shim_pid} if state else {pid for pid in left if procfs.parent(pid) not in left}
        for pid in shims - told:
            if procfs.send(pid, SIGTERM, marks):
                told.add(pid)
        return left if left or living else None

    def _discover(self, owner: str) -> list[Instance]:
        found: dict[str, Instance] = {}
        for _, marks in procfs.marked({"MODELPORT_OWNER": owner}):
            if INSTANCE_ID.fullmatch(id := marks.get("MODELPORT_INSTANCE", "")) and "MODELPORT_INSTANCE_DIR" in marks:
                found[id] = _instance(marks)
        return [found[id] for id in sorted(found)]

    def _forget(self, instance: Instance) -> None:
        home = _home(instance)
        if not os.path.lexists(home.path):
            return
        own = os.path.join(os.path.realpath(self._instances), instance.labels.instance)
        if os.path.realpath(home.path) != own or home.path.is_symlink():
            raise ModelportError(f"{home.path} is not removed: it is not a directory of {self._instances}.")
        try:
            with home.hold() as held:
                if not held or any(procfs.marked(_marks(instance.labels))):
                    raise ModelportError(
                        f"Instance {instance.labels.instance} still runs; stop it before forgetting it."
                    )
                shutil.rmtree(own)
        except OSError as error:
            raise ModelportError(f"Instance {instance.labels.instance} cannot be removed: {_why(error)}") from None


def _marks(labels: Labels) -> dict[str, str]:
    """The labels as environment: what marks every process of an instance."""
    return {
        "MODELPORT_SERVICE": labels.service,
        "MODELPORT_INSTANCE": labels.instance,
        "MODELPORT_OWNER": labels.owner,
    }


def _written(launch: Launch, labels: Labels, home: Home) -> dict[str, object]:
    """launch.json: what the shim needs, and in `marks` all that makes the Instance again without it."""
    host = f"[{launch.host}]" if ":" in launch.host else launch.host
    marks = {
        **_marks(labels),
        "MODELPORT_INSTANCE_DIR": str(home.path),
        "MODELPORT_INSTANCE_URL": f"http://{host}:{launch.port}",
    }
    return {
        "argv": list(launch.argv),
        "env": dict(launch.env),
        "secret_env": dict(launch.secret_env),
        "labels": asdict(labels),
        "marks": marks,
        "host": launch.host,
        "port": launch.port,
        "grace_s": launch.grace_s,
        "lease_s": launch.lease_s,
    }


def _instance(marks: Mapping[str, str]) -> Instance:
    directory = marks["MODELPORT_INSTANCE_DIR"]
    return Instance(
        labels=Labels(marks["MODELPORT_SERVICE"], marks["MODELPORT_INSTANCE"], marks["MODELPORT_OWNER"]),
        platform=ProcessPlatform.name,
        url=marks["MODELPORT_INSTANCE_URL"],
        key_ref=f"file:{directory}/key",
        handle={"dir": directory},
    )


def _home(instance: Instance) -> Home:
    _checked(instance.labels.instance)
    return Home(Path(instance.handle["dir"]))


def _checked(id: str) -> str:
    """An id that is safe as a file's name. Raises ModelportError."""
    if not INSTANCE_ID.fullmatch(id):
        raise ModelportError(f"{id!r} is not an instance id: those are 1 to 100 of a-z, 0-9 and '-'.")
    return id


def _why(error: Exception) -> str:
    """The reason as the end of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})." if error.filename else f"{error.strerror}."
    return f"{error}."
