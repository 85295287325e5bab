"""GPU memory: what an engine (vLLM, SGLang, TGI) takes of each GPU, part by part, and what it leaves for the cache.

The form is physics (what the engines' own profiling runs allocate, see `_activations`), the constants are fitted to
what engines printed (calibration.json, made by bench/calibrate.py), and every part is an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot, inf

from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import Gpu
from modelport.domain.plan import Part, Span, Verdict
from modelport.domain.units import show_bytes
from modelport.planner import cache
from modelport.planner.ask import Ask
from modelport.planner.calibration import Overhead, overhead, parse_version
from modelport.planner.defaults import Defaults, defaults
from modelport.planner.weights import weights, while_loading

GIB = 1 << 30
GPU_SLACK = 0.02
"""Drivers, ECC and desktops leave cards of one name that much more or less."""
V0_OUTSIDE_SHARE = 0.1
"""Of the GPU: CUDA's context, graphs and fragments (a start with 8 % left ran out of memory, row c045)."""
SGLANG_OUTSIDE_SHARE = 0.35
"""Of what SGLang's own rule leaves for activations and graphs; starts with half of it went well (bench/data)."""
ENCODER_TOKENS = 6404
"""Of one image of Llama 3.2 Vision, four tiles: vLLM V0 profiled as many for every request (rows c048, c049)."""
VISION_GIB = {"qwen": (0.0, 0.2, 7.0)}
"""What profiling the vision encoder takes beyond the language model: Qwen-VL takes images of any size, and up to 7 GiB
are needed to explain row c073; others 0 to 1 (gemma-3: 0.3)."""
OTHER_VISION_GIB = (0.0, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an Ask takes of one GPU, the fullest. The cache gets what is left of the budget."""

    budget_bytes: int
    memory_fraction: float
    parts: tuple[Part, ...]
    """`weights`, `activations`, `cuda graphs`, `other`: everything but the cache."""
    cache_bytes: Span
    """Left for the cache; below 0 where nothing is left."""
    kv_tokens: Span
    """What that holds, as the engine reports it; 0 and more."""
    extrapolated: str
    """Empty, or what makes this reach beyond what was measured."""
    doubt: str = ""
    """Empty, or what the engine allocates outside of its budget, so that no interval says that it fits."""

    def verdict(self, need_bytes: float) -> Verdict:
        """Whether the cache holds so much: for sure, for sure not, or somewhere between."""
        if self.cache_bytes.high < need_bytes:
            return "does_not_fit"
        return "fits" if self.cache_bytes.low >= need_bytes and not self.doubt else "too_close"


def estimate(facts: ModelFacts, ask: Ask, rows: Sequence[Overhead] | None = None) -> Estimate:
    """The memory of one GPU. Raises nothing: what cannot fit leaves a negative cache. `rows`: another calibration."""
    version = parse_version(ask.engine, ask.version)
    standard = defaults(ask.engine, version, ask.gpu, ask.split, ask.context)
    fraction = ask.memory_fraction or standard.memory_fraction
    table = overhead(ask.engine, version, ask.gpu, ask.split.tensor, rows)
    budget = int(ask.gpu.memory_bytes * fraction)
    parts = (
        weights(facts, ask),
        _activations(facts, ask, standard, table),
        _vision(facts, ask),
        _exactly("cuda graphs", 0.0 if ask.eager else table.graphs_gib * GIB),
        _other(table, ask.gpu),
    )
    laid = layout(facts, ask)
    guess = budget - sum(part.bytes for part in parts)
    # The parts' errors are independent of each other, so their widths add in squares.
    slack = GPU_SLACK * ask.gpu.memory_bytes
    below = hypot(table.other_high_gib * GIB - parts[-1].bytes + slack, *(p.high_bytes - p.bytes for p in parts[:-1]))
    above = hypot(parts[-1].bytes - table.other_low_gib * GIB + slack, *(p.bytes - p.low_bytes for p in parts[:-1]))
    left = _at_most(Span(guess - below, guess, guess + above), _room_after_loading(facts, ask, version))
    tokens = [max(0.0, value) * laid.share / max(1.0, laid.token_bytes) for value in (left.low, left.guess, left.high)]
    return Estimate(
        budget_bytes=budget,
        memory_fraction=fraction,
        parts=parts,
        cache_bytes=left,
        kv_tokens=Span(*(value * ask.split.data for value in tokens)),
        extrapolated="" if table.rows else _unmeasured(ask),
        doubt=_doubt(facts, ask, standard, fraction),
    )


def cache_need(facts: ModelFacts, ask: Ask, parallel: int) -> int:
    """Bytes of one GPU that `parallel` requests of `ask.context` tokens each keep, as the engine allocates them.

    More context or more requests never need less. Data-parallel copies share the requests out.
    """
    laid = layout(facts, ask)
    return ceil(laid.request_bytes * ceil(parallel / ask.split.data) / laid.share)


def _room_after_loading(facts: ModelFacts, ask: Ask, version: tuple[int, ...]) -> float:
    """What a GPU has left while weights lie there that are quantized only afterwards; no bound where they are not."""
    peak = while_loading(facts, ask, version)
    return ask.gpu.memory_bytes * (1 - GPU_SLACK) - peak if peak else inf


def _at_most(span: Span, most: float) -> Span:
    """Where loading itself does not fit, what is lacking for it; else the span as it is."""
    return span if most >= 0 else Span(*(min(value, most) for value in (span.low, span.guess, span.high)))


def _other(table: Overhead, gpu: Gpu) -> Part:
    """The rest. As fitted its lower end may be below 0, where activations are fitted too large; no part is shown so."""
    slack = GPU_SLACK * gpu.memory_bytes
    low, guess, high = (gib * GIB for gib in (table.other_low_gib, table.other_gib, table.other_high_gib))
    return Part("other", int(max(0, low - slack)), int(guess), int(high + slack))


def _unmeasured(ask: Ask) -> str:
    version = f" {ask.version}" if ask.version else ""
    return f"No start of {ask.engine}{version} with tensor parallelism {ask.split.tensor} on such a GPU was measured."


def _doubt(facts: ModelFacts, ask: Ask, standard: Defaults, fraction: float) -> str:
    """What lies outside of the budget: SGLang's activations and graphs; the states of all requests of vLLM V0."""
    total = ask.gpu.memory_bytes
    outside = total * (1 - fraction)
    if ask.engine == "sglang" and outside < SGLANG_OUTSIDE_SHARE * total * (1 - standard.memory_fraction):
        return (
            f"SGLang computes in what memory_fraction leaves, which is {show_bytes(outside)} here; it would leave "
            f"{show_bytes(total * (1 - standard.memory_fraction))} itself."
        )
    states = sum(kept.layers * kept.state_bytes for kept in facts.caches) / ask.split.tensor
    if standard.v0 and states:
        outside -= states * (ask.max_requests or standard.requests)
        if outside < V0_OUTSIDE_SHARE * total:
            return "This version keeps the states of its requests outside of its budget, where little is left."
    return ""


def _exactly(name: str, size: float) -> Part:
    """A part whose error is counted in that of `other`: what was fitted is what they leave."""
    return Part(name, int(size), int(size), int(size))


def _activations(facts: ModelFacts, ask: Ask, standard: Defaults, table: Overhead) -> Part:
    """The peak of the engine's profiling run: the larger of one forward pass of a full batch and one sampling step.

    Forward, 16 bit: three vectors of the embedding size, one more for each expert, and three of the feed-forward's
    share per token (measured: 110 KB a token for Llama-3.1-8B, rows c005 and c006 of bench/data). Sampling: logits in
    32 bit and what sorting them needs (`sampler_bytes` a logit, fitted per version), for every request at once.
    SGLang profiles nothing: its activations live in the share of memory that mem_fraction_static leaves.
    """
    if ask.engine == "sglang":
        return _exactly("activations", 0)
    tokens = ask.max_batched_tokens or standard.batched_tokens
    requests = min(tokens, ask.max_requests or standard.requests)
    if standard.v0 and any(kept.kind == "cross" for kept in facts.caches):
        tokens = max(tokens, requests * ENCODER_TOKENS)
    wide = facts.feed_forward_size or 4 * facts.embedding_size
    # Copies that share out experts gather each other's tokens first (vLLM's default all-to-all is an all-gather).
    gathered = ask.split.data if ask.split.expert > 1 else 1
    vectors = 3 * facts.embedding_size + 3 * wide / ask.split.tensor
    vectors += facts.experts_per_token * facts.embedding_size * gathered
    forward = tokens * (4 if ask.dtype == "float32" else 2) * vectors * table.forward_scale
    sampling = 0.0 if facts.task == "embed" else requests * facts.vocabulary * table.sampler_bytes
    return _exactly("activations", max(forward, sampling))


def _vision(facts: ModelFacts, ask: Ask) -> Part:
    if "image" not in facts.inputs or ask.engine == "sglang":
        return _exactly("vision", 0)
    sizes = next((s for kind, s in VISION_GIB.items() if facts.architecture.startswith(kind)), OTHER_VISION_GIB)
    return Part("vision", *(int(gib * GIB) for gib in sizes))


def with_draft(caches: Sequence[cache.Cache]) -> tuple[cache.Cache, ...]:
    """One layer more of the first kind that attends to everything."""
    drafting = next((number for number, kept in enumerate(caches) if kept.kind in ("full", "mla")), None)
    return tuple(replace(k, layers=k.layers + 1) if n == drafting else k for n, k in enumerate(caches))


def layout(facts: ModelFacts, ask: Ask) -> cache.Layout:
    """How the engine lays its cache out."""
    version = parse_version(ask.engine, ask.version)
    standard = defaults(ask.engine, version, ask.gpu, ask.split, ask.context)
    element = cache.element_bytes(ask.kv_dtype, ask.dtype)
    split = ask.split
    if ask.draft_tokens and any(group.name == "draft" for group in facts.weights):
        facts = replace(facts, caches=with_draft(facts.caches))  # MTP attends too, in a layer of its own
    facts = replace(facts, caches=(*facts.caches, *ask.draft_caches))
    if ask.engine == "sglang":
        return cache.sglang(facts, split.tensor, split.pipeline, element, ask.context)
    if ask.engine == "vllm" and not standard.v0:
        return cache.vllm(
            facts,
            split.tensor,
            split.pipeline,
            element,
            ask.context,
            ask.max_batched_tokens or standard.batched_tokens,
            by_concurrency=version >= (0, 20, 1),
            draft_tokens=ask.draft_tokens,
            padding=1.5 if version >= (0, 19) else cache.GROUP_PADDING,
        )
    return cache.plain(facts, split.tensor, split.pipeline, element, ask.context)
