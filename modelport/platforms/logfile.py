"""LogFile: an engine's output in rotated files, read from its last lines on."""

import os
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 64 << 10
NAMES = ("engine.log", "engine.log.1", "engine.log.2")
"""Newest first, as the shim rotates them."""


class LogFile:
    """A reader of one instance's log. `tail` first, then `new` as often as one likes; rotation goes unnoticed."""

    def __init__(self, directory: Path) -> None:
        self._paths = [directory / name for name in NAMES]
        self._file: BinaryIO | None = None
        self._rest = b""

    def tail(self, count: int) -> list[str]:
        """The last lines, at most `count`."""
        lines: list[bytes] = []
        seen: set[int] = set()
        for path in self._paths:
            file = _open(path)
            if file is None or (inode := os.fstat(file.fileno()).st_ino) in seen:  # rotated as we looked
                continue
            seen.add(inode)
            *older, rest = _end(file, count - len(lines)).split(b"\n")
            lines = older[max(0, len(older) - (count - len(lines))) :] + lines
            if self._file is None:
                self._file, self._rest = file, rest
            else:
                file.close()
            if len(lines) >= count:
                break
        return [_text(line) for line in lines]

    def new(self) -> list[str]:
        """Whole lines written since the last call, some of them where there are many; empty when there are none."""
        while True:
            newer = self._newer()  # looked for before reading: then what we read to its end is complete
            data = self._file.read(BLOCK_BYTES) if self._file else b""
            if data:
                if newer:
                    newer.close()
                *lines, self._rest = (self._rest + data).split(b"\n")
                if lines:
                    return [_text(line) for line in lines]
            elif newer:
                self.close()
                self._file, self._rest = newer, b""
            else:
                return []

    def close(self) -> None:
        """Close what is open."""
        if self._file:
            self._file.close()

    def _newer(self) -> BinaryIO | None:
        """The file that follows the one being read; the oldest where that one was rotated away."""
        here = os.fstat(self._file.fileno()).st_ino if self._file else None
        following: Path | None = None
        for path in self._paths:
            try:
                inode = path.stat().st_ino
            except OSError:
                continue
            if inode == here:
                break
            following = path
        return _open(following) if following else None


def _open(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except OSError:
        return None


def _end(file: BinaryIO, lines: int) -> bytes:
    """So much of a file's end that it holds this many whole lines; the file is left at its end."""
    position = end = file.seek(0, os.SEEK_END)
    blocks: list[bytes] = []
    missing = lines + 1
    while position > 0 and missing > 0:
        size = min(BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        blocks.append(file.read(size))
        missing -= blocks[-1].count(b"\n")
    file.seek(end)
    return b"".join(reversed(blocks))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
