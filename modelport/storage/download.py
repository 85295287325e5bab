"""Download: objects of a bucket → files, several ranges at a time, going on where an earlier try broke off.

Every range is asked for with If-Match, so that all bytes are of the version that was listed. What a connection brought
before it broke is kept (parts.py). A whole file is held against the store's own MD5 where it says one (digest.py).
"""

import errno
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.errors import NOT_READY, ModelportError
from modelport.storage.calls import Calls, Changed
from modelport.storage.clouds import Env, Place, open_store
from modelport.storage.digest import same
from modelport.storage.parts import Chunk, Parts

WORKERS = 8
PIECE_BYTES = 1 << 20
"""Written and marked at a time: the most that a break costs of each range under way."""
ANSWER_S = 120.0
"""For one range; what came of it until then is kept, and the rest asked for anew."""
TRIES, FIRST_PAUSE_S = 5, 0.5
"""Without a single byte, each pause twice the one before: 16 s in all."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Told = Callable[[int, int], None]
"""Hears bytes that are here, and bytes in all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object: where in the bucket, and its file below the directory that is filled."""

    remote: str
    local: str
    size: int
    tag: str


def fetch(place: Place, env: Env, wanted: Sequence[Wanted], directory: Path, told: Told, *, spare: int = 0) -> None:
    """Fill `directory/whole` with these files; `directory/parts` keeps what is not whole yet.

    `spare` is disk needed beside them. Raises Changed when an object is another than was listed, ModelportError for
    damaged bytes, a full disk, and what the store says.
    """
    call = Calls(place, env)
    store = call(lambda: open_store(place, env, "", ANSWER_S))
    for name in ("whole", "parts"):
        (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    with disk(repr(place.given)), ExitStack() as opened:
        fetching = _Fetching(call, store, directory, sum(one.size for one in wanted), told)
        for number, one in enumerate(wanted):
            fetching.add(number, one, opened)
        need, free = fetching.all - fetching.have + spare, shutil.disk_usage(directory).free
        if need > free:
            raise ModelportError(
                f"There is not enough disk for {place.given!r}: {need:,} bytes are needed and {free:,} are free. Make "
                "room, or set XDG_CACHE_HOME to a directory on a larger disk.",
                NOT_READY,
            )
        fetching.run()


@contextmanager
def disk(shown: str) -> Iterator[None]:
    """A full disk as a sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in DISK_FULL
        raise ModelportError(
            f"The disk is full, or a limit on it reached, while {shown} was written. Make room, or set "
            "XDG_CACHE_HOME to a directory on a larger disk."
            if full
            else f"{shown} cannot be kept in the cache ({error.strerror}): check the directory that XDG_CACHE_HOME "
            "names.",
            NOT_READY,
        ) from None


class _Fetching:
    """All ranges of all files, on a few threads; the first that fails ends the others."""

    def __init__(self, call: Calls, store: Any, directory: Path, all_bytes: int, told: Told) -> None:
        self.call, self.store, self.directory = call, store, directory
        self.all, self.have = all_bytes, 0
        self._told = told
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._open: list[tuple[Wanted, Parts]] = []

    def add(self, number: int, one: Wanted, opened: ExitStack) -> None:
        """Look at what is here of one file already."""
        if (self.directory / "whole" / one.local).exists():
            self.have += one.size
            return
        named = self.directory / "parts" / str(number)
        parts = Parts(named.with_suffix(".part"), named.with_suffix(".marks"), one.size, one.tag)
        opened.callback(parts.close)
        self.have += parts.have_bytes
        self._open.append((one, parts))

    def run(self) -> None:
        self._told(self.have, self.all)
        with ThreadPoolExecutor(WORKERS) as pool:
            jobs = [pool.submit(self._finish, one, parts) for one, parts in self._open if parts.whole]
            jobs += [
                pool.submit(self._chunk, one, parts, chunk)
                for one, parts in self._open
                for chunk in parts.chunks
                if chunk.have < chunk.size
            ]
            try:
                done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
                failed = next((error for job in done if (error := job.exception())), None)
            finally:
                self._stop.set()
                for job in jobs:
                    job.cancel()
        if failed:
            raise failed

    def _chunk(self, one: Wanted, parts: Parts, chunk: Chunk) -> None:
        have, failed, last = chunk.have, 0, False
        while have < chunk.size and not self._stop.is_set():
            before, broke = have, None
            try:
                for piece in self._pieces(one, chunk.start + have, chunk.start + chunk.size):
                    last = parts.put(chunk, have, piece)
                    have += len(piece)
                    with self._lock:
                        self.have += len(piece)
                        self._told(self.have, self.all)
                    if self._stop.is_set():
                        return
            except Changed:
                raise
            except ModelportError as error:
                if error.kind is not NOT_READY:
                    raise
                broke = error
            failed = failed + 1 if have == before else 0
            if failed == TRIES:
                raise broke or ModelportError(f"{self.call.place.given!r} gives no bytes; try again.", NOT_READY)
            if failed:
                self._stop.wait(FIRST_PAUSE_S * 2 ** (failed - 1))
        if last:
            self._finish(one, parts)

    def _pieces(self, one: Wanted, start: int, end: int) -> Iterator[bytes]:
        """Bytes of one range as they come, never more than it has."""
        import obstore

        options: Any = {"range": (start, end), "if_match": f'"{one.tag}"'}
        try:
            answer = self.call(lambda: obstore.get(self.store, one.remote, options=options))
        except ModelportError as error:
            if error.kind is self.call.nothing().kind:
                raise Changed(f"{self.call.place.given!r} changed while it was downloaded; try again.") from None
            raise
        stream = iter(answer.stream(min_chunk_size=PIECE_BYTES))
        while piece := self.call(lambda: next(stream, None)):
            start += len(piece)
            if start > end:
                raise ModelportError(f"{self.call.place.given!r} gave more bytes than were asked for.", NOT_READY)
            yield piece

    def _finish(self, one: Wanted, parts: Parts) -> None:
        if not same(self.call.place, self.store, one.remote, one.tag, parts.md5):
            parts.discard()
            raise ModelportError(
                f"The bytes of {one.local!r} of {self.call.place.given!r} are not those that the store has (MD5): it "
                "was damaged on its way. Try again.",
                NOT_READY,
            )
        parts.finish(self.directory / "whole" / one.local)
