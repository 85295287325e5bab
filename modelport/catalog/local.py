"""Local models: what a path on this machine stands for: GGUF or ONNX files, a directory, a config.json, an adapter."""

import re
from collections.abc import Callable
from pathlib import Path

from modelport.catalog.directory import facts_of_config_file, facts_of_directory, weight_files
from modelport.catalog.facts import facts_of
from modelport.catalog.gguf import read_header
from modelport.catalog.gguf_projector import is_projector, with_projector
from modelport.catalog.lora import facts_of_adapter, is_adapter
from modelport.catalog.onnx import facts_of_onnx, is_onnx
from modelport.domain.facts import ModelFacts
from modelport.errors import MODEL_NOT_FOUND, ModelportError

# llama.cpp names the parts of a split model so (llama_split_path in src/llama.cpp).
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
_MOST_NAMED = 5


def local_facts(source: str, path: Path, base: Callable[[str], ModelFacts]) -> ModelFacts:
    """What the model at an existing path says. `base` finds the facts of an adapter's base by its Hub id or path.

    Safetensors win over GGUF files beside them. Raises ModelportError when there is no model, several, or a damaged
    one. OSError passes through.
    """
    if path.suffix.lower() == ".json" and path.is_file():
        return facts_of_config_file(source, path)
    if path.suffix.lower() == ".onnx" and path.is_file():
        return facts_of_onnx(source, path)
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        if is_adapter(names):
            return facts_of_adapter(source, path, base)
        weights = weight_files(path, names)
        described = "config.json" in names or "params.json" in names
        gguf = any(name.lower().endswith(".gguf") for name in names)
        if is_onnx(names, bool(weights) or described or gguf):
            return facts_of_onnx(source, path)
        if not gguf or (weights and described):
            if not weights and not described:
                raise ModelportError(
                    f"{str(path)!r} holds no model: no .gguf or .onnx file, and no config.json with weights.",
                    MODEL_NOT_FOUND,
                    param="model",
                )
            return facts_of_directory(source, path)
    files = gguf_files(path)
    facts = facts_of(source, files[0], [read_header(file) for file in files])
    return with_projector(facts, files[0].parent)


def gguf_files(path: Path) -> tuple[Path, ...]:
    """The files of the one model at `path`, in order: one, or all parts of a split one.

    `path` is an existing file or directory; symbolic links are followed. Raises ModelportError when a directory holds
    no model or several, when a part is missing, and when a file is not a GGUF file by name. OSError passes through.
    """
    if path.is_dir():
        path = _only_model(path)
    elif path.suffix.lower() != ".gguf":
        hint = " Name the directory that holds it." if path.suffix in (".safetensors", ".bin") else ""
        raise ModelportError(
            f"{str(path)!r} is no model: name a .gguf or .onnx file, a directory or a config.json.{hint}", param="model"
        )
    if not path.is_file():
        raise ModelportError(f"{str(path)!r} is not a regular file.", param="model")
    return _parts(path)


def _only_model(directory: Path) -> Path:
    """The first file of the only model in a directory."""
    names = sorted(entry.name for entry in directory.iterdir())
    # A projector (mmproj) belongs to the model beside it and is none itself.
    models = [name for name in names if name.lower().endswith(".gguf") and not is_projector(name)]
    if not models:
        raise ModelportError(f"{str(directory)!r} holds no .gguf file.", MODEL_NOT_FOUND, param="model")
    firsts: dict[tuple[str, str], str] = {}
    for name in models:
        part = _PART.fullmatch(name)
        firsts.setdefault((part["stem"], part["count"]) if part else (name, ""), name)
    if len(firsts) > 1:
        shown = ", ".join(list(firsts.values())[:_MOST_NAMED]) + (", ..." if len(firsts) > _MOST_NAMED else "")
        raise ModelportError(f"{str(directory)!r} holds {len(firsts)} models; name one: {shown}.", param="model")
    return directory / next(iter(firsts.values()))


def _parts(path: Path) -> tuple[Path, ...]:
    part = _PART.fullmatch(path.name)
    if not part:
        return (path,)
    count = int(part["count"])
    present = {entry.name for entry in path.parent.iterdir()}
    names = [f"{part['stem']}-{number:05}-of-{part['count']}.gguf" for number in range(1, count + 1)]
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise ModelportError(
            f"{str(path)!r} is one of {count} parts, and {len(missing)} are missing: "
            f"{', '.join(missing[:_MOST_NAMED])}{', ...' if len(missing) > _MOST_NAMED else ''}.",
            param="model",
        )
    return tuple(path.parent / name for name in names)
