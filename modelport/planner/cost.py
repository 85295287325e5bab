"""Cost: an estimate of dollars per million output tokens at full load, by the bandwidth roofline.

While tokens are generated a GPU is bound by its memory: each step reads the weights once and every request's cache
once (Williams, Waterman, Patterson: Roofline, CACM 2009), and gives one token per request.

    step seconds = (weights a GPU reads + requests × tokens in cache × KV bytes per token) / (bandwidth × EFFICIENCY)
    tokens per second = copies × requests / step seconds

Pipeline stages work on different requests at once, so that stages do not slow it. Prompts, communication beyond what
EFFICIENCY holds, and idle hours are not in it: real costs are above, prompt-heavy ones far above.
"""

from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import Gpu
from modelport.domain.plan import Split

EFFICIENCY = 0.6
"""An estimate: of the data sheet's bandwidth. Real systems are said to reach 0.6 to 0.85 while generating;
Qwen2.5-Coder-32B in FP8 by vLLM on an H100-NVL gave 4,715 tokens/s at 128 requests (caleta.io, 2026), which is 0.63 of
this roofline if each had 1,024 tokens in cache."""
TOKENS_IN_CACHE = 1024
"""An estimate: of one request at work, prompt and half of the answer."""
MOST_REQUESTS = 256
"""vLLM's max_num_seqs on smaller GPUs; beyond it the roofline is no longer of memory alone."""


def tokens_per_second(
    facts: ModelFacts, gpu: Gpu, split: Split, weights_bytes: float, cache_bytes: float, kv_tokens: float
) -> float:
    """Output tokens per second of one engine at full load; 0 where nothing is known or fits.

    `weights_bytes` and `cache_bytes` are of one GPU, `kv_tokens` of the whole engine.
    """
    if gpu.bandwidth_bytes_s <= 0 or kv_tokens < 1 or cache_bytes <= 0:
        return 0.0
    tokens_of_a_copy = kv_tokens / split.data
    requests = max(1.0, min(MOST_REQUESTS, tokens_of_a_copy / TOKENS_IN_CACHE))
    kv_bytes = cache_bytes / tokens_of_a_copy * min(TOKENS_IN_CACHE, tokens_of_a_copy)
    read = weights_bytes * _share_read(facts, requests) + requests * kv_bytes
    return split.data * requests * gpu.bandwidth_bytes_s * EFFICIENCY / read


def usd_per_million(usd_per_hour: float, tokens_s: float) -> float | None:
    """Dollars per million output tokens, or None where no rate is known."""
    return usd_per_hour / (tokens_s * 3600) * 1e6 if tokens_s > 0 else None


def _share_read(facts: ModelFacts, requests: float) -> float:
    """Of the weights, what a step reads: experts that no request was routed to are skipped (routing taken as even)."""
    if not facts.experts or not facts.experts_per_token or not facts.weight_bytes:
        return 1.0
    experts = sum(group.bytes for group in facts.weights if group.name == "experts") / facts.weight_bytes
    unread = (1 - min(1.0, facts.experts_per_token / facts.experts)) ** requests
    return 1 - experts * unread
