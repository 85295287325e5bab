"""Tensors into groups: what engines split alike, by the names that checkpoints use."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from modelport.catalog.quantized import Storage
from modelport.domain.facts import Sharding, Weights
from modelport.errors import ModelportError


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as a header promises it. `dtype` as safetensors writes it: `BF16`, `F8_E4M3`, `I32`, …"""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def elements(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count


# The first that matches wins.
_PATTERNS: tuple[tuple[str, Sharding, str], ...] = (
    ("draft", "tensor", r"(^|\.)(mtp|nextn|eagle|medusa|draft)\d*[._]"),
    ("audio", "none", r"(^|\.)(audio_tower|audio_model|audio_encoder|apm|speech|audio_projection|audio_bert)"),
    ("vision", "tensor", r"(^|\.)(vision|visual|vpm|resampler|image_newline|mm_projector|multi_modal_projector|"
                         r"patch_merger|vit|mlp1|connector|embed_vision|pre_mm_projector)"),
    ("norms", "none", r"((?i:norm)|ln_|\.ln\d|_ln\.)"),
    ("embeddings", "tensor", r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|embed_tokens_per_layer|"
                             r"wpe|embed_positions|position_embeddings|token_type_embeddings|embeddings|"
                             r"embedding|embed_in|token_embd)([._]|$)"),
    ("head", "tensor", r"(^|\.)(lm_head|output_layer|embed_out|head|score|classifier)\.(weight|bias|qweight)|"
                       r"^(lm_head|output)\."),
    ("router", "none", r"(\.gate\.(weight|bias|e_score)|router|e_score_correction|gate_inp|exp_probs|expert_bias|"
                       r"shared_expert_gate)"),
    ("shared_experts", "tensor", r"shared_?experts?[._]|shared_mlp|_shexp|(fc[12]|up|down)_latent"),
    ("experts", "expert", r"experts?[._]|_exps[._]"),
    ("latent", "none", r"(q_a_proj|kv_a_proj|indexer|fused_qkv_a|attn_q_a\.|attn_kv_a|wq_a\.|wkv_a)"),
    ("state", "tensor", r"(mamba|linear_attn|ssm|conv1d|in_proj|dt_proj|A_log|x_proj|\.mixer\.(D|dt_bias|"
                        r"out_proj)|short_conv|\.conv\.|\.[fg]_[ab]_proj|\.b_proj|[qkv]_conv|attn_gate\.)"),
    ("key_value", "key_value", r"(attn|attention|mixer|temporal_block|cross)\w*\.(\w+\.)?(k_proj|v_proj|wk|wv|key|"
                               r"value|to_k|to_v)\b|attn_[kv]\."),
    ("attention", "tensor", r"(attn|attention|mixer\.[qo]_proj|[qo]_proj|qkv|wo\b|wq|kv_b|q_b)"),
    ("mlp", "tensor", r"(mlp|feed_forward|ffn|fc1|fc2|dense_h|w1|w2|w3|gate_proj|up_proj|down_proj|gate_up|mixer|"
                      r"(intermediate|output)\.dense)"),
)  # fmt: skip
# Names in facts: MLA's down projections are attention that no split divides, and routers are as small as norms.
PUBLIC = {"latent": "attention", "router": "norms"}
# Query, key and value in one matrix.
_FUSED = re.compile(r"(?<!linear_)attn\w*\.(qkv|c_attn|Wqkv|W_pack)|query_key_value|\.Wqkv|qkv_proj|attn_qkv\.")
_GROUPS: tuple[tuple[str, Sharding, re.Pattern[str]], ...] = tuple(
    (name, sharding, re.compile(pattern)) for name, sharding, pattern in _PATTERNS
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer|blk)\.(\d+)\.")
# What holds scales, zero points and the like beside a quantized weight.
_SCALES = re.compile(
    r".*?(scales?|scale_inv|scale_2|weight_scale\w*|input_scale|zeros?|qzeros|zero_point|g_idx|absmax|quant_map|"
    r"quant_state\S*|nested_\S+|SCB|weight_shape|weight_global_scale|input_global_scale|[kv]_scale|weight_zero_point)$"
)
_PACKED = re.compile(r".*?(qweight|weight_packed|_packed|_blocks)$")
_MOST_NAME = 200
_MOST_ENDING = 64
MOST_KINDS = 10_000
"""Names but for their numbers. Real models have some hundred; each costs a look at all patterns."""
# Layers and experts: one answer for all of them.
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|\d{3,}", re.ASCII)
_OTHER: tuple[str, Sharding] = ("other", "none")
_DRAFT: tuple[str, Sharding] = ("draft", "tensor")
_STATE: tuple[str, Sharding] = ("state", "tensor")
_ATTENTION: tuple[str, Sharding] = ("attention", "tensor")
_KEY_VALUE: tuple[str, Sharding] = ("key_value", "key_value")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a tensor's name says, whatever its numbers."""

    key: tuple[str, Sharding]
    """The group, and how it is split."""
    fused: bool
    """Query, key and value in one matrix."""
    scales: bool
    packed: bool


def group_of(name: str) -> tuple[str, Sharding]:
    """The group of a tensor's name and how it is split."""
    return _kind_of(_numberless(name)).key


def _numberless(name: str) -> str:
    return _NUMBER.sub("0", name[-_MOST_NAME:])


@lru_cache(4096)
def _kind_of(name: str) -> Kind:
    key = _OTHER
    for group, sharding, pattern in _GROUPS:
        if pattern.search(name):
            key = (group, sharding)
            break
    ending = name[-_MOST_ENDING:]
    return Kind(key, bool(_FUSED.search(name)), bool(_SCALES.match(ending)), bool(_PACKED.match(ending)))


def parameters_of(tensor: Tensor, storage: Storage, kind: Kind) -> int:
    """Weights that a tensor stands for: more than its elements when they are packed, none when it holds scales."""
    if kind.scales:
        return 0
    bits = storage.quantization.bits if storage.quantization else 0
    if tensor.dtype in ("I32", "U32") and kind.packed and bits:
        return round(tensor.elements * 32 / bits)
    if tensor.dtype in ("U8", "I8") and bits == 4 and kind.key[0] not in ("vision", "audio"):
        return tensor.elements * 2
    if tensor.dtype == "F4":
        return tensor.elements
    return tensor.elements


def weights_of_tensors(
    tensors: Iterable[Tensor], storage: Storage, layers: int = 0, *, fused_share: float = 0.0, latent: bool = False
) -> tuple[Weights, ...]:
    """Groups of all tensors.

    Layers at or above `layers`, where that is given, hold draft heads (DeepSeek's MTP). `fused_share` is what keys and
    values have of a matrix that holds queries too. With a `latent` (MLA) there are no key/value heads to split by.
    Raises ModelportError for more kinds of names than any model has.
    """
    kinds: dict[str, Kind] = {}
    parameters: Counter[tuple[str, Sharding]] = Counter()
    sizes: Counter[tuple[str, Sharding]] = Counter()
    blocks: defaultdict[tuple[str, Sharding], set[int]] = defaultdict(set)

    def add(key: tuple[str, Sharding], weights: int, size: int, number: int | None) -> None:
        parameters[key] += weights
        sizes[key] += size
        if number is not None:
            blocks[key].add(number)

    for tensor in tensors:
        name = _numberless(tensor.name)
        if name not in kinds:
            if len(kinds) == MOST_KINDS:
                raise ModelportError(
                    f"The weight files name more than {MOST_KINDS:,} kinds of tensors, which no real model has.",
                    param="model",
                )
            kinds[name] = _kind_of(name)
        kind = kinds[name]
        key = kind.key
        number = layer_of(tensor.name) if key[0] not in ("vision", "audio", "draft") else None
        if number is not None and layers and number >= layers:
            key, number = _DRAFT, None
        if latent and key == _KEY_VALUE:
            key = _STATE  # Kimi-Linear's delta attention names its projections so
        weights, size = parameters_of(tensor, storage, kind), tensor.size_bytes
        if fused_share and key == _ATTENTION and kind.fused:
            add(_KEY_VALUE, round(weights * fused_share), round(size * fused_share), number)
            weights, size = weights - round(weights * fused_share), size - round(size * fused_share)
        add(key, weights, size, number)
    return tuple(
        Weights(PUBLIC.get(name, name), parameters[name, how], size, len(blocks[name, how]), how)
        for (name, how), size in sizes.items()
    )


def common_dtype(tensors: Sequence[Tensor]) -> str:
    """What most of the bytes are stored in, as configs write it; empty for types that no config names."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.size_bytes
    words = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
    return words.get(max(sizes, key=lambda dtype: sizes[dtype], default=""), "")


def layer_of(name: str) -> int | None:
    """The number of the decoder layer that a tensor belongs to."""
    found = _LAYER.search(name[:_MOST_NAME])
    return int(found[1]) if found and len(found[1]) < 6 else None


def largest_layer(tensors: Sequence[Tensor]) -> int:
    """Bytes of the largest decoder layer."""
    sizes: Counter[int] = Counter()
    for tensor in tensors:
        if (number := layer_of(tensor.name)) is not None:
            sizes[number] += tensor.size_bytes
    return max(sizes.values(), default=max((tensor.size_bytes for tensor in tensors), default=0))


def active_parameters(weights: Sequence[Weights], experts: int, chosen: int, tied: bool) -> int:
    """Weights that one token's computation reads. Of the embeddings it reads a row, but all of them as a head."""
    total = 0
    for group in weights:
        if group.name in ("vision", "audio", "draft") or (group.name == "embeddings" and not tied):
            continue
        total += group.parameters * chosen // experts if group.name == "experts" and experts else group.parameters
    return total
