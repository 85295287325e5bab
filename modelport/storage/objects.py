"""Objects: what lies below a URI, and single objects read and written whole."""

from dataclasses import dataclass

from modelport.errors import TOO_LARGE, ModelportError
from modelport.storage.calls import Calls
from modelport.storage.clouds import ANSWER_S, Env, open_store, place

MOST_FILES = 10_000
WRITE_S = 300.0


@dataclass(frozen=True, slots=True)
class File:
    """One object, as it was listed."""

    path: str
    """Below the URI that was asked for."""
    size: int
    """Bytes."""
    tag: str
    """The store's mark of this version: its ETag without quotation marks, else when it was written."""


def files(uri: str, env: Env = None, *, most: int = MOST_FILES, deep: bool = True) -> list[File]:
    """All that lies below a URI, by path, however `deep`, or directly. Marks of empty directories are left out.

    Raises ModelportError where there is nothing, and where there is more than `most`.
    """
    import obstore

    where = place(uri)
    call = Calls(where, env)
    store = call(lambda: open_store(where, env, where.path, ANSWER_S))
    listed: list[File] = []
    if deep:
        stream = call(lambda: iter(obstore.list(store, chunk_size=1000)))
    else:
        stream = iter([call(lambda: obstore.list_with_delimiter(store))["objects"]])
    while batch := call(lambda: next(stream, None)):
        listed += [_file(meta) for meta in batch]
        if len(listed) > most:
            raise ModelportError(f"There are more than {most:,} files below {uri!r}: name a smaller directory.")
    directories = {file.path[:at] for file in listed for at, mark in enumerate(file.path) if mark == "/"}
    listed = [file for file in listed if file.path and (file.size or file.path not in directories)]
    if not listed:
        raise call.nothing()
    return sorted(listed, key=lambda file: file.path)


def reach(uri: str, env: Env = None) -> None:
    """List the beginning of what is below a URI, which may be nothing. Raises ModelportError where that cannot be."""
    import obstore

    where = place(uri)
    call = Calls(where, env)
    store = call(lambda: open_store(where, env, where.path, ANSWER_S))
    call(lambda: next(iter(obstore.list(store, chunk_size=1)), None))


def found(uri: str, env: Env = None) -> File | None:
    """The object that a URI names, its path being the name; None where there is none: perhaps a directory."""
    import obstore

    where = place(uri)
    call = Calls(where, env)
    if not where.path or uri.endswith("/"):
        return None
    store = call(lambda: open_store(where, env, "", ANSWER_S))
    try:
        meta = call(lambda: obstore.head(store, where.path))
    except ModelportError as error:
        if error.kind is call.nothing().kind:
            return None
        raise
    return File(where.name, meta["size"], _tag(meta))


def read(uri: str, env: Env, max_bytes: int) -> bytes:
    """One object's bytes. Raises ModelportError (413) for one of more than `max_bytes`, before it is fetched."""
    import obstore

    where = place(uri)
    call = Calls(where, env)
    if not where.path:
        raise call.nothing()
    store = call(lambda: open_store(where, env, "", ANSWER_S))
    answer = call(lambda: obstore.get(store, where.path))
    size = answer.meta["size"]
    if size > max_bytes:
        raise ModelportError(f"{uri!r} has {size:,} bytes, where {max_bytes:,} are the most.", TOO_LARGE)
    return bytes(call(answer.bytes))


def write(uri: str, env: Env, data: bytes) -> None:
    """Make one object of these bytes, in place of what was there. Whole or not at all."""
    import obstore

    where = place(uri)
    call = Calls(where, env, "written")
    if not where.path:
        raise ModelportError(f"{uri!r} names a bucket, and no object in it.")
    store = call(lambda: open_store(where, env, "", WRITE_S))
    call(lambda: obstore.put(store, where.path, data))


def _file(meta: dict) -> File:
    return File(meta["path"], meta["size"], _tag(meta))


def _tag(meta: dict) -> str:
    return (meta.get("e_tag") or "").strip('"') or str(meta["last_modified"])
