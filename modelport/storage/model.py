"""Model: what lies at a URI, as a file or a directory on this machine, downloaded once for all who ask.

Below `$XDG_CACHE_HOME/modelport/models`, for its owner alone: a directory for each version of each source, named by a
digest of where it is and of all its files' names, sizes and ETags. It appears whole or not at all; `.part` beside it
holds what has come so far. All of it can be deleted while no model is being loaded; nothing here ever is by itself.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from modelport.errors import NOT_READY, ModelportError
from modelport.storage.archive import is_archive, top, unpack
from modelport.storage.calls import Changed
from modelport.storage.clouds import Env, Place, place, place_of
from modelport.storage.download import Told, Wanted, disk, fetch
from modelport.storage.objects import File, files, found

CHANGES = 3
"""Versions that are begun, where one after the other is replaced while it comes."""
SAYS, SAYS_BYTES = (".json", ".txt", ".yaml", ".yml"), 1 << 20
"""Files beside an ONNX graph that may say what it does: labels, a sidecar."""
_PART = re.compile(r"(?P<stem>.*)-\d{5}(?P<end>-of-\d{5}\.gguf)", re.IGNORECASE)


def models_directory() -> Path:
    """Where downloaded models are; it need not exist."""
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (said if said.is_absolute() else Path.home() / ".cache") / "modelport" / "models"  # relative: not valid


def model(uri: str, env: Env = None, told: Told = lambda have, all: None) -> Path:
    """The file or directory that a URI names, as it is in the store now; of a tar archive what is in it.

    A file brings what belongs to it: parts of a split GGUF, an ONNX graph's data and labels. `told` hears bytes here
    and bytes in all, from any thread. Where nothing changed since it was downloaded, only its listing is asked for.
    Raises ModelportError: nothing there, may not be read, no answer after several tries (what has come is kept),
    changes all the time, a full disk, bytes that are not the store's, and for an archive what `unpack` refuses.
    """
    for _ in range(CHANGES):
        with contextlib.suppress(Changed):
            return _current(uri, env, told)
    raise ModelportError(f"{uri!r} changed {CHANGES} times while it was downloaded; try again.", NOT_READY)


def _current(uri: str, env: Env, told: Told) -> Path:
    where = place(uri)
    wanted, file = _listed(where, env)
    archive = wanted[0].local if file and is_archive(file) else ""
    kept = _kept(
        [place_of(uri, env), where.uri, *(f"{one.local} {one.size} {one.tag}" for one in wanted)],
        lambda at: _fill(where, env, wanted, archive, at, told),
    )
    return top(kept) if archive else kept / file if file else kept


def unpacked(path: Path, told: Told = lambda have, all: None) -> Path:
    """The directory that a tar archive on this machine holds, unpacked once. Raises ModelportError as `unpack` does,
    and for a file that is not there."""
    try:
        state = path.stat()
    except OSError as error:
        raise ModelportError(f"{str(path)!r} cannot be read: {error.strerror}.", param="model") from None

    def fill(at: Path) -> Path:
        shutil.rmtree(at / "unpacked", ignore_errors=True)
        at.mkdir(mode=0o700, parents=True, exist_ok=True)
        with disk(repr(path.name)):
            unpack(path, at / "unpacked", repr(path.name), told)
        return at / "unpacked"

    return top(_kept([str(path.resolve()), f"{state.st_size} {state.st_mtime_ns} {state.st_ino}"], fill))


def _listed(where: Place, env: Env) -> tuple[list[Wanted], str | None]:
    """What to download, and the name of the file that it is about; None where that is the directory."""
    one = found(where.given, env)
    if one is None:
        listed = files(where.given, env)
        return [Wanted(_joined(where.path, f.path), _inside(where, f.path), f.size, f.tag) for f in listed], None
    parent = where.path.rpartition("/")[0]
    beside = [one, *_beside(where, one, env)]
    return [Wanted(_joined(parent, f.path), _inside(where, f.path), f.size, f.tag) for f in beside], one.path


def _beside(where: Place, one: File, env: Env) -> list[File]:
    """What a file is no whole model without: the other parts of a split GGUF; of an ONNX graph the files that are named
    after it, and the small ones that say what it does."""
    part, onnx = _PART.fullmatch(one.path), one.path.lower().endswith(".onnx")
    if not part and not onnx:
        return []
    same = re.compile(
        re.escape(part["stem"]) + r"-\d{5}" + re.escape(part["end"])
        if part
        else re.escape(one.path[: -len(".onnx")]) + r"[._].*",
        re.IGNORECASE,
    )
    directory = where.uri[: -len(one.path)].rstrip("/")
    return [
        file
        for file in files(directory, env, deep=False)
        if file.path != one.path
        and (same.fullmatch(file.path) or (onnx and file.size <= SAYS_BYTES and file.path.endswith(SAYS)))
    ]


def _joined(prefix: str, path: str) -> str:
    return f"{prefix}/{path}" if prefix else path


def _inside(where: Place, path: str) -> str:
    """The path, where it stays below the directory it is put to."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or parts[0] == "/" or "\0" in path or any(len(p.encode()) > 255 for p in parts):
        raise ModelportError(f"{where.given!r} holds {path[:200]!r}, which cannot be a file here.")
    return path


def _fill(where: Place, env: Env, wanted: Sequence[Wanted], archive: str, at: Path, told: Told) -> Path:
    try:
        fetch(where, env, wanted, at, told, spare=wanted[0].size if archive else 0)
    except Changed:
        shutil.rmtree(at, ignore_errors=True)
        raise
    if not archive:
        return at / "whole"
    shutil.rmtree(at / "unpacked", ignore_errors=True)
    try:
        with disk(repr(where.given)):
            unpack(at / "whole" / archive, at / "unpacked", repr(where.given), lambda have, all: None)
    except ModelportError as error:
        if error.kind is not NOT_READY:  # refused for good: it is not kept for another try
            shutil.rmtree(at, ignore_errors=True)
        raise
    return at / "unpacked"


def _kept(key: list[str], fill: Callable[[Path], Path]) -> Path:
    """The directory for a key, made by `fill` in one beside it where it is not there yet."""
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:40]
    directory = models_directory()
    target, aside = directory / name, directory / f"{name}.part"
    if not target.exists():
        with disk("The model"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(directory / f"{name}.lock"):
            if not target.exists():  # who had the lock before made it
                os.replace(fill(aside), target)
                shutil.rmtree(aside, ignore_errors=True)
    return target


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go of it for one that was killed."""
    import fcntl  # not on every machine that plans

    with disk("The model"):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
