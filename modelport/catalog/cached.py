"""What was read of models that lie elsewhere, kept by revision.

Below `$XDG_CACHE_HOME/modelport/facts`, for its owner alone. Two kinds of small JSON files: the facts of one revision,
which never change, and which revision a name stood for when it was last asked for. A cache can be lost, damaged,
read-only or full: then the model is read again, and nothing fails.
"""

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec

from modelport.catalog.readable import local_file
from modelport.catalog.repository import Based, Unreachable
from modelport.domain import facts as values
from modelport.domain.facts import ModelFacts
from modelport.errors import ModelportError

MOST_FILE_BYTES = 1 << 20


class _Entry(msgspec.Struct):
    """One file. `key` is what its name is a digest of; `facts` or `based` is absent in what only says a revision."""

    key: list[str]
    revision: str
    facts: ModelFacts | None = None
    based: Based | None = None


def facts_directory() -> Path:
    """Where facts are kept; it need not exist."""
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (said if said.is_absolute() else Path.home() / ".cache") / "modelport" / "facts"  # relative: not valid


def remembered(
    name: tuple[str, ...], check: Callable[[], str], read: Callable[[], ModelFacts | Based], *, pinned: bool = False
) -> ModelFacts | Based:
    """What `name` stands for: as kept, where `check` gives a revision that was read before, else as `read` gives it.

    `pinned` says that the name itself holds the revision, so that nobody needs to be asked twice. Where nobody answers
    (Unreachable) it is what was read last, with a note of when that was; that there is nothing is raised.
    """
    known = _load("name", *name)
    try:
        if known:
            revision = known.revision if pinned else check()
            if kept := _found("facts", *name, revision):
                if revision != known.revision:
                    _save(_Entry(["name", *name], revision))
                elif not pinned:
                    _seen(("name", *name))
                return kept
        found = read()
    except Unreachable:
        if known and (kept := _found("facts", *name, known.revision)):
            return replace(kept, note=noted(kept.note, _as_last_seen("name", *name)))
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


def noted(*sentences: str) -> str:
    """Sentences in one line, those that are empty or said already left out."""
    return " ".join(dict.fromkeys(sentence for sentence in sentences if sentence))


def _seen(key: tuple[str, ...]) -> None:
    """Mark that the revision was confirmed now."""
    with contextlib.suppress(OSError, RuntimeError):
        os.utime(_file(key))


def _as_last_seen(*key: str) -> str:
    day = time.strftime("%Y-%m-%d", time.localtime(_file(key).stat().st_mtime))
    return f"What is known of the model is as last seen on {day}: nobody answers now."


def _found(*key: str) -> ModelFacts | Based | None:
    entry = _load(*key)
    return (entry.facts or entry.based) if entry else None


def _load(*key: str) -> _Entry | None:
    try:
        with local_file(_file(key)) as file:
            entry = msgspec.json.decode(file.read_at(0, MOST_FILE_BYTES), type=_Entry)
    # RuntimeError: nobody has no home. ModelportError: a pipe or a socket stands there.
    except (OSError, RuntimeError, ModelportError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return entry if entry.key == list(key) else None


def _save(entry: _Entry) -> None:
    """Whole or not at all: written aside, then renamed."""
    with contextlib.suppress(OSError, RuntimeError, UnicodeEncodeError):  # a name with half a character in it
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
