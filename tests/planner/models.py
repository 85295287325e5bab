"""Models of given shape, and a memory estimate simple enough to be checked by hand."""

from dataclasses import dataclass
from math import ceil

from modelport.domain.facts import Cache, ModelFacts, Quantization, Weights
from modelport.domain.plan import Part, Span
from modelport.planner.ask import Ask
from modelport.planner.gpu_memory import Estimate

GIB = 1 << 30
OTHER = (GIB // 2, GIB, 2 * GIB)


@dataclass(frozen=True)
class Shape:
    """What the weights and the cache follow from; 16 bit."""

    name: str
    gb: float
    layers: int
    heads: int
    kv: int
    size: int
    hidden: int
    ff: int
    vocabulary: int
    context: int
    tied: bool = False
    experts: int = 0
    experts_per_token: int = 0

    def facts(self, quantized: Quantization | None = None) -> ModelFacts:
        total, per_layer = int(self.gb * 1e9), 2 * 2 * self.hidden * self.size * self.layers
        embeddings = 2 * self.vocabulary * self.hidden
        outside = {"embeddings": embeddings, "head": 0 if self.tied else embeddings}
        inside = {"attention": per_layer * self.heads, "key_value": per_layer * self.kv}
        inside["experts" if self.experts else "mlp"] = total - sum(outside.values()) - sum(inside.values())
        sharding = {"key_value": "key_value", "experts": "expert"}
        groups = [Weights(name, size // 2, size, 0, "tensor") for name, size in outside.items() if size]
        groups += [
            Weights(name, size // 2, size, self.layers, sharding.get(name, "tensor"))  # type: ignore[arg-type]
            for name, size in inside.items()
        ]
        return ModelFacts(
            source=self.name,
            path=self.name,
            format="safetensors",
            architecture="llama",
            task="generate",
            parameters=total // 2,
            weight_bytes=total,
            largest_layer_bytes=0,
            layers=self.layers,
            embedding_size=self.hidden,
            vocabulary=self.vocabulary,
            context_tokens=self.context,
            kv_bytes_per_token=4 * self.layers * self.kv * self.size,
            quantization="bfloat16",
            pooling=False,
            chat_template=True,
            quantized=quantized,
            attention_heads=self.heads,
            kv_heads=self.kv,
            head_size=self.size,
            feed_forward_size=self.ff * max(1, self.experts_per_token),
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            weights=tuple(groups),
            caches=(Cache("full", self.layers, self.kv, self.size, self.size),),
        )


LLAMA_8B = Shape("llama-8b", 16.06, 32, 32, 8, 128, 4096, 14336, 128_256, 131_072)
LLAMA_70B = Shape("llama-70b", 141.1, 80, 64, 8, 128, 8192, 28672, 128_256, 131_072)
MIXTRAL = Shape("mixtral", 93.4, 32, 32, 8, 128, 4096, 14336, 32_000, 32_768, experts=8, experts_per_token=2)
QWEN_7B = Shape("qwen-7b", 15.2, 28, 28, 4, 128, 3584, 18944, 152_064, 32_768)


def simple_estimate(facts: ModelFacts, ask: Ask) -> Estimate:
    """Weights over tensor x pipeline, 1 GiB of the rest (0.5 to 2), and the cache in what is left of the fraction."""
    fraction = ask.memory_fraction or 0.9
    budget = int(ask.gpu.memory_bytes * fraction)
    weights = facts.weight_bytes // (max(ask.split.tensor, ask.split.expert) * ask.split.pipeline)
    weights //= {"fp8": 2, "int8wo": 2, "int4wo-128": 4, "bitsandbytes": 4}.get(ask.quantization, 1)
    left = [budget - weights - ask.draft_bytes - other for other in OTHER]
    token = simple_need(facts, ask, 1) / ask.context
    return Estimate(
        budget_bytes=budget,
        memory_fraction=fraction,
        parts=(Part("weights", weights, weights, weights), Part("other", *OTHER)),
        cache_bytes=Span(left[2], left[1], left[0]),
        kv_tokens=Span(*(max(0.0, size) / token * ask.split.data for size in (left[2], left[1], left[0]))),
        extrapolated="",
    )


def simple_need(facts: ModelFacts, ask: Ask, parallel: int) -> int:
    """Every token of every layer; half in FP8; KV heads shared out down to one each."""
    shared = min(ask.split.tensor, max(1, facts.kv_heads)) * ask.split.pipeline
    element = 0.5 if ask.kv_dtype.startswith("fp8") else 1.0
    return ceil(facts.kv_bytes_per_token * element * ask.context * ceil(parallel / ask.split.data) / shared)
