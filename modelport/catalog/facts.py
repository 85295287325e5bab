"""ModelFacts out of GGUF headers."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from modelport.catalog.gguf import GgufHeader, Skipped, Tensor, Value
from modelport.catalog.quantized import Storage
from modelport.catalog.tensors import Tensor as Named
from modelport.catalog.tensors import active_parameters, weights_of_tensors
from modelport.domain.facts import Cache, ModelFacts, Weights
from modelport.errors import ModelportError

# Architectures that read all tokens at once and keep none: llama.cpp gives them no KV cache
# (llama_model::create_memory in src/llama-model.cpp).
ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
    }
)
EMBEDDERS = ENCODERS | {"llama-embed", "t5encoder"}

# What a file calls itself in `general.type` or as its architecture when it is no model one can serve alone.
NO_MODEL = {
    "adapter": "an adapter (LoRA)",
    "mmproj": "a projector for images or sound",
    "clip": "a projector for images or sound",
    "imatrix": "an importance matrix",
}

KV_ELEMENT_BYTES = 2  # llama.cpp's default for keys and values: f16
STATE_BYTES = 4  # of one element of a recurrent state: f32 (src/llama-memory-recurrent.cpp)
MOST_LAYERS = 4096

# One in so many layers attends fully, the others see a window (set_swa_pattern in src/llama-model.cpp). Architectures
# that are not here count in full, which is never too little.
WINDOWED = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4}

_BLOCK = re.compile(r"blk\.(\d+)\.")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.IGNORECASE)


def facts_of(source: str, path: Path, headers: Sequence[GgufHeader]) -> ModelFacts:
    """What the headers of one model say, all parts of a split one counted.

    The first header carries the metadata. Raises ModelportError when a needed value is absent or cannot be, when parts
    do not belong together, and when the file is no model.
    """
    read = _Metadata(headers[0].metadata, str(path))
    _check_parts(read, headers)
    architecture = read.architecture()
    tensors = [tensor for header in headers for tensor in header.tensors]
    parameters = sum(tensor.weights for tensor in tensors)
    if not parameters:
        raise ModelportError(f"{str(path)!r} holds no tensors, so it is no model.", param="model")

    bytes_by_type: Counter[str] = Counter()
    bytes_by_block: Counter[str] = Counter()
    for tensor in tensors:
        bytes_by_type[tensor.type] += tensor.size_bytes
        if block := _BLOCK.match(tensor.name):
            bytes_by_block[block[1]] += tensor.size_bytes

    layers = read.number(f"{architecture}.block_count")
    if layers > MOST_LAYERS:
        raise read.broken(f"{architecture}.block_count", f"{layers:,}, where {MOST_LAYERS:,} are the most")
    weights = _weights(tensors, layers)
    experts = read.number(f"{architecture}.expert_count", 0)
    used = read.number(f"{architecture}.expert_used_count", 0)
    if experts and used > experts:
        raise read.broken(f"{architecture}.expert_used_count", f"{used:,} of {experts:,} experts")
    tied = not any(tensor.name == "output.weight" for tensor in tensors)
    heads = read.per_layer(f"{architecture}.attention.head_count", layers, 0)
    caches = _caches(read, architecture, layers)
    pooled = read.number(f"{architecture}.pooling_type", 0) > 0  # 0 is "none" (enum llama_pooling_type)
    return ModelFacts(
        source=source,
        path=str(path),
        format="gguf",
        architecture=architecture,
        task="embed" if architecture in EMBEDDERS or pooled else "generate",
        parameters=parameters,
        weight_bytes=sum(tensor.size_bytes for tensor in tensors),
        largest_layer_bytes=max(bytes_by_block.values(), default=max(tensor.size_bytes for tensor in tensors)),
        layers=layers,
        embedding_size=read.number(f"{architecture}.embedding_length"),
        vocabulary=read.number(f"{architecture}.vocab_size", read.length("tokenizer.ggml.tokens")),
        context_tokens=read.number(f"{architecture}.context_length", 0),
        kv_bytes_per_token=_kv_bytes_per_token(read, architecture, layers),
        quantization=bytes_by_type.most_common(1)[0][0],
        pooling=pooled,
        chat_template=any(key.startswith("tokenizer.chat_template") for key in headers[0].metadata),
        licence=read.text("general.license"),
        attention_heads=max(heads, default=0),
        kv_heads=max((cache.heads for cache in caches), default=0),
        head_size=max((cache.key_size for cache in caches), default=0),
        feed_forward_size=max(
            max(read.per_layer(f"{architecture}.feed_forward_length", layers, 0), default=0),
            used * read.number(f"{architecture}.expert_feed_forward_length", 0),
        ),
        experts=experts,
        experts_per_token=used,
        active_parameters=active_parameters(weights, experts, used, tied),
        tied_embeddings=tied,
        rope_scaling=_rope_scaling(read, architecture),
        weights=weights,
        caches=caches,
    )


class _Metadata:
    """Typed access to a header's values; what is absent or of the wrong kind is a sentence."""

    def __init__(self, values: dict[str, Value], name: str) -> None:
        self.values, self.name = values, name

    def broken(self, key: str, what: object) -> ModelportError:
        return ModelportError(f"{self.name!r} cannot be used: its {key} is {str(what)[:80]}.", param="model")

    def architecture(self) -> str:
        value = self.values.get("general.architecture")
        for word in (self.values.get("general.type"), value):
            if isinstance(word, str) and word in NO_MODEL:
                raise ModelportError(f"{self.name!r} is {NO_MODEL[word]}, not a model.", param="model")
        if not isinstance(value, str) or not _ARCHITECTURE.fullmatch(value):
            raise self.broken("general.architecture", "absent" if value is None else repr(value))
        return value

    def number(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        if type(value) is not int or not 0 <= value < 1 << 32:
            raise self.broken(key, "absent" if value is None else repr(value))
        return value

    def text(self, key: str) -> str:
        value = self.values.get(key)
        return value[:64] if isinstance(value, str) and value.isprintable() else ""

    def per_layer(self, key: str, layers: int, default: int) -> tuple[int, ...]:
        """One number for every layer; the file says it once or as an array."""
        value = self.values.get(key, default)
        if not isinstance(value, tuple):
            return (self.number(key, default),) * layers
        numbers = tuple(n for n in value if type(n) is int and 0 <= n < 1 << 32)
        if len(numbers) != len(value) or len(numbers) != layers:
            raise self.broken(key, f"an array of {len(value)}, not {layers} numbers")
        return numbers

    def length(self, key: str) -> int:
        value = self.values.get(key)
        return value.length if isinstance(value, Skipped) else 0


def _kv_bytes_per_token(read: _Metadata, architecture: str, layers: int) -> int:
    """Keys and values of all layers for one token at 16 bit, as llama.cpp sizes its cache (src/llama-kv-cache.cpp).

    An upper bound where a model keeps less: sliding windows and DeepSeek's shared latent count in full.
    """
    if architecture in ENCODERS:
        return 0
    heads = read.per_layer(f"{architecture}.attention.head_count", layers, 0)
    kv_heads = read.per_layer(f"{architecture}.attention.head_count_kv", layers, max(heads, default=0))
    head_size = read.number(f"{architecture}.embedding_length") // max(1, *heads)
    key_size = read.number(f"{architecture}.attention.key_length", head_size)
    value_size = read.number(f"{architecture}.attention.value_length", head_size)
    # Qwen3-Next and its kind attend fully in every n-th layer only; the others keep a state of fixed size.
    every = max(1, read.number(f"{architecture}.full_attention_interval", 1))
    return sum(kv_heads[every - 1 :: every]) * (key_size + value_size) * KV_ELEMENT_BYTES


def _caches(read: _Metadata, architecture: str, layers: int) -> tuple[Cache, ...]:
    """What layers keep, as llama.cpp sizes it (src/llama-hparams.cpp). Layers differ in heads only by having none."""
    if architecture in ENCODERS or not layers:
        return ()
    heads = read.per_layer(f"{architecture}.attention.head_count", layers, 0)
    kv_heads = read.per_layer(f"{architecture}.attention.head_count_kv", layers, max(heads, default=0))
    head_size = read.number(f"{architecture}.embedding_length") // max(1, *heads)
    key = read.number(f"{architecture}.attention.key_length", head_size)
    value = read.number(f"{architecture}.attention.value_length", head_size)
    every = max(1, read.number(f"{architecture}.full_attention_interval", 1))
    attending = Counter(count for i, count in enumerate(kv_heads) if count and (i + 1) % every == 0)
    found: list[Cache] = []
    if read.number(f"{architecture}.attention.key_length_mla", 0):  # the latent, of which values are a part
        found.append(Cache("mla", sum(attending.values()), 1, key))
    else:
        window = read.number(f"{architecture}.attention.sliding_window", 0)
        full_every = WINDOWED.get(architecture, 0) if window else 0
        for count, over in attending.items():
            full = over // full_every if full_every else over
            found.append(Cache("full", full, count, key, value))
            if over > full:
                found.append(Cache("sliding", over - full, count, key, value, window_tokens=window))
    keeping = layers - sum(attending.values())
    inner = read.number(f"{architecture}.ssm.inner_size", 0)
    if keeping and inner:
        state = read.number(f"{architecture}.ssm.state_size", 0)
        groups = read.number(f"{architecture}.ssm.group_count", 0)
        back = max(1, read.number(f"{architecture}.ssm.conv_kernel", 1)) - 1
        size = back * (inner + 2 * groups * state) + inner * state
        found.append(Cache("state", keeping, state_bytes=size * STATE_BYTES))
    return tuple(cache for cache in found if cache.layers)


def _weights(tensors: Sequence[Tensor], layers: int) -> tuple[Weights, ...]:
    """Groups of tensors; a GGUF file's parameters are counted as its tensors count them."""
    named = (Named(tensor.name, tensor.type, tensor.shape, tensor.size_bytes) for tensor in tensors)
    return weights_of_tensors(named, Storage(2), layers)


def _rope_scaling(read: _Metadata, architecture: str) -> str:
    kind = read.text(f"{architecture}.rope.scaling.type")
    factor = read.values.get(f"{architecture}.rope.scaling.factor")
    if kind in ("", "none"):
        return ""
    return f"{kind} x{factor:g}" if isinstance(factor, float) else kind


def _check_parts(read: _Metadata, headers: Sequence[GgufHeader]) -> None:
    count = max(1, read.number("split.count", 1))
    if count != len(headers):
        raise ModelportError(
            f"{read.name!r} says it has {count} parts, but {len(headers)} are here under llama.cpp's names for parts.",
            param="model",
        )
    promised = read.number("split.tensors.count", 0)
    found = sum(len(header.tensors) for header in headers)
    if count > 1 and promised and promised != found:
        raise ModelportError(f"{read.name!r} and its parts hold {found:,} of {promised:,} tensors.", param="model")
