"""Directory: a model on this machine as config.json and weights in safetensors or PyTorch's format.

The same weights are never counted twice: safetensors win over `.bin`, and what publishers put beside them in another
form (`consolidated*`, `original/`, `metal/`) is passed over.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from modelport.catalog.complete import holds_packed, must_be_whole
from modelport.catalog.config import facts_of_config
from modelport.catalog.mistral import config_of_params
from modelport.catalog.quantized import SEPARATE
from modelport.catalog.readable import local_file
from modelport.catalog.safetensors import read_safetensors
from modelport.domain.facts import ModelFacts
from modelport.errors import MODEL_NOT_FOUND, ModelportError

MOST_JSON_BYTES = 16 << 20
"""Of one JSON file. Indices and tokenizers' configs of the largest models have some megabytes."""
README_BYTES = 64 << 10

_SAFETENSORS = re.compile(r"(?!consolidated|adapter_|training_|optimizer|scheduler)[^/]+\.safetensors")
_CONSOLIDATED = re.compile(r"consolidated[^/]*\.safetensors")
_PYTORCH = re.compile(r"(pytorch_model|model)[^/]*\.(bin|pt|pth)|consolidated[^/]*\.pth")
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.\w+)")
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_MOST_NAMED = 5


def facts_of_directory(source: str, directory: Path) -> ModelFacts:
    """What the files of a model's directory say.

    Raises ModelportError where there is no config, no weights, a shard missing, or a file damaged. OSError passes
    through.
    """
    names = sorted(entry.name for entry in directory.iterdir() if entry.is_file())
    weights = weight_files(directory, names)
    config, translated = _config(directory, names)
    if not weights:
        raise ModelportError(
            f"{str(directory)!r} holds a config but no weights (.safetensors, .bin, .gguf); download them, or name "
            "its config.json to plan without.",
            MODEL_NOT_FOUND,
            param="model",
        )
    safetensors = weights[0].endswith(".safetensors")
    headers = [read_safetensors(directory / name) for name in weights] if safetensors else []
    tensors = [tensor for header in headers for tensor in header.tensors]
    total_bytes = sum(tensor.size_bytes for tensor in tensors) if safetensors else _sizes(directory, weights)
    if not total_bytes:
        raise ModelportError(
            f"The weight files in {str(directory)!r} hold nothing: download them again.", param="model"
        )
    # Mistral's own form has names of its own, which groups are not told by.
    named = () if translated else tensors
    facts = facts_of_config(source, config, tensors=named, total_bytes=total_bytes, path=str(directory))
    must_be_whole(facts, config, packed=holds_packed(tensors))
    return replace(facts, format="safetensors" if safetensors else "pytorch", **beside(directory, facts.task))


def facts_of_config_file(source: str, path: Path) -> ModelFacts:
    """What a config.json alone says: sizes are computed from it. Raises as `facts_of_directory`."""
    config = read_json(path)
    if "architectures" not in config and "dim" in config and "n_layers" in config:
        config = config_of_params(source, config)
    return facts_of_config(source, config, path=str(path))


def weight_files(directory: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The files that hold the model once, in order; empty where there are none. Raises for a missing shard."""
    present = set(names)
    for index in _INDICES:
        # An index of weights that were removed on purpose, in favour of those in the other format, is no promise.
        kind = index.split(".")[1]
        if index in present and (kind == "safetensors" or not any(map(_SAFETENSORS.fullmatch, names))):
            listed = _listed(directory / index)
            if any(name in present for name in listed) or not any(map(_PYTORCH.fullmatch, names)):
                return _complete(directory, listed, present)
    for pattern in (_SAFETENSORS, _CONSOLIDATED, _PYTORCH):
        if found := [name for name in names if pattern.fullmatch(name)]:
            return _complete(directory, _with_all_parts(found), present)
    return ()


def beside(directory: Path, task: str) -> dict[str, Any]:
    """Fields of ModelFacts that other files than config and weights say: licence, chat template, pooling."""
    pooling = (directory / "1_Pooling").is_dir() or "Pooling" in _text(directory / "modules.json")
    template = any((directory / name).is_file() for name in ("chat_template.jinja", "chat_template.json"))
    tokenizer = directory / "tokenizer_config.json"
    if not template and tokenizer.is_file():
        # Nothing is planned by it, so a damaged one is the engine's to complain of.
        with contextlib.suppress(ModelportError, OSError):
            template = bool(read_json(tokenizer).get("chat_template"))
    return {
        "pooling": pooling,
        "task": "embed" if pooling else task,
        "chat_template": template,
        "licence": _licence(_text(directory / "README.md")),
    }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size. Raises ModelportError for anything else; OSError passes through."""
    with local_file(path) as file:
        if file.size > MOST_JSON_BYTES:
            raise ModelportError(
                f"{str(path)!r} has {file.size:,} bytes, where {MOST_JSON_BYTES:,} are the most.", param="model"
            )
        raw = file.read_at(0, file.size)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelportError(f"{str(path)!r} is not a JSON object.", param="model")
    return cast(dict[str, Any], found)


def _config(directory: Path, names: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """The config, and whether it was translated from Mistral's own form."""
    if "config.json" not in names:
        if "params.json" in names:
            return config_of_params(str(directory), read_json(directory / "params.json")), True
        raise ModelportError(
            f"{str(directory)!r} holds no config.json, so what its weights are is not known.", param="model"
        )
    config = read_json(directory / "config.json")
    for name, method in SEPARATE.items():
        if name in names and not config.get("quantization_config"):
            said = read_json(directory / name)
            inner = said.get("quantization")
            config["quantization_config"] = {"quant_method": method, **(inner if isinstance(inner, Mapping) else said)}
    return config, False


def _listed(index: Path) -> list[str]:
    """The shards that an index names. Names that lead elsewhere are refused."""
    mapped = read_json(index).get("weight_map")
    files = sorted({str(name) for name in mapped.values()}) if isinstance(mapped, dict) else []
    if not files or any("/" in name or "\\" in name or name.startswith(".") for name in files):
        raise ModelportError(f"{str(index)!r} names no weight files beside it.", param="model")
    return files


def _with_all_parts(names: Sequence[str]) -> list[str]:
    """The names, and those of parts that a numbered one says there are."""
    found = set(names)
    for name in names:
        if part := _PART.fullmatch(name):
            count = min(int(part["count"]), 4096)
            found |= {f"{part['stem']}-{n:05}-of-{part['count']}{part['end']}" for n in range(1, count + 1)}
    return sorted(found)


def _complete(directory: Path, files: Sequence[str], present: set[str]) -> tuple[str, ...]:
    missing = [name for name in files if name not in present]
    if missing:
        shown = ", ".join(missing[:_MOST_NAMED]) + (", ..." if len(missing) > _MOST_NAMED else "")
        raise ModelportError(
            f"{str(directory)!r} lacks {len(missing)} of {len(files)} weight files: {shown}. Download it again.",
            param="model",
        )
    return tuple(files)


def _sizes(directory: Path, names: Sequence[str]) -> int:
    """Bytes of all files."""
    total = 0
    for name in names:
        with local_file(directory / name) as file:
            total += file.size
    return total


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        with local_file(path) as file:
            return file.read_at(0, README_BYTES).decode("utf-8", "replace")
    except (ModelportError, OSError):  # what it would have said is not needed
        return ""


def _licence(readme: str) -> str:
    """`license:` of a model card's front matter."""
    if not readme.startswith("---"):
        return ""
    front = readme[3:].partition("\n---")[0]
    found = re.search(r"^license:[ \t]*[\"']?([\w.+-]{1,64})", front, re.MULTILINE)
    return found[1] if found else ""
