"""Home: an instance's directory, where its platform and its shim meet. The files are listed in shim.py."""

import errno
import fcntl
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.domain.instance import Exit


@dataclass(frozen=True, slots=True)
class State:
    """state.json: who the shim and its engine are, each a pid and when it started, in clock ticks since boot."""

    shim_pid: int
    shim_start: int
    engine_pid: int
    engine_start: int


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one instance, mode 0700; its files are 0600 and replaced in one step."""

    path: Path

    def make(self) -> None:
        """Make the directory, and those above it. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)

    def exists(self) -> bool:
        return self.path.is_dir()

    def write(self, name: str, text: str) -> None:
        """Replace a file. Raises OSError."""
        os.replace(self._part(text), self.path / name)

    def try_write(self, name: str, text: str) -> None:
        """Replace a file, where that can be done: what it says has a default."""
        with suppress(OSError):
            self.write(name, text)

    def write_first(self, name: str, text: str) -> None:
        """Write a file unless it is there: of several writers the first wins, and all read the same. Raises OSError."""
        if not (self.path / name).exists():
            part = self._part(text)
            try:
                with suppress(FileExistsError):
                    os.link(part, self.path / name)
            finally:
                os.unlink(part)

    def renew(self, lease_s: float) -> None:
        """Rewrite the lease; on a full disk touch it, which the shim takes as well. Raises OSError."""
        try:
            self.write("lease", f"{lease_s}\n")
        except OSError:
            os.utime(self.path / "lease")

    def launch(self) -> dict[str, Any]:
        """What was first asked to run here. Raises OSError and ValueError."""
        return json.loads((self.path / "launch.json").read_text())

    def state(self) -> State | None:
        """Who runs here or ran; None as long as no engine was started."""
        found = self._json("state.json")
        return State(**{name: int(found[name]) for name in State.__slots__}) if found else None

    def exit(self) -> Exit | None:
        """How the engine ended, once it has."""
        found = self._json("exit.json")
        return (
            Exit(found["code"], found["signal"], found["cause"], tuple(found["tail"]), found["at"]) if found else None
        )

    def begun(self) -> bool:
        """Whether its one engine was started, or is just being: then nothing may be started again."""
        return self.locked() or self.state() is not None or self.exit() is not None

    def locked(self) -> bool:
        """Whether a shim (or somebody in `hold`) lives here. Asks the kernel and takes nothing."""
        try:
            with open(self.path / "lock", "r+b") as file:
                answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK))
        except OSError:
            return False
        return struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Keep shims out for a while; gives False where one is in. Raises OSError where the directory is missing."""
        with os.fdopen(os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK))
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                yield False
            else:
                yield True

    def _part(self, text: str) -> Path:
        """A new file with this text, safe on the disk, to be put in its place."""
        fd, name = tempfile.mkstemp(prefix=".part-", dir=self.path)
        try:
            with os.fdopen(fd, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.unlink(name)
            raise
        return Path(name)

    def _json(self, name: str) -> Mapping[str, Any] | None:
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return None


def _lock(kind: int) -> bytes:
    """`struct flock` of 64-bit Linux, for the whole file. Open-file-description locks: two threads exclude each other,
    and asking (F_OFD_GETLK) does not disturb a shim that is just about to take it."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
