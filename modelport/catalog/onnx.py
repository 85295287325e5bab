"""Onnx: an ONNX model of pictures on this machine, with the vision.json that says what it does."""

import mmap
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modelport.catalog.directory import read_json
from modelport.catalog.readable import local_file
from modelport.catalog.size_only import size_only
from modelport.domain.facts import ModelFacts
from modelport.domain.vision import onnx_name, parse_vision
from modelport.errors import ModelportError

SIDECAR = "vision.json"
_EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])", re.DOTALL)
"""How a tensor names the file that holds its data: onnx.proto3, TensorProto.external_data, an entry `location` of at
most 127 bytes."""
_MOST_FILES = 10_000


def is_onnx(names: Sequence[str], other: bool) -> bool:
    """Whether a directory with these names is served as an ONNX model; `other`: whether it is another model as well."""
    return any(name.lower().endswith(".onnx") for name in names) and (SIDECAR in names or not other)


def facts_of_onnx(source: str, path: Path) -> ModelFacts:
    """What an .onnx file, or the directory that holds it, says without being loaded.

    Raises ModelportError when there are several, a file of its weights is missing, or vision.json is wrong. OSError
    passes through.
    """
    directory = path if path.is_dir() else path.parent
    file = path / onnx_name(entry.name for entry in path.iterdir()) if path.is_dir() else path
    sidecar = directory / SIDECAR
    vision = parse_vision(with_task(read_json(sidecar)), f"{str(sidecar)!r}") if sidecar.is_file() else None
    return replace(
        size_only(source, str(path), "onnx", _bytes(file)),
        architecture=vision.preset or "onnx" if vision else "onnx",
        task=vision.task if vision else "classify",
        inputs=("image",),
        note="" if vision else NO_SIDECAR,
    )


NO_SIDECAR = (
    "No vision.json lies beside the model, so it is taken for a classifier; say the task (classify or detect) and what "
    "it expects (options preset, labels, ...)."
)


def with_task(said: dict[str, object]) -> dict[str, object]:
    """A sidecar that leaves the task to the service's Spec is a classifier's until that says otherwise."""
    return said if "task" in said or "preset" in said else {"task": "classify", **said}


def _bytes(file: Path) -> int:
    """Of the graph and of all files that its tensors name. Raises ModelportError for one that is not there."""
    with local_file(file) as opened:
        if not opened.size:
            raise ModelportError(f"{str(file)!r} is empty: download it again.", param="model")
        total = opened.size
    names: set[bytes] = set()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for found in _EXTERNAL.finditer(content):
            names.add(content[found.end() : found.end() + found[1][0]])
            if len(names) > _MOST_FILES:
                raise ModelportError(f"{str(file)!r} spreads its weights over too many files.", param="model")
    for name in sorted(names):
        text = name.decode("utf-8", "replace")
        if text.startswith("/") or ".." in text.split("/") or "\0" in text or "\\" in text:
            raise ModelportError(f"{str(file)!r} names a file outside of its directory, {text[:80]!a}.", param="model")
        beside = file.parent / text
        if not beside.is_file():
            raise ModelportError(
                f"{str(file)!r} lacks a file of its weights, {text[:80]!a}; put it beside the model.", param="model"
            )
        total += beside.stat().st_size
    return total
