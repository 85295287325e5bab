"""GPU memory: what an engine (vLLM, SGLang, TGI) takes of each GPU, part by part, and what it leaves for the cache."""

from dataclasses import dataclass

from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import Gpu
from modelport.domain.plan import Part, Span, Split


@dataclass(frozen=True, slots=True)
class Ask:
    """One way to run a model on GPUs. None is the engine's own default."""

    engine: str
    gpu: Gpu
    split: Split
    context: int
    """Tokens one request may use (`max_model_len`)."""
    version: str = ""
    """Of the engine, e.g. `0.12.0`; empty is the newest that is known."""
    memory_fraction: float | None = None
    kv_dtype: str = "auto"
    quantization: str = ""
    """What weights are quantized to while loading (`fp8`, `int8wo`, …); empty keeps them."""
    max_batched_tokens: int | None = None
    max_requests: int | None = None
    """The most the engine runs at once (`max_num_seqs`)."""
    eager: bool = False
    draft_bytes: int = 0
    """Of a draft model, on every GPU."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an Ask takes of one GPU, the fullest. The cache gets what is left of the budget."""

    budget_bytes: int
    parts: tuple[Part, ...]
    """`weights`, `non-torch`, `activations`, `cuda graphs`: everything but the cache."""
    cache_bytes: Span
    """Left for the cache; below 0 where nothing is left."""
    kv_tokens: Span
    """What that holds, over all pipeline stages; 0 and more."""
    extrapolated: str
    """Empty, or what makes this reach beyond what was measured."""


def estimate(facts: ModelFacts, ask: Ask) -> Estimate:
    """The memory of one GPU. Raises nothing: what cannot fit leaves a negative cache."""
    raise NotImplementedError


def cache_need(facts: ModelFacts, ask: Ask, parallel: int) -> int:
    """Bytes of one GPU that `parallel` requests of `ask.context` tokens each keep, as the engine allocates them.

    More context or more requests never need less.
    """
    raise NotImplementedError
