"""Source: what a model's directory holds, as far as it is known before any weights are read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from modelport.errors import ModelportError
from modelport.runtime.handler import LoadFailed
from modelport.runtime.language.options import Options

Kind = Literal["llm", "vlm", "embedding"]
VISION_KEYS = ("vision_config", "visual", "vision_tower", "mm_vision_tower")
"""A config with one of these is a vision-language model's (nvidia-tao-core's HuggingFace server has the same rule)."""
GENERATES = ("ForCausalLM", "LMHeadModel")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
MAX_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Source:
    base: Path
    """The directory with config.json and all weights."""
    adapter: Path | None
    """The directory of a LoRA adapter for it."""
    kind: Kind
    config: dict[str, Any]


def find(directory: Path, task: str, options: Options) -> Source:
    """Raises LoadFailed for a directory that cannot be served, with what is missing."""
    adapter = directory if options.enable_lora else None
    base = Path(options.base_model_path) if options.enable_lora else directory
    if adapter is not None:
        _adapter(adapter)
        if not base.is_dir():
            raise LoadFailed("`base_model_path` is no directory here: it must hold the model the adapter was made for.")
    if (base / "model_index.json").exists():
        raise LoadFailed("This is a diffusion pipeline, which makes pictures. Only models that make text are served.")
    if not (base / "config.json").is_file():
        hint = ""
        if (base / "adapter_config.json").is_file():
            hint = " It holds a LoRA adapter: set `enable_lora` to true and `base_model_path` to the model it is for."
        raise LoadFailed(f"The model's directory has no config.json.{hint}")
    config = read(base / "config.json")
    weights(base, "model")
    return Source(base, adapter, _kind(config, task), config)


def read(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model. Raises LoadFailed."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise LoadFailed(f"{path.name} is larger than {MAX_CONFIG_BYTES >> 20} MiB, so it is no configuration.")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise LoadFailed(f"{path.name} cannot be read as JSON. Fetch the model again.") from None
    if not isinstance(found, dict):
        raise LoadFailed(f"{path.name} is not a JSON object. Fetch the model again.")
    return cast(dict[str, Any], found)


def weights(directory: Path, what: str) -> None:
    """Raises LoadFailed where a directory has no safetensors; pickles can run code, so they are never read."""
    if any(directory.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
    if pickles:
        raise LoadFailed(
            f"The {what}'s weights are pickled ({pickles[0]}), and reading those can run code, so it is not done. "
            "Convert them where you trust the file: load the model with transformers, then save_pretrained(DIRECTORY), "
            "which writes safetensors."
        )
    raise LoadFailed(f"The {what}'s directory has no .safetensors file.")


def _adapter(directory: Path) -> None:
    path = directory / "adapter_config.json"
    if not path.is_file():
        raise LoadFailed("`enable_lora` is on, but the model's directory has no adapter_config.json.")
    kind = read(path).get("peft_type")
    if kind != "LORA":
        raise LoadFailed(f"The adapter is of the type {kind!r}; only LORA can be loaded.")
    weights(directory, "adapter")


def _kind(config: dict[str, Any], task: str) -> Kind:
    if task == "embed":
        return "embedding"
    if task != "generate":
        raise ModelportError(f"A language model's task is generate or embed, not {task!r}.", param="task")
    if any(config.get(key) for key in VISION_KEYS):
        return "vlm"
    architectures = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith(GENERATES) for name in architectures):
        return "llm"
    named = architectures[0] if architectures else config.get("model_type")
    raise LoadFailed(
        f"The architecture {named!r} does not make text from a conversation. For embeddings set the task to embed."
    )
