"""Ask: one way to run a model on GPUs, as the memory of one GPU depends on it."""

from dataclasses import dataclass

from modelport.domain.facts import Cache
from modelport.domain.gpu import Gpu
from modelport.domain.plan import Split


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
    dtype: str = "auto"
    """What is computed in; `float32` doubles what is in 16 bit."""
    eager: bool = False
    draft_bytes: int = 0
    """Of a draft model, on every GPU."""
    draft_caches: tuple[Cache, ...] = ()
    """What the draft model keeps of the tokens before, beside the model's own."""
    draft_tokens: int = 0
