"""Served on CPU: how vLLM would run a model without a GPU. Not calibrated, and said so.

vLLM on CPU sets aside VLLM_CPU_KVCACHE_SPACE for the cache, whatever is asked (vllm/platforms/cpu.py); the plan is of
what it needs, for the engine to be told.
"""

from collections.abc import Sequence

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Device, Part, Plan, Span, Verdict
from modelport.domain.spec import Spec
from modelport.domain.units import show_bytes
from modelport.planner.compute import quantization
from modelport.planner.local_advice import most
from modelport.planner.served import CONTEXT_STEP, LEAST_CONTEXT, UNKNOWN_CONTEXT
from modelport.planner.task import task_of

GIB = 1 << 30
PROGRAM_BYTES = (1 * GIB, 3 * GIB, 6 * GIB)
"""An estimate: Python, torch, the compiler and activations of one process."""
DEFAULT_CONTEXT = 8192
BLOCK_TOKENS = 128
"""vLLM's block size on CPU (platforms/cpu.py)."""


def plan(
    facts: ModelFacts, spec: Spec, devices: Sequence[Device], ready_s: Span, draft: ModelFacts | None = None
) -> Plan:
    """One copy, with its draft model, in the CPU's memory; unasked, context is 8,192 tokens or what memory holds."""
    device = next(device for device in devices if device.kind == "cpu")
    parallel = spec.parallel or 1
    trained = facts.context_tokens or UNKNOWN_CONTEXT
    models = [facts, draft] if draft else [facts]
    per_token = sum(model.kv_bytes_per_token for model in models)

    def parts(context: int, requests: int) -> tuple[Part, ...]:
        cache = -(-context // BLOCK_TOKENS) * BLOCK_TOKENS * requests * per_token
        weights = sum(model.weight_bytes for model in models)
        return (
            Part(
                "weights", weights, weights, weights * 2
            ),  # loading keeps the file's pages beside the copy for a while
            Part("kv cache", cache, cache, cache),
            Part("program", *PROGRAM_BYTES),
        )

    def high(context: int, requests: int) -> int:
        return sum(part.high_bytes for part in parts(context, requests))

    def longest(limit: int) -> int:
        return CONTEXT_STEP * most(
            limit // CONTEXT_STEP, lambda n: high(n * CONTEXT_STEP, parallel) <= device.free_bytes
        )

    wanted = spec.context or min(trained, DEFAULT_CONTEXT)
    context = wanted if spec.context or high(wanted, parallel) <= device.free_bytes else 0
    context = context or max(longest(wanted), min(wanted, LEAST_CONTEXT))
    chosen = parts(context, parallel)
    low = sum(part.low_bytes for part in chosen)
    free = device.free_bytes
    verdict: Verdict = "fits" if high(context, parallel) <= free else "does_not_fit" if low > free else "too_close"
    reasons: list[str] = []
    if verdict == "does_not_fit":
        reasons.append(f"{show_bytes(low - free)} are missing even by the lowest estimate.")
    if spec.context is None and context < trained and verdict != "does_not_fit":
        reasons.append(f"A request gets {context:,} of the {trained:,} tokens of its training; set `context`.")
    return Plan(
        device=device,
        task=task_of(facts, spec),
        parts=chosen,
        context_tokens=context,
        parallel=parallel,
        verdict=verdict,
        reasons=tuple(reasons),
        kv_tokens=Span(*([float(context * parallel)] * 3)),
        max_context=longest(trained),
        max_parallel=most(256, lambda n: high(context, n) <= free),
        quantization=quantization(facts, spec),
        ready_s=ready_s,
        extrapolated="vLLM on CPU has not been calibrated; the bounds are wide.",
    )
