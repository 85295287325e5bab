"""Measure: what a start took of memory, beside what was planned; the next plans of this host are corrected by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelport import engines
from modelport.domain.plan import Plan

LOG_LINES = 5000
"""Of an engine's output, from which it is read what its cache holds: it says so while it starts."""
STORED = ("weights", "kv cache")
"""Parts whose size follows from the model's files; the others are overhead, which differs from host to host."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one start took of one device. None where nothing tells."""

    bytes: int | None = None
    kv_tokens: int | None = None
    """Of all copies of the model in the engine."""
    overhead_ratio: float | None = None
    """Measured over planned memory beside weights and cache."""


def expected(plan: Plan, accelerators: str | None) -> dict[str, Any]:
    """What is kept of a plan with its service, as JSON: its words, and what a start is measured against."""
    overhead = sum(part.bytes for part in plan.parts if part.name not in STORED)
    weights = sum(part.bytes for part in plan.parts if part.name == "weights")
    return {
        "sentence": plan.sentence(),
        "need_bytes": plan.need_bytes,
        "overhead_bytes": overhead,
        "cache_bytes": plan.room_bytes - weights - overhead,
        "kv_tokens": round(plan.kv_tokens.guess) if plan.kv_tokens else None,
        "copies": plan.split.data,
        "gpu": plan.device.kind == "gpu",
        "gpus": plan.split.gpus if plan.device.kind == "gpu" else 0,
        "parallel": plan.parallel,
        "context_tokens": plan.context_tokens,
        "task": plan.task,
        "accelerators": accelerators,
    }


def taken(engine: str, plan: Mapping[str, Any], lines: list[str], process_bytes: int | None) -> Taken:
    """What a start took. `plan` is what `expected` gave, `lines` the engine's output, `process_bytes` what its process
    has of the machine's memory.

    A process's memory when it becomes ready is the least it will have: buffers that no request has used yet are not
    there. So it can show that overhead was planned too small, never too large. On GPUs the engine sets all aside first
    and says what is left for its cache: what that is short of (or beyond) the plan, overhead was more (or less).
    """
    found = engines.load(engine).measured(lines)
    tokens = found.kv_tokens * (plan.get("copies") or 1) if found and found.kv_tokens else None
    overhead, need = plan.get("overhead_bytes") or 0, plan.get("need_bytes") or 0
    if not plan.get("gpu"):
        if not process_bytes or not overhead:
            return Taken(process_bytes, tokens)
        return Taken(process_bytes, tokens, max(1.0, (process_bytes - need + overhead) / overhead))
    planned_tokens, cache = plan.get("kv_tokens") or 0, plan.get("cache_bytes") or 0
    if not tokens or not planned_tokens or cache <= 0 or not overhead:
        return Taken(None, tokens)
    more = round(cache * (1 - tokens / planned_tokens))
    return Taken(need + more, tokens, max(0.0, (overhead + more) / overhead))
