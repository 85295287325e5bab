"""Readable: bytes that header readers look into, wherever they lie."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from modelport.errors import ModelportError

_POINTER = b"version https://git-lfs.github.com/spec/"
"""What git-lfs leaves in place of a file that was not fetched (its docs/spec.md: at most 1024 bytes)."""
_POINTER_BYTES = 1024


class Readable(Protocol):
    """A file of known size whose bytes can be had by offset."""

    size: int
    """bytes"""
    name: str
    """As sentences name it."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on; fewer only at the end of the file."""
        ...


class LocalFile:
    """A Readable of a file on this machine."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self.name = descriptor, name
        self.size = os.fstat(descriptor).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, offset)


@contextmanager
def local_file(path: Path) -> Iterator[LocalFile]:
    """`path`, opened. Raises ModelportError for what is no regular file or only a pointer to one; OSError passes
    through."""
    # A pipe that nobody writes to would be waited for without end.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ModelportError(f"{str(path)!r} is not a regular file.", param="model")
        if os.fstat(descriptor).st_size <= _POINTER_BYTES and os.pread(descriptor, len(_POINTER), 0) == _POINTER:
            raise ModelportError(
                f"{str(path)!r} is only git-lfs's pointer to the file: run `git lfs pull` in its directory.",
                param="model",
            )
        yield LocalFile(descriptor, str(path))
    finally:
        os.close(descriptor)
