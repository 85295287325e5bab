"""Archive: a tar of a model, unpacked without trust.

Nothing of Python's own extraction is used: this writes plain files and directories, each new, and makes a link inside
the archive a second name of the file it leads to (a hard link). So nothing it writes can lead elsewhere while it is
unpacked or later. Everything is bounded: files, bytes, and each header.
"""

import errno
import gzip
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from modelport.errors import ModelportError

MOST_MEMBERS = 10_000
MOST_RATIO, LEAST_BOUND_BYTES = 20, 1 << 30
"""What may come out: so many times the archive's size, or this where that is more. Weights shrink by a tenth."""
HEADER_BYTES = 1 << 20
"""Of one read: Python's reader takes an extended header whole, whatever length it claims."""
COPY_BYTES = 256 << 10
MOST_HOPS = 8
"""Links that lead to links."""
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError, RecursionError)


def _zstd(file: IO[bytes]) -> Any:
    if find_spec("zstandard") is None:
        raise ModelportError("A .tar.zst needs a package that is not installed: pip install 'modelport[cloud]'.")
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file)  # 128 MiB: zstd --long


OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".tar": lambda file: file,
    ".tar.gz": lambda file: gzip.GzipFile(fileobj=file),
    ".tgz": lambda file: gzip.GzipFile(fileobj=file),
    ".tar.zst": _zstd,
}
"""By the end of its name: what gives an archive's plain bytes."""


def is_archive(name: str) -> bool:
    """Whether this is a tar archive by its name."""
    return bool(_suffix(name))


def _suffix(name: str) -> str:
    return next((suffix for suffix in OPENERS if name.lower().endswith(suffix)), "")


def unpack(archive: Path, into: Path, shown: str, told: Callable[[int, int], None]) -> None:
    """Unpack into a new directory. `told` hears how many of the archive's bytes are read.

    Raises ModelportError: damaged, more than the bounds, a name or a link that leads out, a device; `shown` is how it
    is called then. OSError of the disk passes through.
    """
    size = archive.stat().st_size
    into.mkdir(mode=0o700)
    with archive.open("rb") as file:
        bound = max(size * MOST_RATIO, LEAST_BOUND_BYTES)
        plain = _Careful(OPENERS[_suffix(archive.name)](file), bound, shown)
        try:
            with tarfile.open(fileobj=plain, mode="r:", errorlevel=2) as tar:  # type: ignore[arg-type]
                _Unpacking(into, bound, shown).all(tar, lambda: told(min(size, file.tell()), size))
            plain.end()
        except _DAMAGED:
            raise ModelportError(f"{shown} is no whole tar archive: it cannot be read to its end.") from None
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise ModelportError(f"{shown} is no whole zstd archive: it cannot be read to its end.") from None


def top(directory: Path) -> Path:
    """The directory that holds the model: one that stands alone in another is that one's content. What macOS leaves in
    archives does not count."""
    while len(inside := [e for e in directory.iterdir() if not e.name.startswith(("._", ".DS_Store"))]) == 1:
        if not inside[0].is_dir():
            break
        directory = inside[0]
    return directory


class _Careful:
    """An archive's plain bytes, as tarfile reads them: never more at once, or in all, than the bounds."""

    def __init__(self, file: Any, bound: int, shown: str) -> None:
        self.file, self.bound, self.shown = file, bound, shown
        self.at = 0
        self.last = b""

    def read(self, count: int) -> bytes:
        if count > HEADER_BYTES:
            raise ModelportError(f"{self.shown} has a header of {count:,} bytes, which no archive of a model has.")
        data = self.file.read(count)
        self.at += len(data)
        if self.at > self.bound:
            raise _too_much(self.shown, self.bound)
        self.last = data
        return data

    def seek(self, to: int) -> int:
        """Forward, by reading: not every decompressor can do more."""
        if to < self.at:
            raise tarfile.ReadError("backwards")
        while self.at < to and self.read(min(COPY_BYTES, to - self.at)):
            pass
        return self.at

    def tell(self) -> int:
        return self.at

    def end(self) -> None:
        """Read on to the checksum at the end. Raises EOFError where tarfile stopped at anything but the mark of an
        archive's end, which it takes for one without a word."""
        if self.last != bytes(tarfile.BLOCKSIZE):
            raise EOFError
        while self.read(COPY_BYTES):
            pass


def _too_much(shown: str, bound: int) -> ModelportError:
    return ModelportError(f"{shown} unpacks to more than {bound:,} bytes, which no model's does.")


class _Unpacking:
    """The members of one archive, one after the other as they stand in it."""

    def __init__(self, into: Path, bound: int, shown: str) -> None:
        self.into, self.bound, self.shown = into, bound, shown
        self.files: set[str] = set()
        self.links: dict[str, str] = {}
        self.bytes = 0

    def all(self, tar: tarfile.TarFile, told: Callable[[], None]) -> None:
        for count, member in enumerate(tar, 1):
            if count > MOST_MEMBERS:
                raise ModelportError(f"{self.shown} holds more than {MOST_MEMBERS:,} files.")
            name = self._name(member.name, "the name")
            if member.isdir():
                self._directory(name)
            elif member.issym():
                joined = posixpath.join(posixpath.dirname(name), member.linkname)
                self.links[name] = self._name(joined, "a link", member.linkname)
            elif member.islnk():
                self.links[name] = self._name(member.linkname, "a link")
            elif member.isreg():
                self._file(tar, member, name, told)
            else:
                raise ModelportError(f"{self.shown} holds {name!r}, which is a device or a pipe, and no file.")
        for name, target in self.links.items():
            self._link(name, target)
        if not self.files:
            raise ModelportError(f"{self.shown} holds no file.")

    def _name(self, name: str, what: str, written: str = "") -> str:
        """A path inside, without `.` and `..`."""
        path = posixpath.normpath(name)
        if (written or name).startswith("/") or path.split("/")[0] == ".." or "\0" in name:
            raise ModelportError(f"{self.shown} is refused: {what} {(written or name)[:200]!r} in it leads out of it.")
        if what == "the name" and ".." in name.split("/"):
            raise ModelportError(f"{self.shown} is refused: the name {name[:200]!r} in it has '..'.")
        return path

    def _directory(self, name: str) -> None:
        try:
            (self.into / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self._twice(name) from None

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, told: Callable[[], None]) -> None:
        self.bytes += member.size  # a sparse file's is more than what is read of it
        if self.bytes > self.bound:
            raise _too_much(self.shown, self.bound)
        if member.size > shutil.disk_usage(self.into).free:
            raise OSError(errno.ENOSPC, "")
        source: Any = tar.extractfile(member)
        self._directory(posixpath.dirname(name))
        try:
            descriptor = os.open(self.into / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except (FileExistsError, IsADirectoryError):
            raise self._twice(name) from None
        with open(descriptor, "wb") as target:
            left = member.size
            while left:
                data = source.read(min(COPY_BYTES, left))
                if not data:
                    raise EOFError
                target.write(data)
                left -= len(data)
                told()
            target.flush()
            os.fsync(target.fileno())
        self.files.add(name)

    def _link(self, name: str, target: str) -> None:
        for _ in range(MOST_HOPS):
            if target in self.files or target not in self.links:
                break
            target = self.links[target]
        if target not in self.files:
            raise ModelportError(f"{self.shown} is refused: {name!r} in it is a link to no file of it.")
        self._directory(posixpath.dirname(name))
        try:
            os.link(self.into / target, self.into / name)
        except FileExistsError:
            raise self._twice(name) from None

    def _twice(self, name: str) -> ModelportError:
        return ModelportError(f"{self.shown} is refused: it holds {name!r} twice, or as a file and a directory.")
