"""Local advice: why a model does not fit llama.cpp on these devices, and what would."""

from collections.abc import Callable

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Device
from modelport.domain.spec import Spec
from modelport.domain.units import show_bytes
from modelport.planner.memory import CONTEXT_STEP

BITS_PER_WEIGHT = {"Q8_0": 8.50, "Q6_K": 6.56, "Q5_K_M": 5.70, "Q4_K_M": 4.89, "Q3_K_M": 4.00, "Q2_K": 3.16}
"""Of Llama-3.1-8B (llama.cpp, tools/quantize/README.md); small models come out a little larger."""


def advice(
    facts: ModelFacts,
    spec: Spec,
    device: Device,
    context: int,
    parallel: int,
    weights_bytes: int,
    need: Callable[[int, int], int],
) -> tuple[str, ...]:
    """Sentences with numbers: what is missing, then each single change that would make it fit.

    `need` says the bytes that must be free on `device` for a context and so many requests at once; `weights_bytes` are
    those of them that are weights.
    """
    free = device.free_bytes
    missing = need(context, parallel) - free
    requests = "1 request" if parallel == 1 else f"{parallel} requests at once"
    lowered = "" if spec.context and spec.parallel else "even "
    sentences = [f"That is {show_bytes(missing)} too much, {lowered}for {requests} of up to {context:,} tokens."]
    if shorter := most(context // CONTEXT_STEP, lambda n: need(n * CONTEXT_STEP, parallel) <= free):
        sentences.append(f"A context of {shorter * CONTEXT_STEP:,} tokens would fit: set `context`.")
    if fewer := most(parallel - 1, lambda n: need(context, n) <= free):
        sentences.append(f"{fewer} at once would fit: set `parallel`.")
    room = free - need(context, parallel) + weights_bytes
    bits = room / max(1, weights_bytes) * facts.weight_bytes * 8 / max(1, facts.parameters)
    smaller = [name for name, size in BITS_PER_WEIGHT.items() if size <= bits]
    if smaller:
        sentences.append(f"A smaller quantization would fit: {smaller[0]} or below; this one is {facts.quantization}.")
    if len(sentences) == 1:
        sentences.append("No smaller setting fits: free memory, or choose a smaller model.")
    return tuple(sentences)


def most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n from 1 to `limit` that fits, or 0. What fits also fits smaller."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
