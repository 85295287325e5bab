"""LoRA: an adapter's directory, whose facts are those of its base with the adapter on top."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from modelport.catalog.directory import read_json
from modelport.domain.facts import Adapter, ModelFacts
from modelport.errors import ModelportError

ADAPTER_CONFIG = "adapter_config.json"
MOST_RANK = 1 << 16

_WEIGHTS = re.compile(r"adapter_model\.(safetensors|bin)")


def is_adapter(names: Sequence[str]) -> bool:
    """Whether the files of a directory are an adapter's and not a whole model's, which may bring its adapter along."""
    return ADAPTER_CONFIG in names and (any(map(_WEIGHTS.fullmatch, names)) or "config.json" not in names)


def facts_of_adapter(source: str, directory: Path, base: Callable[[str], ModelFacts]) -> ModelFacts:
    """The facts of the adapter's base, which `base` finds by its Hub id or path, with the adapter.

    Raises ModelportError when the adapter does not say its base or rank, has no weights, or is one of another adapter,
    and what `base` raises. OSError passes through.
    """
    config = read_json(directory / ADAPTER_CONFIG)
    named, rank, revision = (config.get(key) for key in ("base_model_name_or_path", "r", "revision"))
    if not isinstance(named, str) or not named.strip():
        raise ModelportError(f"{str(directory)!r} is an adapter that does not say what model it is of.", param="model")
    if type(rank) is not int or not 0 < rank <= MOST_RANK:
        raise ModelportError(f"{str(directory)!r} is an adapter whose rank r is {str(rank)[:40]!r}.", param="model")
    weights = [directory / name for name in ("adapter_model.safetensors", "adapter_model.bin")]
    size = next((path.stat().st_size for path in weights if path.is_file()), 0)
    if not size:
        raise ModelportError(f"{str(directory)!r} is an adapter without weights (adapter_model.safetensors).",
                             param="model")  # fmt: skip
    # PEFT takes a relative path from where it runs; one beside the adapter is what moving both together leaves.
    beside = directory / named
    at = f"@{revision}" if isinstance(revision, str) and revision else ""
    where = beside if named.startswith(".") and beside.is_dir() else Path(named).expanduser()
    if where.is_dir() and is_adapter([entry.name for entry in where.iterdir()]):
        raise ModelportError(f"{source!r} is an adapter of another adapter, {named!r}; merge them.", param="model")
    facts = base(str(where) if where.is_dir() else named + at)
    return replace(facts, source=source, adapter=Adapter(str(directory), rank, size))
