"""ModelFacts: what a model's own files say."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["gguf", "safetensors", "pytorch", "onnx", "archive", "config"]
"""What holds the weights; `archive` where that is known only once it is unpacked, `config` where only a config.json was
read and sizes are computed from it."""

Task = Literal["generate", "embed", "classify", "detect"]
"""Text out, vectors out, classes of pictures, boxes in pictures."""

Sharding = Literal["tensor", "key_value", "expert", "none"]
"""How tensor parallelism splits a group: evenly; by key/value heads (whole heads, replicated beyond their count); by
experts (evenly too, or whole experts with expert parallelism); or not at all (every GPU holds all of it)."""

CacheKind = Literal["full", "sliding", "chunked", "mla", "cross", "state"]
"""What a layer keeps of the tokens before: all keys and values; those of a window; those of a chunk; one latent vector
(MLA); those of another input (cross attention: images); or a state of fixed size (Mamba, linear attention)."""

Precision = Literal["tensors", "total", "computed"]
"""How the sizes are known: from every tensor's header; from the files' total; or computed from the config."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A group of tensors that engines treat alike."""

    name: str
    """`embeddings`, `head`, `attention`, `key_value`, `mlp`, `shared_experts`, `experts`, `state`, `norms`, `vision`,
    `audio`, `draft` (MTP and draft heads) or `other`."""
    parameters: int
    bytes: int
    """As stored."""
    layers: int
    """Decoder layers it is spread over evenly, which pipeline stages share out; 0 for what stands outside of them."""
    sharding: Sharding


@dataclass(frozen=True, slots=True)
class Cache:
    """What layers of one kind keep of the tokens before. Element counts; the KV dtype gives the bytes."""

    kind: CacheKind
    layers: int
    heads: int = 0
    """Key/value heads; 1 for a latent, which every tensor-parallel GPU holds whole."""
    key_size: int = 0
    """Elements of one head's key; the whole latent with its rotary part for MLA."""
    value_size: int = 0
    """Elements of one head's value; 0 for MLA, whose latent is both."""
    window_tokens: int = 0
    """Of `sliding` and `chunked`."""
    extra_bytes: int = 0
    """Bytes per token and layer beyond keys and values, whatever the KV dtype: 132 of a sparse-attention indexer."""
    state_bytes: int = 0
    """Bytes per sequence and layer of `state`, before tensor parallelism divides it."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a checkpoint's weights are stored, as its config declares it."""

    method: str
    """`awq`, `gptq`, `fp8`, `compressed-tensors`, `bitsandbytes`, `mxfp4`, `modelopt`, … as engines name it."""
    bits: float
    """Per weight of what is quantized, without scales."""
    group_size: int = 0
    """Weights that share a scale, which no split may cut; 0 where there are no groups."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter on top of the model that the other facts describe."""

    path: str
    rank: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Projector:
    """What turns pictures into tokens of a GGUF model, in a file of its own (`mmproj`). Its weights are the group
    `vision` of the model's facts."""

    path: str
    patches: int
    """The most that one picture is cut into for one pass."""
    embedding_size: int
    feed_forward_size: int
    heads: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as its files describe it. Sizes in bytes, lengths in tokens. 0 and empty are "not said"."""

    source: str
    """What the user wrote."""
    path: str
    """What an engine loads: a local file or directory, a Hub id, a cloud URI. Never shown to clients."""
    format: Format
    architecture: str
    """As the files name it, e.g. `llama`, `bert`, `qwen3_moe`."""
    task: Task
    parameters: int
    weight_bytes: int
    """All tensors as stored."""
    largest_layer_bytes: int
    layers: int
    embedding_size: int
    vocabulary: int
    context_tokens: int
    """What the model was trained for; 0 where the files do not say."""
    kv_bytes_per_token: int
    """Keys and values of all layers for one token, in 16 bit, on one GPU, windows counted in full."""
    quantization: str
    """In words: the kind most of the weights' bytes have, e.g. `Q4_1`, `F16`, `awq 4 bit`."""
    pooling: bool
    """Whether the files say how token vectors become one embedding."""
    chat_template: bool
    """Whether the files bring a template for conversations."""
    precision: Precision = "tensors"
    revision: str = ""
    """The commit of a Hub repository, the etag of a cloud object: what the facts are cached by."""
    licence: str = ""
    gated: bool = False
    download_bytes: int = 0
    """What an engine has to fetch before it can load; 0 for what is on this machine."""
    inputs: tuple[str, ...] = ("text",)
    """`text`, `image`, `video`, `audio`."""
    dtype: str = ""
    """What the config says weights and activations are computed in: `bfloat16`, `float16`, `float32`."""
    quantized: Quantization | None = None
    attention_heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    feed_forward_size: int = 0
    """The widest dense layer inside a block, or of one expert times those a token uses."""
    experts: int = 0
    experts_per_token: int = 0
    active_parameters: int = 0
    """What one token's computation reads."""
    tied_embeddings: bool = False
    rope_scaling: str = ""
    """Kind and factor, e.g. `yarn x4`."""
    weights: tuple[Weights, ...] = ()
    caches: tuple[Cache, ...] = ()
    adapter: Adapter | None = None
    projector: Projector | None = None
    """Of a GGUF model that sees; None where no such file is beside it."""
    note: str = ""
    """What a reader of a plan must know of the look-up: sentences such as that nobody could be asked; or empty."""
