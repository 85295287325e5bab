"""Journal: what a gateway writes down before it dispatches a request and after it ended, one `os.write` each.

A record that was appended outlives the process, however that ends (kill -9 too): the kernel has it. It does not wait
for the disk: `sync`, called each second, does, so a power failure can cost the last second.
"""

import errno
import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path

from modelport.errors import NOT_READY, ModelportError
from modelport.store.journals import Head, encoded, gateway_of, needed, segment_path, segments

SEGMENT_BYTES = 64 << 20
SLOTS = 1024


class Taken(ModelportError):
    """Another process writes this journal."""


class Journal:
    """The journal of one gateway process. Raises Taken where another has it, OSError where it cannot be made."""

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._segment_bytes = segment_bytes
        self._lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.gateway_id = _identity(directory)
            """Leases belong to it; whoever has the directory has the id."""
            self.needed = needed(directory)
            """Nothing before this position is open or waits for the store. The ledger moves it on."""
            kept = segments(directory)
        except BlockingIOError:
            os.close(self._lock)
            raise Taken(f"The journal {directory} is written by another gateway process.", NOT_READY) from None
        except BaseException:
            os.close(self._lock)
            raise
        self._start = kept[-1].end if kept else 0
        self._size = 0
        self._file = -1  # a segment is begun by the first record: one that ended torn is never gone on with
        self._full: list[int] = []

    @property
    def position(self) -> int:
        """Where the last record ends."""
        return self._start + self._size

    def append(self, record: bytes) -> int:
        """Write one line; the position of its end. Raises OSError, with nothing of it written that counts."""
        if self._file < 0 or self._size >= self._segment_bytes:
            self._begin(self.position)
        if not self._size:
            self._write(encoded(Head(self._start, min(self.needed, self._start))))
        self._write(record)
        return self._start + self._size

    def advance(self, position: int) -> None:
        """Go on at `position` where that is later: the store knows a journal of this gateway that was longer."""
        if position > self.position:
            self._begin(position)

    def _begin(self, position: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(segment_path(self.directory, position), flags, 0o600)
        if self._file >= 0:
            self._full.append(self._file)
        self._file, self._start, self._size = file, position, 0

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._undo(written)
            raise
        self._size += written

    def _undo(self, written: int) -> None:
        """Cut off what was half written, else leave that segment behind: a line without its end does not count."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._full.append(self._file)
            self._start, self._size, self._file = self.position + written, 0, -1

    # On the writing thread

    def sync(self) -> None:
        """Wait until the disk has what was appended. Raises OSError."""
        full, self._full = self._full, []
        file = self._file
        for done in full:
            try:
                os.fdatasync(done)
            finally:
                os.close(done)
        if file >= 0:
            os.fdatasync(file)

    def prune(self, keep_bytes: int) -> None:
        """Delete the oldest segments that nothing needs, while more than `keep_bytes` are kept. Raises OSError."""
        kept = segments(self.directory)
        total = sum(segment.end - segment.start for segment in kept)
        for segment in kept[:-1]:  # never the one that is written, though nothing in it may be needed
            if total <= keep_bytes or segment.end > self.needed:
                return
            segment.path.unlink()
            total -= segment.end - segment.start

    def close(self) -> None:
        """Sync, and let another process have it."""
        with suppress(OSError):
            self.sync()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        os.close(self._lock)


def claim(parent: Path) -> Journal:
    """The journal in the first free slot below `parent`: 0, 1, …, one for each gateway process of this machine.

    Raises ModelportError where none can be had.
    """
    for slot in range(SLOTS):
        try:
            return Journal(parent / str(slot))
        except Taken:
            continue
        except OSError as error:
            raise ModelportError(f"The journal {parent / str(slot)} cannot be made: {error.strerror}.") from None
    raise ModelportError(f"All {SLOTS} journals below {parent} are in use.")


def _identity(directory: Path) -> str:
    try:
        found = gateway_of(directory)
        if found:
            return found
    except FileNotFoundError:
        pass
    made = directory / "id.new"
    with open(os.open(made, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write("gw-" + secrets.token_hex(8))
        file.flush()
        os.fsync(file.fileno())
    made.replace(directory / "id")
    return gateway_of(directory)
