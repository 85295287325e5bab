"""Parts: one object on its way: the bytes that have come, and which of them, so that a break costs only what was under
way.

Two files: the object as it will be, written at any place in it, and the marks: one line that says which version of
which size they are of, then four bytes a chunk, how much of it has come. What was written before the machine itself
went down may be lost under marks that are not, so the line names the boot too.
"""

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 16 << 20
"""One request's; several are under way at once."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of an object, from `start` on; `have` bytes of it are here."""

    number: int
    start: int
    size: int
    have: int


class Parts:
    """What is here of one object. Its files are opened when something is put, so that a model may have thousands.

    `put` may be called by several threads, each for its own chunk.
    """

    def __init__(self, path: Path, marks: Path, size: int, tag: str) -> None:
        self.path, self.marks, self.size = path, marks, size
        self._head = json.dumps({"size": size, "tag": tag, "boot": _boot()}).encode() + b"\n"
        self._lock = threading.Lock()
        self._opened: tuple[int, int] | None = None
        count = -(-size // CHUNK_BYTES)
        before = self._before(count)
        self._anew = before is None
        come = before or bytes(4 * count)
        have = [int.from_bytes(come[at : at + 4], "little") for at in range(0, 4 * count, 4)]
        sizes = [min(CHUNK_BYTES, size - number * CHUNK_BYTES) for number in range(count)]
        self.chunks = [
            Chunk(number, number * CHUNK_BYTES, whole, min(had, whole))
            for number, (whole, had) in enumerate(zip(sizes, have, strict=True))
        ]
        self._missing = sum(chunk.have < chunk.size for chunk in self.chunks)

    def _before(self, count: int) -> bytes | None:
        """The marks of an earlier try; None where there are none of this version."""
        try:
            text = self.marks.read_bytes()
        except FileNotFoundError:
            return None
        whole = text.startswith(self._head) and len(text) == len(self._head) + 4 * count and self.path.is_file()
        return text[len(self._head) :] if whole else None

    def _files(self) -> tuple[int, int]:
        """Descriptors of the object and the marks."""
        with self._lock:
            if self._opened is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if self._anew else 0)
                data = os.open(self.path, flags, 0o600)
                try:
                    marks = os.open(self.marks, flags, 0o600)
                except OSError:
                    os.close(data)
                    raise
                self._opened = data, marks
                if self._anew:
                    os.pwrite(marks, self._head + bytes(4 * len(self.chunks)), 0)
                    self._anew = False
            return self._opened

    @property
    def have_bytes(self) -> int:
        """What was here when it was opened."""
        return sum(chunk.have for chunk in self.chunks)

    @property
    def whole(self) -> bool:
        return not self._missing

    def put(self, chunk: Chunk, at: int, data: bytes) -> bool:
        """Write bytes `at` so many of a chunk; whether this was the last of the object. OSError passes through."""
        file, marks = self._files()
        view, place = memoryview(data), chunk.start + at
        while view:
            wrote = os.pwrite(file, view, place)
            view, place = view[wrote:], place + wrote
        come = at + len(data)
        os.pwrite(marks, come.to_bytes(4, "little"), len(self._head) + 4 * chunk.number)
        if come < chunk.size:
            return False
        with self._lock:
            self._missing -= 1
            return not self._missing

    def md5(self) -> bytes:
        """Of the whole object."""
        self._files()  # an empty one was never put
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()

    def finish(self, target: Path) -> None:
        """Put the whole object to its place."""
        os.fsync(self._files()[0])
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(self.path, target)
        self.marks.unlink()
        self.close()

    def discard(self) -> None:
        """Forget what has come."""
        self.close()
        for file in (self.marks, self.path):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            for descriptor in self._opened or ():
                os.close(descriptor)
            self._opened = None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
