"""Readable: bytes that header readers look into, wherever they lie."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


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
    """`path`, opened. OSError passes through."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield LocalFile(descriptor, str(path))
    finally:
        os.close(descriptor)
