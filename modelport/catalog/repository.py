"""Repository: the files of a model that lies elsewhere, and ModelFacts out of the few that say what it is.

Of a usual repository this reads config.json and, of the weights, headers only: 100 to 300 kB for a dense model
(bench/catalog.py), whose shards' headers are read one and all. A mixture of experts has tensors for each expert and
layer, 2 to 12 MB of headers: where they would be more than HEADERS_BYTES the sizes come from the config and the files'
total instead (ModelFacts.precision is `total`), for 50 kB. A GGUF file's header holds its tokenizer, so one costs
1 to 10 MB: there is no way to the tensors but past it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from modelport.catalog.complete import holds_packed, must_be_whole
from modelport.catalog.config import facts_of_config
from modelport.catalog.facts import facts_of
from modelport.catalog.gguf import read_header
from modelport.catalog.gguf_choice import choose_gguf
from modelport.catalog.hub_name import hub_name
from modelport.catalog.lora import MOST_RANK
from modelport.catalog.mistral import config_of_params
from modelport.catalog.quantized import SEPARATE
from modelport.catalog.ranges import FIRST_BYTES, Window
from modelport.catalog.safetensors import read_safetensors_header
from modelport.catalog.tensors import Tensor
from modelport.domain.facts import Adapter, ModelFacts
from modelport.errors import NOT_READY, Kind, ModelportError

HEADERS_BYTES = 256 << 10
"""The most of all safetensors headers of one model that is read."""
SHARD_BYTES = 6 << 10
"""Of each shard at first: the header of a dense model's, so that most need one request."""
MOST_CONFIG_BYTES = 4 << 20
"""Of one JSON file; the largest configs (those that list every layer not quantized) have some hundred kB."""
TEMPLATE_TAIL_BYTES = 32 << 10
"""Of tokenizer_config.json: after the added tokens, which can be a megabyte, its keys follow in alphabetical order."""
READERS = 8
"""Requests at a time."""
MOST_SHARDS = 64
"""Whose headers are read: at 100 ms a request these take a second. More shards are 300 GB and beyond."""

_TEMPLATES = ("chat_template.jinja", "chat_template.json")
# What holds the same weights once more, or no language model's.
_SAFETENSORS = re.compile(r"(?!consolidated|adapter_|training_)[^/]+\.safetensors")
_CONSOLIDATED = re.compile(r"consolidated[^/]*\.safetensors")
_PYTORCH = re.compile(r"(pytorch_model|model|consolidated)[^/]*\.(bin|pth|pt)")
_ADAPTER = re.compile(r"adapter_model\.(safetensors|bin)")
_PART = re.compile(r".*-\d{5}-of-(\d{5})\.\w+")


class Unreachable(ModelportError):
    """Nobody answered, or not for now: what was read of the model earlier still holds."""

    def __init__(self, message: str, kind: Kind = NOT_READY, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, kind, param="model", retry_after_s=retry_after_s)


@dataclass(frozen=True, slots=True)
class Repository:
    """Files by name with their sizes in bytes, and how to read them."""

    path: str
    """What an engine loads: a Hub id or the URI of a directory."""
    revision: str
    files: Mapping[str, int]
    read: Callable[[str, int, int], bytes]
    """`count` bytes of a file from an offset on. Raises ModelportError."""
    licence: str = ""
    gated: bool = False
    chat_template: bool = False
    """Whether it is known already that there is one."""


@dataclass(frozen=True, slots=True)
class Based:
    """An adapter, whose facts are those of its base with it."""

    base: str
    """A Hub id, with the revision where the adapter says one."""
    adapter: Adapter
    revision: str
    note: str = ""
    """Of the look-up, as ModelFacts has one."""


def facts_of_repository(source: str, repository: Repository, *, file: str = "", tag: str = "") -> ModelFacts | Based:
    """What a repository's files say; of one GGUF `file`, or of the one with a quantization `tag`, where one is named.

    Safetensors are preferred where there are GGUF files beside them. Raises ModelportError when there is no model, when
    several GGUF files could be meant, and what reading raises.
    """
    files = repository.files
    if file or tag:
        return _gguf(source, repository, choose_gguf(source, files, file, tag))
    if "adapter_config.json" in files and (any(map(_ADAPTER.fullmatch, files)) or "config.json" not in files):
        return _adapter(source, repository)
    weights = _weights(source, files)
    if not weights:
        if any(name.lower().endswith(".gguf") for name in files):
            return _gguf(source, repository, choose_gguf(source, files))
        raise ModelportError(
            f"{source!r} holds no model: none of its {len(files)} files are weights (.safetensors, .gguf, .bin).",
            param="model",
        )
    config, translated = _config(source, repository)
    safetensors = weights[0].endswith(".safetensors")
    # A Hub that does not say how large some files are leaves only the config to tell.
    download_bytes = sum(files[name] for name in weights) if all(files[name] for name in weights) else 0
    tensors, header_bytes = _tensors(repository, weights) if safetensors and download_bytes else ((), 0)
    total_bytes = max(0, download_bytes - header_bytes)
    if download_bytes and not total_bytes:
        raise ModelportError(f"The weight files of {source!r} hold nothing but headers.", param="model")
    named = () if translated else tensors
    facts = facts_of_config(source, config, tensors=named, total_bytes=total_bytes, path=repository.path)
    must_be_whole(facts, config, packed=holds_packed(tensors))
    pooling = any(name.startswith("1_Pooling/") for name in files) or facts.pooling
    return replace(
        facts,
        format="safetensors" if safetensors else "pytorch",
        revision=repository.revision,
        licence=repository.licence,
        gated=repository.gated,
        download_bytes=download_bytes or facts.weight_bytes,
        pooling=pooling,
        task="embed" if pooling else facts.task,
        chat_template=_chat_template(repository),
    )


def _weights(source: str, files: Mapping[str, int]) -> tuple[str, ...]:
    """The files that hold the model once: the first kind of which there are any, at the top.

    Of several safetensors those that transformers loads: the shards where there is an index, else model.safetensors.
    """
    for pattern in (_SAFETENSORS, _CONSOLIDATED, _PYTORCH):
        found = sorted(name for name in files if pattern.fullmatch(name))
        if "model.safetensors.index.json" in files:
            found = [name for name in found if _PART.fullmatch(name)] or found
        elif "model.safetensors" in found:
            found = ["model.safetensors"]
        if found:
            part = _PART.fullmatch(found[0])
            if part and len(found) < int(part[1]):
                raise ModelportError(f"{source!r} lacks {int(part[1]) - len(found)} of {int(part[1])} weight files.",
                                     param="model")  # fmt: skip
            return tuple(found)
    return ()


def _config(source: str, repository: Repository) -> tuple[dict[str, Any], bool]:
    """The config, and whether it was translated from Mistral's own form, whose tensors have names of their own."""
    if "config.json" not in repository.files:
        if "params.json" in repository.files:
            return config_of_params(source, _json(repository, "params.json")), True
        raise ModelportError(f"{source!r} has weights but no config.json, so its shape is not known.", param="model")
    config = _json(repository, "config.json")
    if not config.get("quantization_config"):
        for name, method in SEPARATE.items():
            if name in repository.files:
                said = _json(repository, name)
                inner = said.get("quantization") if isinstance(said.get("quantization"), dict) else said
                config["quantization_config"] = {"quant_method": method, **cast(dict[str, Any], inner)}
                break
    return config, False


def _json(repository: Repository, name: str) -> dict[str, Any]:
    size = repository.files[name]
    if size > MOST_CONFIG_BYTES:
        raise ModelportError(
            f"{name} of {repository.path!r} has {size:,} bytes, where {MOST_CONFIG_BYTES:,} are the most.",
            param="model",
        )
    try:
        found = json.loads(repository.read(name, 0, size) if size else b"")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelportError(f"{name} of {repository.path!r} is not a JSON object.", param="model")
    return cast(dict[str, Any], found)


def _tensors(repository: Repository, weights: Sequence[str]) -> tuple[tuple[Tensor, ...], int]:
    """Every tensor, or none where the headers are more than HEADERS_BYTES, judged by the first shard's; and the bytes
    of all headers, then a guess."""

    def window(name: str, first_bytes: int) -> Window:
        return Window(
            lambda start, count: repository.read(name, start, count),
            repository.files[name],
            f"{repository.path}/{name}",
            first_bytes=first_bytes,
        )

    # The shards of a model are alike, so the first one's header tells what to ask the others for.
    first = window(weights[0], min(FIRST_BYTES, max(8, HEADERS_BYTES // len(weights))))
    length = 8 + int.from_bytes(first.read_at(0, 8), "little")
    if length * len(weights) > HEADERS_BYTES or len(weights) > MOST_SHARDS:
        return (), length * len(weights)
    guess = max(length + length // 4, min(SHARD_BYTES, HEADERS_BYTES // len(weights)))
    windows = [first, *(window(name, guess) for name in weights[1:])]
    with ThreadPoolExecutor(READERS) as pool:
        headers = list(pool.map(lambda w: read_safetensors_header(w.read_at, w.size, w.name), windows))
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    return tensors, sum(header.header_bytes for header in headers)


def _chat_template(repository: Repository) -> bool:
    """Whether there is a template. One in the middle of a large tokenizer_config.json is not seen."""
    if repository.chat_template or any(name in repository.files for name in _TEMPLATES):
        return True
    size = repository.files.get("tokenizer_config.json", 0)
    count = min(size, TEMPLATE_TAIL_BYTES)
    return bool(count) and b'"chat_template"' in repository.read("tokenizer_config.json", size - count, count)


def _gguf(source: str, repository: Repository, names: Sequence[str]) -> ModelFacts:
    path = f"{repository.path}/{names[0]}"
    headers = [
        read_header(
            Window(lambda start, count, name=name: repository.read(name, start, count), repository.files[name], path)
        )
        for name in names
    ]
    return replace(
        facts_of(source, Path(path), headers),
        path=path,
        revision=repository.revision,
        licence=repository.licence,
        gated=repository.gated,
        download_bytes=sum(repository.files[name] for name in names),
    )


def _adapter(source: str, repository: Repository) -> Based:
    config = _json(repository, "adapter_config.json")
    base, revision, rank = (config.get(key) for key in ("base_model_name_or_path", "revision", "r"))
    if not isinstance(base, str) or not base:
        raise ModelportError(f"{source!r} is an adapter that does not say what model it is of.", param="model")
    # Never a path of this machine: what lies elsewhere must not choose what is read here.
    try:
        name = hub_name(f"hf://{base}")
    except ModelportError:
        name = None
    if name is None or name.file or name.tag:
        raise ModelportError(
            f"{source!r} is an adapter of {base[:200]!r}, which is no Hub id: download both and name the directory.",
            param="model",
        )
    size = max((size for file, size in repository.files.items() if _ADAPTER.fullmatch(file)), default=0)
    if type(rank) is not int or not 0 < rank <= MOST_RANK or not size:
        raise ModelportError(f"{source!r} is an adapter without a rank r in its config, or without weights.",
                             param="model")  # fmt: skip
    adapter = Adapter(repository.path, rank, size)
    if isinstance(revision, str) and revision and not name.revision:
        base = f"{base}@{revision}"
    return Based(base, adapter, repository.revision)
