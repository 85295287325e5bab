"""What was read of models that lie elsewhere, kept by revision.

Below `$XDG_CACHE_HOME/modelport/facts`, for its owner alone. Two kinds of small JSON files: the facts of one revision,
which never change, and which revision a name stood for when it was last asked for. A cache can be lost, damaged,
read-only or full: then the model is read again, and nothing fails.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec

from modelport.catalog.repository import Based, Unreachable
from modelport.domain import facts as values
from modelport.domain.facts import ModelFacts

MOST_FILE_BYTES = 1 << 20


class _Entry(msgspec.Struct):
    """One file. `key` is what its name is a digest of; `facts` or `based` is absent in what only says a revision."""

    key: list[str]
    revision: str
    facts: ModelFacts | None = None
    based: Based | None = None


def facts_directory() -> Path:
    """Where facts are kept; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport" / "facts"


def remembered(
    name: tuple[str, ...], check: Callable[[], str], read: Callable[[], ModelFacts | Based], *, pinned: bool = False
) -> ModelFacts | Based:
    """What `name` stands for: as kept, where `check` gives a revision that was read before, else as `read` gives it.

    `pinned` says that the name itself holds the revision, so that nobody needs to be asked twice. Where nobody answers
    (Unreachable) it is what was read last; that there is nothing is raised.
    """
    known = _load("name", *name)
    try:
        if known:
            revision = known.revision if pinned else check()
            if kept := _found("facts", *name, revision):
                if revision != known.revision:
                    _save(_Entry(["name", *name], revision))
                return kept
        found = read()
    except Unreachable:
        if known and (kept := _found("facts", *name, known.revision)):
            return kept
        raise
    plain = isinstance(found, ModelFacts)
    _save(
        _Entry(
            ["facts", *name, found.revision],
            found.revision,
            found if plain else None,
            None if plain else found,
        )
    )
    _save(_Entry(["name", *name], found.revision))
    return found


def _found(*key: str) -> ModelFacts | Based | None:
    entry = _load(*key)
    return (entry.facts or entry.based) if entry else None


def _load(*key: str) -> _Entry | None:
    try:
        with _file(key).open("rb") as file:
            entry = msgspec.json.decode(file.read(MOST_FILE_BYTES), type=_Entry)
    except (OSError, RuntimeError, msgspec.DecodeError, UnicodeDecodeError):  # RuntimeError: nobody has no home
        return None
    return entry if entry.key == list(key) else None


def _save(entry: _Entry) -> None:
    """Whole or not at all: written aside, then renamed."""
    with contextlib.suppress(OSError, RuntimeError):
        target = _file(entry.key)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = ""
        try:
            descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=".")  # 0600
            with open(descriptor, "wb") as file:
                file.write(msgspec.json.encode(entry))
            os.replace(aside, target)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(aside)


def _file(key: tuple[str, ...] | list[str]) -> Path:
    return facts_directory() / hashlib.sha256("\0".join([_version(), *key]).encode()).hexdigest()[:40]


@cache
def _version() -> str:
    """A digest of the code that makes facts, so that another version of it never takes these for its own."""
    digest = hashlib.sha256()
    for file in [*sorted(Path(__file__).parent.glob("*.py")), Path(values.__file__)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
