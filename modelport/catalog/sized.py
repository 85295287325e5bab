"""Sized: models of which no more than a size is known from outside: tar archives, and ONNX models in object stores."""

import json
from dataclasses import replace

from modelport.catalog.onnx import NO_SIDECAR, SIDECAR, is_onnx, with_task
from modelport.catalog.repository import MOST_CONFIG_BYTES, Repository
from modelport.catalog.size_only import size_only
from modelport.domain.facts import ModelFacts
from modelport.domain.vision import onnx_name, parse_vision
from modelport.errors import ModelportError

UNKNOWN = "It is a tar archive: what is in it is known only once it is unpacked, so its size stands for the model's."
_OTHERS = (".safetensors", ".gguf", ".bin")
_DATA = (".data", "_data", ".bin", ".weights")
"""How files are called that hold an ONNX graph's tensors; which ones do is written in the graph, which is not read."""


def archive_facts(source: str, path: str, size: int, revision: str = "", *, far: bool = False) -> ModelFacts:
    """What an archive of `size` bytes shows from outside; `far` where it has to be downloaded."""
    facts = size_only(source, path, "archive", size)
    return replace(facts, revision=revision, download_bytes=size if far else 0, note=UNKNOWN)


def onnx_of(source: str, repository: Repository, file: str) -> ModelFacts | None:
    """What a directory of a bucket with an ONNX model says, or one `file` of it: by its vision.json and the sizes.

    None where it holds another model. Raises ModelportError when there are several or vision.json is wrong.
    """
    names = list(repository.files)
    other = any(name.endswith(_OTHERS) or name in ("config.json", "params.json") for name in names)
    if not file.lower().endswith(".onnx") and (file or not is_onnx(names, other)):
        return None
    graph = file or onnx_name(names)
    if graph not in repository.files:
        raise ModelportError(f"There is no file {graph!r} at {source!r}; check the path.", param="model")
    beside = sum(size for name, size in repository.files.items() if name.endswith(_DATA))
    facts = size_only(source, f"{repository.path}/{file}".rstrip("/"), "onnx", repository.files[graph] + beside)
    facts = replace(
        facts,
        architecture="onnx",
        task="classify",
        inputs=("image",),
        revision=repository.revision,
        download_bytes=facts.weight_bytes,
        note=NO_SIDECAR,
    )
    size = repository.files.get(SIDECAR)
    if size is None:
        return facts
    if not 0 < size <= MOST_CONFIG_BYTES:
        raise ModelportError(f"{SIDECAR} of {source!r} has {size:,} bytes, which no such file has.", param="model")
    try:
        said = json.loads(repository.read(SIDECAR, 0, size))
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ModelportError(f"{SIDECAR} of {source!r} is not a JSON object.", param="model")
    vision = parse_vision(with_task(said), f"{SIDECAR} of {source!r}")
    return replace(facts, architecture=vision.preset or "onnx", task=vision.task, note="")
