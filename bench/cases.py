"""Cases: a row of bench/data/cases.jsonl as what the planner is asked, and what the engine then measured."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from truth import GIB, config_of_row, rows

from modelport.catalog.config import facts_of_config
from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import Gpu
from modelport.domain.plan import Split
from modelport.errors import ModelportError
from modelport.planner.ask import Ask
from modelport.planner.gpus import find

RELEASED = {
    "vllm": {
        "2024-04": "0.4.1", "2024-07": "0.5.3", "2024-08": "0.5.4", "2025-04": "0.8.3", "2025-10": "0.11.0",
        "2025-11": "0.11.1", "2026-06": "0.22.0",
    },
    "sglang": {
        "2024-07": "0.1.20", "2024-08": "0.2.12", "2024-11": "0.3.6", "2025-05": "0.4.6", "2025-10": "0.5.3",
    },
}  # fmt: skip
"""The release of the month in which a log without a version was published."""
UNNAMED = Gpu("unnamed", 0, "nvidia", 8.0, 1e12, False, False, "")
"""Where a log names no GPU only the weights can be compared."""
TRAINED = {"mistral-7b|zephyr|openhermes": 32768, "qwen2.5-vl": 128000}
"""max_position_embeddings of published configs where the models file has the sliding window in its place, or none."""
UNTAGGED = "0.1.dev"
"""What a checkout without tags calls itself: its number counts commits, 18,496 of them in mid-2026."""


@dataclass(frozen=True, slots=True)
class Case:
    """One launch: the question, and the engine's answer where it was recorded."""

    row: dict[str, Any]
    facts: ModelFacts
    ask: Ask
    tokens: float | None
    """Tokens of cache that one data-parallel copy reported."""
    cache_gib: float | None
    """Memory for the cache it reported, per GPU."""
    weights_gib: float | None

    @property
    def id(self) -> str:
        return self.row["id"]

    @property
    def has_gpu(self) -> bool:
        return self.ask.gpu.memory_bytes > 0

    @property
    def verdict(self) -> str:
        """`fits`, `kv_too_small`, `oom`, or empty where the log does not say."""
        outcome = str(self.row["outcome"] or "")
        if outcome in ("kv_too_small", "fail_at_given_len", "fit_below_max_len"):
            return "kv_too_small"
        if outcome.startswith("oom"):
            return "oom"
        return "fits" if outcome.startswith("fit") else ""


KEYS = (
    "id", "engine", "engine_version", "model_id", "model_key", "quantization", "kv_cache_dtype", "gpu_model",
    "gpu_total_gib", "n_gpus", "tp", "pp", "dp", "ep", "gpu_memory_utilization", "gmu_evidence", "mem_fraction_static",
    "max_model_len", "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "speculative", "weights_gib_per_gpu",
    "kv_available_gib_per_gpu", "kv_tokens", "num_gpu_blocks", "block_size", "outcome", "notes", "precision",
    "source_path", "result", "statement",
)  # fmt: skip
"""What is read of a row; what a row lacks is None. `use` is `score` and `family` the model where they are not said."""


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    found = rows("", path)
    return [{**dict.fromkeys(KEYS), "use": "score", "family": row.get("model_id") or "", **row} for row in found]


def case_of(row: dict[str, Any], models: dict[str, dict[str, Any]]) -> Case | str:
    """The case of a row, or the sentence why the planner cannot be asked."""
    try:
        return _case_of(row, models)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        return f"the row cannot be read: {error}"


NUMBERS = frozenset(key for key in KEYS if key.endswith(("_gib", "_gpu", "_tokens", "_len", "_seqs", "_blocks"))) | {
    "n_gpus", "tp", "pp", "dp", "ep", "gpu_memory_utilization", "mem_fraction_static", "block_size",
}  # fmt: skip


def _wrong(row: dict[str, Any]) -> str:
    """The first value that is not what its key holds; empty where all are."""
    for key in KEYS:
        value = row[key]
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        kind = number if key in NUMBERS else isinstance(value, bool if key == "enforce_eager" else str)
        if value is not None and not kind:
            return f"its {key} is {value!r}"
    return ""


def _case_of(row: dict[str, Any], models: dict[str, dict[str, Any]]) -> Case | str:
    if wrong := _wrong(row):
        return f"the row cannot be read: {wrong}"
    if row["engine"] not in USUAL:
        return f"the engine {row['engine']!r} is not one that was measured"
    model = models.get(row["model_key"] or row["model_id"] or "")
    if model is None:
        return "the model is not named, or not in the models file"
    if row["kv_cache_dtype"] and "fp4" in row["kv_cache_dtype"]:
        return "a cache in FP4 comes from a patched build"
    if "context parallel" in (row["notes"] or ""):
        return "decode context parallelism is not planned"
    if "draft" in (row["speculative"] or "").lower() or "model:" in (row["speculative"] or ""):
        return "the size of its draft model is not in the models file"
    gpu = gpu_of(row)
    split = split_of(row)
    try:
        config = config_of_row(model, row["model_id"] or "", row["quantization"] or "")
        facts = facts_of_config(row["model_id"] or "", config, total_bytes=_total(row, model))
    except ModelportError as error:
        return error.message
    if "embed" in (row["model_id"] or "").lower():
        facts = replace(facts, task="embed")  # as its sentence-transformers files say, which the models file lacks
    if gpu is None:
        return Case(
            row, facts, ask_of(row, UNNAMED, split, facts.context_tokens), None, None, row["weights_gib_per_gpu"]
        )
    measured = row["kv_tokens"] or (row["num_gpu_blocks"] or 0) * (row["block_size"] or 16) or None
    ask = ask_of(row, gpu, split, facts.context_tokens)
    return Case(row, facts, ask, measured, row["kv_available_gib_per_gpu"], row["weights_gib_per_gpu"])


def _total(row: dict[str, Any], model: dict[str, Any]) -> int:
    """Bytes of the checkpoint where the models file has them of this very checkpoint, counted once."""
    gib = model.get("safetensors_gib")
    if not gib or "twice" in (model.get("notes") or "") or row["model_key"] not in (None, row["model_id"]):
        return 0
    return int(gib * GIB)


def gpu_of(row: dict[str, Any]) -> Gpu | None:
    """The row's GPU, with the memory its own log printed where it did."""
    name, total = row["gpu_model"] or "", row["gpu_total_gib"]
    found = None if "MIG" in name or "vGPU" in name or "shared" in name else find(re.sub(r" *\(.*", "", name))
    if found is None and total:
        vendor = "amd" if "AMD" in name or "RX " in name or "Radeon" in name else "nvidia"
        found = Gpu(name or "GPU", 0, vendor, 9.0 if total > 70 else 8.6, 1e12, False, False, "PCIe 4")
    return replace(found, memory_bytes=int(total * GIB)) if found and total else found


def split_of(row: dict[str, Any]) -> Split:
    """SGLang counts its data-parallel GPUs among the tensor-parallel ones; a Split does not."""
    tensor, data, expert = row["tp"] or 1, row["dp"] or 1, row["ep"] or 1
    if row["engine"] == "sglang" and data > 1:
        expert, tensor = tensor, max(1, tensor // data)
    return Split(tensor, row["pp"] or 1, data, expert)


USUAL = {"vllm": "0.12.0", "sglang": "0.5.6"}
"""What is assumed of a log that names no version and nothing that tells it: the most frequent one."""


def version_of(row: dict[str, Any]) -> str:
    """The engine's version as a release; empty (the newest) for untagged builds of late."""
    text = row["engine_version"] or ""
    if text.startswith(UNTAGGED):
        return ""
    if match := re.search(r"20\d\d-\d\d", text):
        text = RELEASED[row["engine"]].get(match[0], "")
    if "~" in (row["engine_version"] or ""):
        text = (row["engine_version"] or "").split("~")[1]
    blocks_only = row["num_gpu_blocks"] is not None and row["kv_tokens"] is None and row["engine"] == "vllm"
    if blocks_only and (not text or text.startswith(("0.8", "0.9"))):
        return "0.7.3"  # the log line of vLLM's first engine, which 0.8 and 0.9 still had
    return text or USUAL[row["engine"]]


def ask_of(row: dict[str, Any], gpu: Gpu, split: Split, trained: int) -> Ask:
    speculative = row["speculative"] or ""
    drafted = re.search(r"num_speculative_tokens: (\d+)", speculative)
    # Where nothing was printed the row says the default of most versions; the planner knows each version's own.
    assumed = (row["gmu_evidence"] or "").startswith("default")
    return Ask(
        engine=row["engine"],
        gpu=gpu,
        split=split,
        context=row["max_model_len"] or _trained(row) or trained or 4096,
        version=version_of(row),
        memory_fraction=None if assumed else row["gpu_memory_utilization"] or row["mem_fraction_static"],
        kv_dtype=row["kv_cache_dtype"] or "auto",
        max_batched_tokens=row["max_num_batched_tokens"],
        max_requests=row["max_num_seqs"],
        eager=bool(row["enforce_eager"]),
        draft_tokens=int(drafted[1]) if drafted else 0,
    )


def _trained(row: dict[str, Any]) -> int:
    name = row["model_id"] or ""
    return next((tokens for pattern, tokens in TRAINED.items() if re.search(pattern, name, re.IGNORECASE)), 0)
