# torch lives in the runtime's own environment, not in the one that is type-checked.
# pyright: reportMissingImports=false
"""Pooling: one vector out of a text's many, as sentence-transformers writes it down beside a model (modules.json)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.runtime.handler import LoadFailed
from modelport.runtime.language.source import read as read_json

MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Its flags, in the order in which the vectors of several are put together, and its newer names for them."""


@dataclass(frozen=True, slots=True)
class Pooling:
    modes: tuple[str, ...] = ("mean",)
    unit: bool = False
    """Whether vectors are made to have the length 1."""
    most_tokens: int | None = None
    lower: bool = False
    prefix: str = ""
    """What the model wants in front of a text."""


def read(directory: Path) -> Pooling:
    """Raises LoadFailed for a pipeline with steps that are not done here."""
    path = directory / "modules.json"
    if not path.is_file():
        return Pooling()
    try:
        modules = [
            (str(module["type"]).rpartition(".")[2], str(module["path"])) for module in json.loads(path.read_bytes())
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise LoadFailed("modules.json cannot be read. Fetch the model again.") from None
    odd = [name for name, _ in modules if name not in ("Transformer", "Pooling", "Normalize")]
    if odd:
        raise LoadFailed(f"The model's sentence-transformers pipeline has the step {odd[0]!r}, which is not supported.")
    steps = dict(modules)
    config = _inside(directory, steps["Pooling"]) if "Pooling" in steps else {}
    asked = config.get("pooling_mode")
    named = (asked,) if isinstance(asked, str) else tuple(mode for flag, mode in MODES.items() if config.get(flag))
    modes = named or ("mean",)
    if any(mode not in MODES.values() for mode in modes):
        raise LoadFailed(f"The model's pooling {modes!r} is not supported. Known: {', '.join(MODES.values())}.")
    sentence = _maybe(directory / "sentence_bert_config.json")
    whole = _maybe(directory / "config_sentence_transformers.json")
    prefix = (whole.get("prompts") or {}).get(whole.get("default_prompt_name") or "", "")
    if prefix and config.get("include_prompt") is False:
        raise LoadFailed("The model leaves its prompt out of the pooling, which is not supported.")
    return Pooling(
        modes, "Normalize" in steps, sentence.get("max_seq_length"), bool(sentence.get("do_lower_case")), prefix
    )


def pool(last: Any, mask: Any, pooling: Pooling) -> Any:
    """Vectors (texts, width) of the last layer (texts, tokens, width) and the mask of what is no padding."""
    import torch

    found = torch.cat([_one(last, mask, mode) for mode in pooling.modes], dim=-1)
    return torch.nn.functional.normalize(found, dim=-1) if pooling.unit else found


def _one(last: Any, mask: Any, mode: str) -> Any:
    import torch

    weights = mask.unsqueeze(-1).to(last.dtype)
    counts = weights.sum(1)
    if mode == "cls":
        return last[:, 0]
    if mode == "lasttoken":
        return last[torch.arange(len(last), device=last.device), mask.sum(1) - 1]
    if mode == "max":
        return last.masked_fill(weights == 0, float("-inf")).amax(1)
    if mode == "weightedmean":  # SGPT: a token weighs as much as its place
        weights = weights * torch.arange(1, last.shape[1] + 1, device=last.device).view(1, -1, 1)
        return (last * weights).sum(1) / weights.sum(1)
    total = (last * weights).sum(1)
    return total / (counts.sqrt() if mode == "mean_sqrt_len_tokens" else counts)


def _inside(directory: Path, name: str) -> dict[str, Any]:
    """A step's config.json. Its path comes out of a file of the model's, so it may not lead out of the directory."""
    path = (directory / name / "config.json").resolve()
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise LoadFailed("modules.json names a path outside of the model's directory.")
    return read_json(path)


def _maybe(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
