"""Cloud: models in object stores, `s3://bucket/prefix`, `gs://bucket/prefix` and `az://container/prefix` (storage/)."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from modelport import storage
from modelport.catalog.repository import Repository, Unreachable
from modelport.errors import MODEL_NOT_FOUND, NOT_READY, ModelportError
from modelport.storage.calls import Calls
from modelport.storage.clouds import ANSWER_S, Env, open_store, place

T = TypeVar("T")
MOST_FILES = 10_000


def cloud_repository(source: str, env: Env = None) -> tuple[Repository, str]:
    """The files below a URI, or beside it where it names a .gguf or .onnx file, and that file's name or "".

    One listing. Raises ModelportError when there is nothing, when the store refuses, and when obstore is not installed;
    Unreachable when the store does not answer.
    """
    where = told(lambda: place(source))
    prefix, file = where.path, ""
    if prefix.lower().endswith((".gguf", ".onnx")):
        prefix, _, file = prefix.rpartition("/")
    call = told(lambda: Calls(where, env))
    store = told(lambda: call(lambda: open_store(where, env, prefix, ANSWER_S)))
    import obstore

    # Not what lies deeper, save the one directory by which sentence-transformers says how it pools.
    listed = told(lambda: call(lambda: obstore.list_with_delimiter(store)))
    objects = sorted(listed["objects"], key=lambda found: found["path"])[:MOST_FILES]
    files = {found["path"]: found["size"] for found in objects}
    if any(path.rstrip("/") == "1_Pooling" for path in listed["common_prefixes"]):
        files["1_Pooling/"] = 0
    if not objects:
        raise ModelportError(
            f"There are no files at {source!r}; check bucket and path.", MODEL_NOT_FOUND, param="model"
        )
    states = "\n".join(f"{o['path']} {o['size']} {o.get('e_tag') or o['last_modified']}" for o in objects)

    def read(name: str, start: int, count: int) -> bytes:
        got = bytes(told(lambda: call(lambda: obstore.get_range(store, name, start=start, length=count))))
        if len(got) != count:
            raise Unreachable(f"{source!r} gave {len(got):,} bytes of {name} where {count:,} were due; try again.")
        return got

    path = f"{where.cloud.scheme}://{where.bucket}/{prefix}".rstrip("/")
    revision = hashlib.sha256(states.encode()).hexdigest()[:40]
    return Repository(path=path, revision=revision, files=files, read=read), file


def archive_in_cloud(source: str, env: Env = None) -> tuple[str, int, str]:
    """Of a tar archive: its URI, bytes and revision. Raises as `cloud_repository` does."""
    where = told(lambda: place(source))
    found = told(lambda: storage.found(source, env))
    if found is None:
        raise ModelportError(f"There is no file {source!r}; check bucket and path.", MODEL_NOT_FOUND, param="model")
    return where.uri, found.size, hashlib.sha256(found.tag.encode()).hexdigest()[:40]


def told(call: Callable[[], T]) -> T:
    """What storage gives. Its errors are about the model here, and no answer is Unreachable."""
    try:
        return call()
    except ModelportError as error:
        if error.kind is NOT_READY:
            raise Unreachable(error.message) from None
        error.param = "model"
        raise
