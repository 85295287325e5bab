"""Compares the planner with published recipes that say on which GPUs a model fits, or does not.

    python bench/recipes.py [--recipes F] [--models F] [--json]

A recipe names GPUs, a count and mostly a precision, seldom a context: where it has none, 2,048 tokens must fit. "Too
close to say" is counted by itself. Every disagreement is printed with our numbers.
"""

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cases import gpu_of, read
from truth import DATA, GIB, config_of_row

from modelport.catalog.config import facts_of_config
from modelport.domain.gpu import Gpu
from modelport.domain.plan import Split
from modelport.errors import ModelportError
from modelport.planner import gpu_memory
from modelport.planner.ask import Ask

LEAST_CONTEXT = 2048
PRECISION_TO_LOAD = {"fp8 (online)": "fp8"}
"""What a recipe says the engine quantizes while it loads; other precisions are the checkpoint's own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One recipe and what the planner says of it."""

    row: dict[str, Any]
    verdict: str
    weights_gib: float
    budget_gib: float
    cache_gib: tuple[float, float]
    """Left for the cache, low and high."""

    @property
    def agrees(self) -> bool | None:
        """None where we say that it is too close, or the recipe disputes itself."""
        wanted = {"fits": "fits", "does_not_fit": "does_not_fit"}.get(self.row["result"])
        if wanted is None or self.verdict == "too_close":
            return None
        return self.verdict == wanted


def answer(row: dict[str, Any], models: dict[str, dict[str, Any]]) -> Answer | str:
    """What the planner says, or why it cannot be asked."""
    model = models.get(row["model_id"])
    if model is None:
        return "the model is not in the models file"
    gpu = gpu_of({"gpu_model": row["gpu_model"], "gpu_total_gib": None}) or _by_size(row["gpu_model"] or "")
    if gpu is None:
        return "the GPU is not named"
    if not (row["tp"] or row["n_gpus"]):
        return "the number of GPUs is not said"
    precision = row["precision"] or ""
    try:
        config = config_of_row(model, row["model_id"], precision.partition("(")[2] or precision)
        if precision.startswith("bf16"):
            config.pop("quantization_config", None)
        size = int((model.get("safetensors_gib") or 0) * GIB) if "twice" not in (model.get("notes") or "") else 0
        facts = facts_of_config(row["model_id"], config, total_bytes=size)
    except ModelportError as error:
        return error.message
    count = row["n_gpus"] or row["tp"]
    tensor = row["tp"] or count
    pipeline = row["pp"] or 1
    ask = Ask(
        engine=row["engine"],
        gpu=gpu,
        split=Split(tensor, pipeline, 1, row["ep"] or 1),
        context=row["max_model_len"] or LEAST_CONTEXT,
        kv_dtype=row["kv_cache_dtype"] or "auto",
        quantization="" if facts.quantized else PRECISION_TO_LOAD.get(precision, ""),
    )
    found = gpu_memory.estimate(facts, ask)
    need = gpu_memory.cache_need(facts, ask, 1)
    left = found.cache_bytes
    weights = next(part.bytes for part in found.parts if part.name == "weights")
    return Answer(row, found.verdict(need), weights / GIB, found.budget_bytes / GIB, (left.low / GIB, left.high / GIB))


def _by_size(name: str) -> Gpu | None:
    """`80GB GPU`: any NVIDIA one of that size, of whose memory 94 % can be used."""
    match = re.match(r"(\d+)\s*GB", name)
    if not match:
        return None
    known = gpu_of({"gpu_model": "A100 80GB", "gpu_total_gib": None})
    return replace(known, name=name, memory_bytes=int(int(match[1]) * 1e9 * 1.01)) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=Path, default=DATA / "recipes.jsonl")
    parser.add_argument("--models", type=Path, default=DATA / "models.jsonl")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    models = {row["model_id"]: row for row in read(options.models) if row["model_id"]}
    answers: list[Answer] = []
    refused: dict[str, list[str]] = {}
    for row in read(options.recipes):
        found = answer(row, models)
        if isinstance(found, Answer):
            answers.append(found)
        else:
            refused.setdefault(found, []).append(row["id"])
    decided = [one for one in answers if one.agrees is not None]
    agreed = sum(bool(one.agrees) for one in decided)
    table = Counter((one.row["result"], one.verdict) for one in answers)
    other = [one for one in answers if one.agrees is False]
    if options.json:
        print(json.dumps({"recipes": len(answers), "decided": len(decided), "agreed": agreed,
                          "disagreed": [one.row["id"] for one in other], "not_planned": refused}))  # fmt: skip
        return
    share = agreed / max(1, len(decided))
    print(f"{len(answers)} recipes planned; of {len(decided)} that are decided {agreed} agree ({share:.1%})")
    for (theirs, ours), count in sorted(table.items()):
        print(f"  {theirs} -> {ours}: {count}")
    for reason, ids in sorted(refused.items(), key=lambda item: -len(item[1])):
        print(f"  not planned: {reason} ({', '.join(ids)})")
    for one in other:
        row = one.row
        print(
            f"{row['id']} {row['model_id']} {row['precision']} on {row['n_gpus']} x {row['gpu_model']} tp {row['tp']}: "
            f"recipe {row['result']}, ours {one.verdict}; weights {one.weights_gib:.1f} of {one.budget_gib:.1f} GiB, "
            f"cache {one.cache_gib[0]:.1f} to {one.cache_gib[1]:.1f}. «{row['statement'][:110]}»"
        )


if __name__ == "__main__":
    main()
