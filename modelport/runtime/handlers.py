"""Handlers: the table of what the runtime can serve. A new kind of model is one file and one line here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from modelport.domain.presets import PRESETS
from modelport.errors import ModelportError
from modelport.runtime.handler import Handler

SIDECAR = "vision.json"
EMBEDDERS = frozenset(("modules.json", "1_Pooling", "config_sentence_transformers.json"))
"""What sentence-transformers writes beside a model whose answers are vectors."""


@dataclass(frozen=True, slots=True)
class Row:
    """One handler: where it is, which packages it needs and under which extra they come, and for which directories (the
    names in them) and tasks it is."""

    name: str
    place: str
    """`module:Class`"""
    packages: tuple[str, ...]
    extra: str
    fits: Callable[[frozenset[str], str], bool]


def _has_onnx(names: frozenset[str]) -> bool:
    return any(name.endswith(".onnx") for name in names)


ONNX_NEEDS = ("onnxruntime", "PIL", "numpy")
HF_NEEDS = ("torch", "transformers", "PIL", "av")
HANDLERS: list[Row] = [
    Row("classification", "modelport.runtime.classification:Classification", ONNX_NEEDS, "vision",
        lambda names, task: _has_onnx(names) and task == "classify"),
    Row("detection", "modelport.runtime.detection:Detection", ONNX_NEEDS, "vision",
        lambda names, task: _has_onnx(names) and task == "detect"),
    Row("transformers", "modelport.runtime.transformer:Transformer", HF_NEEDS, "hf",
        lambda names, task: task in ("generate", "embed") and bool({"config.json", "adapter_config.json"} & names)),
]  # fmt: skip


def choose(model: Path, task: str, options: Mapping[str, Any]) -> Handler:
    """A handler, made but not loaded, for a directory (or an .onnx file). `task` is the wanted one, or auto.

    Raises ModelportError where none fits, where a package is missing, or for an option that the handler refuses.
    """
    names = frozenset((model.name,)) if model.is_file() else frozenset(entry.name for entry in model.iterdir())
    known = task != "auto" or _has_onnx(names)
    task = task if task != "auto" else own_task(model, names)
    row = next((row for row in HANDLERS if row.fits(names, task)), None)
    if row is None:
        raise ModelportError(
            f"No handler serves this model{f' for the task {task!r}' if known else ''}: it must be a directory with "
            f"model.onnx and {SIDECAR} (classify, detect), or with config.json and safetensors (generate, embed)."
        )
    missing = [package for package in row.packages if find_spec(package) is None]
    if missing:
        raise ModelportError(
            f"This model needs packages that are not installed ({', '.join(missing)}): "
            f"pip install 'modelport[{row.extra}]'."
        )
    module, _, name = row.place.partition(":")
    return cast(Handler, getattr(import_module(module), name)(model, task, options))


def own_task(model: Path, names: frozenset[str]) -> str:
    """What the model's own files say it is for. Raises ModelportError for a sidecar that is no JSON object."""
    if not _has_onnx(names):
        return "embed" if EMBEDDERS & names else "generate"
    try:
        sidecar = json.loads(((model.parent if model.is_file() else model) / SIDECAR).read_bytes())
        task = sidecar.get("task") or PRESETS.get(str(sidecar.get("preset", "")), {}).get("task", "classify")
    except FileNotFoundError:
        return "classify"
    except (ValueError, AttributeError, OSError):
        raise ModelportError(f"{SIDECAR} beside the model is no JSON object.") from None
    if task not in ("classify", "detect"):
        raise ModelportError(f"{SIDECAR} has the task {str(task)[:40]!r}; it is classify or detect.")
    return task
