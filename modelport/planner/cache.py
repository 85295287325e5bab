"""Cache layout: what keys, values and states take on one GPU, as each engine allocates them.

Sources: vLLM V1, v1/core/kv_cache_utils.py and v1/kv_cache_interface.py (0.8.5 to 0.32.0); vLLM V0, worker/worker.py
(0.2 to 0.7); SGLang, model_executor/model_runner.py profile_max_num_token (0.1.17 to 0.5.6). Checked by
bench/planner.py against what the engines printed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from modelport.domain.facts import Cache, ModelFacts

BLOCK_TOKENS = 16
"""vLLM's default block_size on GPUs; layouts with a state of fixed size grow it until a block holds one state."""
SPARSE_FP8_LATENT_BYTES = 656
"""vLLM's and SGLang's FP8 layout of a sparse MLA latent: 512 values, 16 bytes of scales, 64 rotary values in 16 bit."""
GROUP_PADDING = 1.25
"""vLLM pads the smaller kind of layers when the larger has less than this times as many (1.5 since 0.19)."""
SGLANG_WINDOW_SHARE = 0.8
"""SGLang's swa_full_tokens_ratio: tokens kept by sliding layers per token kept by full ones."""
SGLANG_WINDOWS_IN_FULL = ("gemma2", "gemma3")
"""Architectures for which SGLang keeps windows like full layers (server_args.py disables hybrid memory for them)."""
SGLANG_STATE_SHARE = 0.9 / 1.9
"""SGLang's mamba_full_memory_ratio 0.9: the states' part of what is left."""
WINDOWS = ("sliding", "chunked")


@dataclass(frozen=True, slots=True)
class Layout:
    """How one engine's cache is laid out on one GPU. Bytes."""

    token_bytes: float
    """Per token that the engine's report counts, all layers of this GPU together."""
    request_bytes: float
    """Of one request of the asked context."""
    share: float = 1.0
    """Of the memory left, what goes to tokens."""


def element_bytes(kv_dtype: str, dtype: str = "auto") -> int:
    """Bytes of one key's or value's element: 1 for FP8 and INT8, else as computed in (16 bit but for float32)."""
    if kv_dtype.lower().startswith(("fp8", "int8")):
        return 1
    return 4 if dtype == "float32" else 2


def layer_bytes(cache: Cache, tensor: int, element: int) -> float:
    """Bytes of one token in one layer on one GPU.

    Key/value heads are divided among tensor-parallel GPUs down to one each, then copied; a latent is never divided.
    """
    if cache.kind == "state":
        return 0.0
    if cache.kind == "mla":
        if element == 1 and cache.extra_bytes:
            return SPARSE_FP8_LATENT_BYTES + cache.extra_bytes
        return cache.key_size * element + cache.extra_bytes
    return ceil(cache.heads / tensor) * (cache.key_size + cache.value_size) * element + cache.extra_bytes


def staged(caches: Sequence[Cache], pipeline: int) -> list[Cache]:
    """The layers of the pipeline stage that has the most."""
    if pipeline == 1:
        return list(caches)
    return [replace(cache, layers=ceil(cache.layers / pipeline)) for cache in caches]


def plain(facts: ModelFacts, tensor: int, pipeline: int, element: int, context: int) -> Layout:
    """Every layer in full, windows too: vLLM V0, TGI, and the upper bound for whatever is not known better."""
    stage = staged(facts.caches, pipeline)
    token = sum(cache.layers * layer_bytes(cache, tensor, element) for cache in stage)
    states = sum(cache.layers * cache.state_bytes / tensor for cache in stage)
    return Layout(token, _blocks(context) * BLOCK_TOKENS * token + states)


def sglang(facts: ModelFacts, tensor: int, pipeline: int, element: int, context: int) -> Layout:
    """Full layers and sliding layers have pools of a stated ratio; states another."""
    stage = staged(facts.caches, pipeline)
    share = 1.0 if facts.architecture.startswith(SGLANG_WINDOWS_IN_FULL) else SGLANG_WINDOW_SHARE
    token = sum(
        cache.layers * layer_bytes(cache, tensor, element) * (share if cache.kind in WINDOWS else 1.0)
        for cache in stage
    )
    states = sum(cache.layers * cache.state_bytes / tensor for cache in stage)
    return Layout(token, context * token + states, share=1 - SGLANG_STATE_SHARE if states else 1.0)


def vllm(
    facts: ModelFacts,
    tensor: int,
    pipeline: int,
    element: int,
    context: int,
    batched: int,
    *,
    by_concurrency: bool,
    draft_tokens: int,
    padding: float = GROUP_PADDING,
) -> Layout:
    """vLLM V1: layers of one kind share block tables in groups of equal size; every block is equally many bytes.

    `by_concurrency`: since 0.20.1 the engine reports its tokens as concurrency times context, before as blocks over
    groups. `batched` is max_num_batched_tokens, which a window holds beside itself while a prompt is read.
    """
    stage = [cache for cache in staged(facts.caches, pipeline) if cache.layers]
    costs = [layer_bytes(cache, tensor, element) for cache in stage]
    widest = max(costs, default=0.0)
    if not widest:
        return plain(facts, tensor, pipeline, element, context)
    if len({cache.kind for cache in stage}) == 1 and len(set(costs)) == 1 and stage[0].kind not in WINDOWS:
        return plain(facts, tensor, pipeline, element, context)
    counts = [cache.layers for cache in stage]
    size = max(counts) if max(counts) < min(counts) * padding else min(counts)
    states = max((cache.state_bytes / tensor for cache in stage), default=0.0)
    block = max(BLOCK_TOKENS, ceil(states / widest / BLOCK_TOKENS) * BLOCK_TOKENS)
    block_bytes = size * block * widest
    groups = [(cache, cost, ceil(cache.layers / size)) for cache, cost in zip(stage, costs, strict=True)]
    blocks = 0
    for cache, cost, count in groups:
        tokens = block * widest / cost if cost else 0
        if cache.kind == "state":
            blocks += count * (1 + draft_tokens)
        elif cache.kind in WINDOWS:
            blocks += count * (ceil(min(cache.window_tokens - 1 + batched, context) / tokens) + 1)
        else:
            blocks += count * ceil(context / tokens)
    request = blocks * block_bytes
    if by_concurrency:
        return Layout(request / context, request)
    return Layout(size * widest * sum(count for _, _, count in groups), request)


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
