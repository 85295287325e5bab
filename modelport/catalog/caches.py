"""Caches: what a model's layers keep of the tokens before, out of its config.

Shapes are those that vLLM allocates (vllm/model_executor/layers/mamba/mamba_utils.py for states,
vllm/v1/kv_cache_interface.py for keys and values).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from modelport.catalog.families import ENCODERS, FLOAT32_STATE, MULTI_QUERY, UNKNOWN_CACHE
from modelport.catalog.fields import Fields, missing
from modelport.catalog.layers import Layer, number_in
from modelport.domain.facts import Cache
from modelport.errors import ModelportError

INDEXER_BYTES = 132  # DeepSeek-V3.2's indexer: 128 elements of one byte and one float32 scale, per token and layer
KV_BYTES = 2  # kv_bytes_per_token is stated at 16 bit


def kv_heads_of(fields: Fields) -> int:
    """Key/value heads of a layer; all heads where the config gives no number of its own."""
    if (
        fields.kind == "falcon"
        and not fields.flag("new_decoder_architecture")
        and fields.flag("multi_query", default=True)
    ):
        return 1
    if fields.kind == "gpt_bigcode" and fields.flag("multi_query", default=True):
        return 1
    if fields.flag("multi_query_attention") and fields.has("multi_query_group_num"):  # ChatGLM
        return fields.need("multi_query_group_num")
    named = fields.number("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "num_query_groups")
    if not named and fields.flag("multi_query") and fields.kind in MULTI_QUERY:
        return 1
    return named or number_in(fields, "attn_config", "kv_n_heads") or fields.heads


def head_size_of(fields: Fields) -> int:
    """Elements of one attention head."""
    named = fields.number("head_dim", "attention_head_dim", "kv_channels")
    return named or max(1, fields.hidden // fields.heads)


def global_heads_of(fields: Fields) -> tuple[int, int]:
    """Key/value heads and head size of layers that attend fully, where they differ from those with a window."""
    heads = fields.number("num_global_key_value_heads") or kv_heads_of(fields)
    each = fields.part("per_layer_config")  # transformers 5: only layers that differ, by number
    sizes = [size for part in each.values() if isinstance(part, Mapping) and type(size := part.get("head_dim")) is int]
    return heads, fields.number("global_head_dim") or max(sizes, default=0) or head_size_of(fields)


def latent_of(fields: Fields) -> tuple[int, int]:
    """MLA's latent: its rank and the rotary part beside it."""
    return fields.need("kv_lora_rank"), fields.number("qk_rope_head_dim")


def caches_of(fields: Fields, layers: Sequence[Layer]) -> tuple[Cache, ...]:
    """One Cache per kind of layer. Raises ModelportError for attention whose cache the config does not give."""
    if fields.kind in ENCODERS:
        return ()
    if reason := UNKNOWN_CACHE.get(fields.kind):
        raise ModelportError(f"The cache of {fields.source!r} cannot be computed: {reason}.", param="model")
    # Gemma 3n: the last layers use the keys and values of an earlier one.
    shared = fields.number("num_kv_shared_layers")
    keeping = layers[: max(0, len(layers) - shared)] if shared else layers
    count = Counter(layer.mixer for layer in keeping)
    heads, size = kv_heads_of(fields), head_size_of(fields)
    found: list[Cache] = []
    if full := count["full"] + count["parallel"]:
        wide_heads, wide_size = global_heads_of(fields)
        found.append(Cache("full", full, wide_heads, wide_size, wide_size))
    if count["sliding"]:
        window = fields.need("sliding_window")
        found.append(Cache("sliding", count["sliding"], heads, size, size, window_tokens=window))
    if count["chunked"]:
        chunk = fields.need("attention_chunk_size")
        found.append(Cache("chunked", count["chunked"], heads, size, size, window_tokens=chunk))
    if count["cross"]:
        found.append(Cache("cross", count["cross"], heads, size, size))
    if count["mla"]:
        rank, rotary = latent_of(fields)
        extra = INDEXER_BYTES if fields.number("index_head_dim") else 0
        found.append(Cache("mla", count["mla"], 1, rank + rotary, 0, extra_bytes=extra))
    for mixer in ("mamba", "mamba2", "parallel", "delta", "kda", "lightning", "conv"):
        if count[mixer]:
            found.append(Cache("state", count[mixer], state_bytes=_state_bytes(fields, mixer)))
    return tuple(found)


def kv_bytes_per_token(caches: Sequence[Cache]) -> int:
    """Keys and values of all layers for one token at 16 bit, windows in full, cross attention left out."""
    kept = [cache for cache in caches if cache.kind not in ("state", "cross")]
    return sum(c.layers * c.heads * (c.key_size + c.value_size) for c in kept) * KV_BYTES


def _state_bytes(fields: Fields, mixer: str) -> int:
    """Bytes of one layer's state for one sequence: what the convolution looks back at, and the recurrent state."""
    item = 4 if fields.text("torch_dtype", "dtype") == "float32" else 2
    declared = fields.text("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
    state_item = 4 if declared == "float32" or fields.kind in FLOAT32_STATE else item
    back = conv_kernel_of(fields) - 1
    if mixer == "mamba":
        inner, state = mamba_sizes(fields)
        return inner * back * item + inner * state * state_item
    if mixer in ("mamba2", "parallel"):
        heads, head, groups, state = mamba2_sizes(fields)
        return (heads * head + 2 * groups * state) * back * item + heads * head * state * state_item
    if mixer == "delta":
        key_heads, key, value_heads, value = delta_sizes(fields)
        convolved = 2 * key_heads * key + value_heads * value
        return convolved * back * item + value_heads * key * value * state_item
    if mixer == "kda":
        heads, head = kda_sizes(fields)
        return 3 * heads * head * back * item + heads * head * head * 4
    if mixer == "lightning":
        return fields.heads * head_size_of(fields) ** 2 * 4
    return fields.hidden * max(1, fields.number("conv_L_cache", default=3) - 1) * item


def conv_kernel_of(fields: Fields) -> int:
    inner = number_in(fields, "linear_attn_config", "short_conv_kernel_size")
    return inner or max(1, fields.number("linear_conv_kernel_dim", "conv_kernel", "mamba_d_conv", default=4))


def mamba_sizes(fields: Fields) -> tuple[int, int]:
    """Mamba 1: inner channels and state size."""
    inner = fields.number("intermediate_size_mamba") or fields.hidden * fields.number("mamba_expand", default=2)
    return inner, fields.number("mamba_d_state", "ssm_state_size", "state_size", default=16)


def mamba2_sizes(fields: Fields) -> tuple[int, int, int, int]:
    """Mamba 2: heads, head size, groups, state size."""
    head = fields.number("mamba_head_dim", "mamba_d_head", "mamba_headdim")
    heads = fields.number("mamba_num_heads", "mamba_n_heads")
    inner = fields.number("mamba_d_ssm") or fields.hidden * fields.number("mamba_expand", "expand", default=2)
    heads = heads or inner // max(1, head)
    groups = fields.number("n_groups", "mamba_n_groups", "mamba_ngroups", default=1)
    return heads, head or inner // max(1, heads), groups, fields.need("ssm_state_size", "mamba_d_state")


def delta_sizes(fields: Fields) -> tuple[int, int, int, int]:
    """Gated delta net: key heads, key size, value heads, value size. Raises ModelportError naming what is absent."""
    names = ("linear_num_key_heads", "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim")
    absent = [name for name in names if not fields.number(name)]
    if absent:
        raise missing(fields.source, absent)
    key_heads, key, value_heads, value = (fields.number(name) for name in names)
    return key_heads, key, value_heads, value


def kda_sizes(fields: Fields) -> tuple[int, int]:
    """Kimi delta attention: heads and head size."""
    inner = fields.inner("linear_attn_config")
    return inner.number("num_heads") or fields.heads, inner.number("head_dim") or fields.number(
        "v_head_dim", default=128
    )
