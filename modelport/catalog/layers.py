"""Layer: what each layer of a decoder is made of, out of the many ways in which configs say it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from modelport.catalog.families import ALTERNATING, ENCODERS
from modelport.catalog.fields import Fields
from modelport.errors import ModelportError

Mixer = Literal["full", "sliding", "chunked", "mla", "cross", "mamba", "mamba2", "delta", "kda", "lightning", "conv",
                "parallel", "none"]  # fmt: skip
"""How a layer mixes tokens. `delta` is gated delta net, `kda` Kimi's, `lightning` MiniMax's linear attention, `conv` a
short convolution, `parallel` full attention and Mamba 2 side by side."""

FeedForward = Literal["dense", "experts", "both", "none"]

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_top_k", "moe_topk", "top_k_experts", "top_k")

# Words of `layer_types`, `layers_block_type` and `attn_type_list`, and the letters of hybrid_override_pattern.
WORDS: dict[str, str] = {
    "full_attention": "full", "attention": "full", "global": "full", "hybrid": "full", "full": "full",
    "sliding_attention": "sliding", "local_attention": "sliding", "sliding": "sliding", "local": "sliding",
    "chunked_attention": "chunked", "linear_attention": "linear", "mamba": "mamba", "mamba2": "mamba", "conv": "conv",
    "mla_attention": "mla", "recurrent": "linear", "mlp": "dense", "moe": "experts", "cross_attention": "cross",
    "indexed_attention": "full",
}  # fmt: skip
LETTERS = {"M": "mamba", "*": "full", "-": "dense", "E": "experts"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer."""

    mixer: Mixer
    feed_forward: FeedForward


def layers_of(fields: Fields) -> tuple[Layer, ...]:
    """Every decoder layer, first to last. Raises ModelportError where the config contradicts itself,
    and for encoder-decoder models (Whisper, T5, BART)."""
    if fields.flag("is_encoder_decoder") and fields.kind not in ENCODERS:
        raise ModelportError(
            f"{fields.source!r} is an encoder-decoder model ({fields.kind or 'of no model_type'}), whose two halves "
            "are not planned here: choose a decoder-only language model or an embedding model.",
            param="model",
        )
    count = fields.layers
    named = _named(fields, count)
    has_experts = _experts(fields) > 1
    is_sparse = _sparse(fields)
    latent = _mixer_of_attention(fields)
    window = fields.number("sliding_window") if fields.flag("use_sliding_window", default=True) else 0
    context = fields.number("max_position_embeddings")
    # A window as long as the context is none (Phi-3 128k says 262,144).
    if context and window >= context:
        window = 0
    windowed = _windowed(fields, window)
    found: list[Layer] = []
    for i in range(count):
        word = named[i] if named else ("sliding" if windowed(i) else "full")
        # In Nemotron-H a layer is a mixer or a feed-forward part, never both.
        alone = fields.kind == "nemotron_h" or fields.has("hybrid_override_pattern")
        feed: FeedForward = "experts" if has_experts and is_sparse(i) else "dense"
        if feed == "experts" and fields.flag("enable_moe_block"):
            feed = "both"
        if word in ("dense", "experts"):
            found.append(Layer("none", word))
            continue
        found.append(Layer(_mixer(fields, word, latent, window), "none" if alone else feed))
    return tuple(found)


def _experts(fields: Fields) -> int:
    return fields.number(*EXPERTS) or number_in(fields, "ffn_config", "moe_num_experts")


def number_in(fields: Fields, part: str, name: str) -> int:
    """A number of a nested part, as MPT and DBRX have them; 0 where there is none."""
    return fields.inner(part).number(name)


def _mixer_of_attention(fields: Fields) -> Mixer:
    return "mla" if fields.number("kv_lora_rank") and fields.has("qk_rope_head_dim") else "full"


def _mixer(fields: Fields, word: str, attention: Mixer, window: int) -> Mixer:
    if word == "full":
        return "parallel" if fields.kind == "falcon_h1" else attention
    if word == "sliding":
        return "sliding" if window else attention
    if word == "mamba":
        # Mamba 2 has heads; Jamba's Mamba 1 has none.
        return "mamba2" if fields.has("mamba_num_heads", "mamba_n_heads", "mamba_headdim", "mamba_d_head") else "mamba"
    if word == "linear":
        if fields.has("linear_attn_config") or (attention == "mla" and not fields.has("linear_num_value_heads")):
            return "kda"
        if fields.has("mamba_n_heads", "mamba_num_heads", "mamba_d_state") and not fields.has("linear_num_value_heads"):
            return "mamba2"
        return "lightning" if fields.kind in ("minimax", "minimax_text_01") else "delta"
    if word in ("chunked", "cross", "conv", "mla"):
        return word
    raise fields.broken("layer_types", f"of the unknown kind {word!r}")


def _named(fields: Fields, count: int) -> list[str]:
    """The kind of every layer where the config lists them; empty where it does not."""
    if pattern := fields.text("hybrid_override_pattern"):
        return _checked(fields, "hybrid_override_pattern", [LETTERS.get(c, c) for c in pattern.replace("|", "")], count)
    for key in ("layer_types", "layers_block_type"):
        if words := fields.words(key):
            return _checked(fields, key, [WORDS.get(word, word) for word in words], count)
    if types := fields.numbers("attn_type_list"):  # MiniMax-Text-01: 1 is softmax attention, 0 is lightning
        return _checked(fields, "attn_type_list", ["full" if kind else "linear" for kind in types], count)
    if kimi := fields.part("linear_attn_config"):
        full = kimi.get("full_attn_layers") or []
        if not isinstance(full, list):
            raise fields.broken("linear_attn_config.full_attn_layers", f"{full!r}, not a list")
        return ["full" if i + 1 in full else "linear" for i in range(count)]  # counted from 1
    if fields.has("attn_layer_indices"):  # Bamba
        full = fields.numbers("attn_layer_indices")
        return ["full" if i in full else "mamba" for i in range(count)]
    if period := fields.number("attn_layer_period"):  # Jamba
        return ["full" if i % period == fields.number("attn_layer_offset") else "mamba" for i in range(count)]
    if every := fields.number("full_attention_interval"):  # Qwen3-Next and on
        return ["full" if (i + 1) % every == 0 else "linear" for i in range(count)]
    if cross := fields.numbers("cross_attention_layers"):  # Llama 3.2 Vision
        return ["cross" if i in cross else "full" for i in range(count)]
    if fields.has("attention_chunk_size"):  # Llama 4: layers without RoPE attend to everything
        listed = fields.numbers("no_rope_layers")  # 0 marks them
        step = fields.number("no_rope_layer_interval", default=4) or 4
        rope = [bool(listed[i]) if i < len(listed) else (i + 1) % step != 0 for i in range(count)]
        return ["chunked" if rotated else "full" for rotated in rope]
    return []


def _checked(fields: Fields, key: str, words: list[str], count: int) -> list[str]:
    if len(words) < count:
        raise fields.broken(key, f"a list of {len(words)}, but there are {count} layers")
    return words[:count]


def _windowed(fields: Fields, window: int) -> Callable[[int], bool]:
    """Whether layer i sees a window only, where the config does not list layers."""
    if not window:
        return lambda i: False
    pattern = fields.get("sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(pattern, str) and pattern:  # EXAONE 4: `LLLG`
        return lambda i: pattern[i % len(pattern)].upper() == "L"
    every = pattern if type(pattern) is int and pattern > 0 else ALTERNATING.get(fields.kind, 0)
    if every:
        return lambda i: (i + 1) % every != 0
    # Qwen2Config: layers from max_window_layers on. Without either, vLLM gives the window to every layer.
    first = fields.number("max_window_layers")
    return lambda i: i >= first


def _sparse(fields: Fields) -> Callable[[int], bool]:
    """Whether layer i has experts, in a model that has any."""
    listed = fields.numbers("moe_layers")
    words = fields.words("mlp_layer_types")
    frequency = fields.get("moe_layer_freq")
    pattern = frequency if isinstance(frequency, list) else None
    dense = fields.numbers("mlp_only_layers")
    first = fields.number("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers")
    last = fields.number("moe_layer_end_index", default=1 << 20)
    step = max(1, fields.number("decoder_sparse_step", "moe_layer_interval", "interleave_moe_layer_step", default=1))
    if isinstance(frequency, int) and frequency > 1:
        step = frequency
    period, offset = fields.number("expert_layer_period"), fields.number("expert_layer_offset")

    def sparse(i: int) -> bool:
        if listed:
            return i in listed
        if words:
            return i < len(words) and words[i] == "sparse"
        if pattern:
            return i < len(pattern) and bool(pattern[i])
        if period:
            return i % period == offset
        if i in dense or not first <= i <= last:
            return False
        return i % step == 0 if isinstance(frequency, int) else (i + 1) % step == 0

    return sparse
