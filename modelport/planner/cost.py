"""Cost: an estimate of dollars per million output tokens, at full load or at the `parallel` that was asked for.

By the bandwidth roofline: while tokens are generated a GPU is bound by its memory. Each step reads the weights once and
every request's cache once (Williams, Waterman, Patterson: Roofline, CACM 2009), and gives one token per request.

    step seconds = (weights a GPU reads + requests × tokens in cache × KV bytes per token) / (bandwidth × EFFICIENCY)
    tokens per second = copies × requests of a step / step seconds

The requests of a copy are those of a step where there are no pipeline stages; stages work on as many parts of them.
Prompts, computing (which binds small models at many hundred requests), communication beyond what EFFICIENCY holds, and
idle hours are not in it: real costs are above, prompt-heavy ones far above.
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


def requests(split: Split, kv_tokens: float, most_of_a_copy: int, at_once: int | None = None) -> float:
    """Requests at work in one engine: all that are asked for or, unasked, that a copy takes by its own default
    (`most_of_a_copy`); never more than the cache holds of `kv_tokens`, and at least one."""
    held = kv_tokens / TOKENS_IN_CACHE
    return max(1.0, min(held, at_once or most_of_a_copy * split.data))


def tokens_per_second(
    facts: ModelFacts,
    gpu: Gpu,
    split: Split,
    weights_bytes: float,
    cache_bytes: float,
    kv_tokens: float,
    requests: float,
) -> float:
    """Output tokens per second of one engine at so many requests at once; 0 where nothing is known or fits.

    `weights_bytes` and `cache_bytes` are of one GPU, `kv_tokens` and `requests` of the whole engine.
    """
    if gpu.bandwidth_bytes_s <= 0 or kv_tokens < 1 or cache_bytes <= 0:
        return 0.0
    tokens_of_a_copy = kv_tokens / split.data
    together = requests / (split.data * split.pipeline)
    kv_bytes = cache_bytes / tokens_of_a_copy * min(TOKENS_IN_CACHE, tokens_of_a_copy)
    # Experts that copies share serve the requests of all of them.
    routed = requests / split.pipeline if split.expert > split.tensor else together
    read = weights_bytes * _share_read(facts, max(1.0, routed)) + max(1.0, together) * kv_bytes
    return split.data * together * gpu.bandwidth_bytes_s * EFFICIENCY / read


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
