"""Weights computed from the architecture, for models of which only the config is known.

Formulas count each matrix of the modelling files in huggingface/transformers; norms and biases are counted where they
are matrices' worth, else within one part in ten thousand.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from modelport.catalog.caches import (
    conv_kernel_of,
    delta_sizes,
    global_heads_of,
    head_size_of,
    kda_sizes,
    kv_heads_of,
    latent_of,
    mamba2_sizes,
    mamba_sizes,
)  # fmt: skip
from modelport.catalog.families import (
    DRAFT_COPIES,
    GATED_QUERIES,
    GATED_TOWERS,
    HALVED,
    TWO_LAYER_PROJECTORS,
    UNGATED,
    tied_by_default,
)
from modelport.catalog.fields import Fields, missing
from modelport.catalog.layers import EXPERTS, TOP_K, Layer, number_in
from modelport.catalog.quantized import Storage
from modelport.catalog.tensors import PUBLIC
from modelport.domain.facts import Sharding, Weights

VOCABULARY = ("vocab_size", "padded_vocab_size", "n_vocab")
FEED_FORWARD = (
    "intermediate_size_mlp",
    "intermediate_size",
    "ffn_hidden_size",
    "ffn_dim",
    "n_inner",
    "d_ff",
    "dense_ffn_hidden_size",
)
EXPERT_SIZE = (
    "moe_intermediate_size",
    "expert_ffn_hidden_size",
    "moe_ffn_hidden_size",
    "moe_expert_intermediate_size",
    "ffn_hidden_size",
)


def vocabulary_of(fields: Fields) -> int:
    return fields.number(*VOCABULARY)


def tied_of(fields: Fields) -> bool:
    """Whether the head is the embedding matrix. The language model's own word wins over that of the whole."""
    return fields.flag("tie_word_embeddings", default=tied_by_default(fields.kind, fields.hidden))


def experts_of(fields: Fields) -> tuple[int, int]:
    """Experts of a layer and how many a token uses; zeros for a dense model."""
    experts = fields.number(*EXPERTS) or number_in(fields, "ffn_config", "moe_num_experts")
    if experts < 2:
        return 0, 0
    chosen = fields.number(*TOP_K) or number_in(fields, "ffn_config", "moe_top_k") or 1
    if chosen > experts:
        raise fields.broken(TOP_K[0], f"{chosen:,} of {experts:,} experts")
    return experts, chosen


def expert_size_of(fields: Fields) -> int:
    """Width of one expert."""
    size = fields.number(*EXPERT_SIZE) or number_in(fields, "ffn_config", "ffn_hidden_size")
    return size or fields.number("intermediate_size")


def dense_size_of(fields: Fields) -> int:
    """Width of a dense feed-forward part; 0 where the config does not say."""
    size = fields.number(*FEED_FORWARD)
    if not size and fields.has("expansion_ratio"):
        size = fields.hidden * fields.number("expansion_ratio")
    if not size and fields.kind in ("gpt2", "bloom", "falcon", "gpt_bigcode", "gptj", "codegen", "gpt_neo"):
        size = 4 * fields.hidden
    if fields.flag("block_auto_adjust_ff_dim"):  # LFM 2: two thirds of it, rounded up
        multiple = max(1, fields.number("block_multiple_of", default=256))
        size = -(-(2 * size // 3) // multiple) * multiple
    return size // 2 if fields.kind in HALVED else size


def shared_size_of(fields: Fields) -> int:
    """Width of all experts that every token uses together."""
    named = fields.number("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
                          "shared_intermediate_size", "n_shared_experts_intermediate_size")  # fmt: skip
    if fields.kind in ("llama4", "llama4_text"):
        return fields.number("intermediate_size")
    shared = fields.number("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
    return named if named else shared * expert_size_of(fields)


def weights_of(fields: Fields, layers: Sequence[Layer], storage: Storage, rest_bytes: int = 0) -> tuple[Weights, ...]:
    """Every group of weights.

    `rest_bytes` is the files' total where it is known: it then stands in for a feed-forward width that the config
    lacks. Raises ModelportError that names the keys without which nothing can be computed.
    """
    found: list[Weights] = []

    def add(name: str, parameters: int, over: int, sharding: Sharding, kind: str = "") -> None:
        if parameters:
            size = storage.bytes_of(kind or name, parameters, len(layers))
            found.append(Weights(PUBLIC.get(name, name), parameters, size, over, sharding))

    vocabulary, hidden = vocabulary_of(fields), fields.hidden
    if not vocabulary and not rest_bytes:
        raise missing(fields.source, ["vocab_size"])
    add("embeddings", vocabulary * hidden + _extra_embeddings(fields, len(layers)), 0, "tensor")
    if not tied_of(fields):
        add("head", vocabulary * hidden, 0, "tensor")
    mixers = Counter(layer.mixer for layer in layers)
    attention, key_value, latent = _attention(fields, mixers)
    attending = sum(
        n
        for mixer, n in mixers.items()
        if mixer not in ("mamba", "mamba2", "delta", "kda", "lightning", "conv", "none")
    )
    add("attention", attention, attending, "tensor")
    add("key_value", key_value, attending, "key_value")
    add("latent", latent, mixers["mla"], "none")
    add("state", sum(_state(fields, m) * n for m, n in mixers.items()), _stateful(mixers), "tensor")
    forms = Counter(layer.feed_forward for layer in layers)
    _feed_forward(fields, forms, add)
    if narrow := fields.number("hidden_size_per_layer_input"):  # Gemma 3n, Gemma 4 E: gate and projections per layer
        add("other", 3 * len(layers) * hidden * narrow, len(layers), "none")
    add("norms", 2 * len(layers) * hidden + hidden, len(layers), "none")
    # vLLM splits vision towers as it does the rest (mm_encoder_tp_mode "weights", its default), audio towers not.
    second = hidden * hidden if fields.wrapper in TWO_LAYER_PROJECTORS and fields.has("vision_config") else 0
    add("vision", tower_of(fields.inner("vision_config"), hidden) + second, 0, "tensor")
    add("audio", tower_of(fields.inner("audio_config"), hidden), 0, "none")
    block, copies = _draft(fields, layers, found)
    add("draft", block, 0, "tensor")
    add("draft", copies, 0, "tensor", "embeddings")
    dense = forms["dense"] + forms["both"]
    if dense and not dense_size_of(fields):
        if not rest_bytes:
            raise missing(fields.source, ["intermediate_size"])
        rest = max(0, rest_bytes - sum(group.bytes for group in found))
        found.append(Weights("mlp", rest // storage.dtype_bytes, rest, dense, "tensor"))
    return tuple(found)


def tower_of(tower: Fields, language_hidden: int) -> int:
    """Weights of a vision or audio encoder with its projector, from its own config; 0 where there is none.

    A plain transformer: four square projections and a feed-forward part per layer.
    """
    width = tower.number("embed_dim", "hidden_size", "d_model", "width", "n_embd")
    depth = tower.number("depth", "num_hidden_layers", "encoder_layers", "layers", "n_layers")
    if not width or not depth:
        return 0
    if tower.has("embed_dim") and tower.has("mlp_ratio"):
        inner = width * tower.number("mlp_ratio")
    else:
        inner = tower.number("intermediate_size", "encoder_ffn_dim", "ffn_dim", default=4 * width)
    gated = 3 if tower.kind in GATED_TOWERS else 2
    depth += tower.number("num_global_layers")  # Mllama: layers over all tiles behind those of each tile
    patch = (
        tower.number("patch_size", "spatial_patch_size", default=14) ** 2
        * 3
        * tower.number("temporal_patch_size", default=1)
    )
    merged = width * tower.number("spatial_merge_size", default=1) ** 2
    out = tower.number("out_hidden_size", default=language_hidden)
    positions = 2 * tower.number("position_embedding_size") * width  # Gemma 4: a table for each direction
    projector = merged * (merged if merged > width else 0) + merged * out
    # Qwen3-VL: a merger of its own for what each of these layers hands on.
    projector *= 1 + len(tower.numbers("deepstack_visual_indexes"))
    if tower.has("max_num_tiles"):  # Mllama: outputs of several layers side by side; positions of each tile and ratio
        projector = tower.number("vision_output_dim", default=width) * out
        listed = tower.get("supported_aspect_ratios")
        ratios = (len(cast(list[Any], listed)) if isinstance(listed, list) else 0) + 1
        patches = (tower.number("image_size") // max(1, tower.number("patch_size", default=14))) ** 2 + 1
        positions += ratios * tower.number("max_num_tiles") * patches * width
    return depth * (4 * width * width + gated * width * inner) + patch * width + positions + projector


def _attention(fields: Fields, mixers: Counter[str]) -> tuple[int, int, int]:
    """Query and output projections, key and value projections, and what MLA holds on every GPU."""
    hidden = fields.hidden
    plain = mixers["full"] + mixers["parallel"] + mixers["cross"]
    windowed = mixers["sliding"] + mixers["chunked"]
    attention = key_value = latent = 0
    if plain or windowed:
        heads, size, kv = fields.heads, head_size_of(fields), kv_heads_of(fields)
        wide_kv, wide = global_heads_of(fields)
        queries = 3 if fields.kind in GATED_QUERIES or fields.flag("attn_output_gate") else 2
        bias = heads * size if fields.flag("attention_bias", "qkv_bias", "add_qkv_bias") else 0
        attention = windowed * (hidden * heads * size * queries + bias) + plain * (
            hidden * heads * wide * queries + bias
        )
        both = 1 if fields.flag("attention_k_eq_v") else 2  # Gemma 4: values are the keys in layers that attend fully
        key_value = hidden * (windowed * 2 * kv * size + plain * both * wide_kv * wide)
    if mixers["mla"]:
        rank, rotary = latent_of(fields)
        plain_part = fields.number("qk_nope_head_dim")
        value, heads = fields.number("v_head_dim", default=plain_part), fields.heads
        if not plain_part:
            raise missing(fields.source, ["qk_nope_head_dim"])
        lora = fields.number("q_lora_rank")
        up = (
            heads * (plain_part + rotary) * (lora or hidden)
            + rank * heads * (plain_part + value)
            + heads * value * hidden
        )
        down = hidden * (lora + rank + rotary)
        if index := fields.number("index_head_dim"):
            index_heads = fields.number("index_n_heads", default=64)
            down += (lora or hidden) * index_heads * index + hidden * (index + index_heads)
        attention, latent = attention + mixers["mla"] * up, mixers["mla"] * down
    return attention, key_value, latent


def _state(fields: Fields, mixer: str) -> int:
    """Weights of one layer that keeps a state."""
    hidden, kernel = fields.hidden, conv_kernel_of(fields)
    if mixer == "mamba":
        inner, state = mamba_sizes(fields)
        rank = (
            fields.number("mamba_dt_rank", default=-(-hidden // 16))
            if type(fields.get("mamba_dt_rank")) is int
            else -(-hidden // 16)
        )
        return 3 * hidden * inner + inner * (kernel + 2 * rank + 3 * state + 3)
    if mixer in ("mamba2", "parallel"):
        heads, head, groups, state = mamba2_sizes(fields)
        inner, convolved = heads * head, heads * head + 2 * groups * state
        return hidden * (inner + convolved + heads) + (kernel + 1) * convolved + inner * hidden + inner + 3 * heads
    if mixer == "delta":
        key_heads, key, value_heads, value = delta_sizes(fields)
        keys, values = key_heads * key, value_heads * value
        return hidden * (2 * keys + 3 * values + 2 * value_heads) + kernel * (2 * keys + values) + 2 * value_heads
    if mixer == "kda":
        heads, head = kda_sizes(fields)
        inner = heads * head
        return 4 * hidden * inner + 2 * head * (hidden + inner) + hidden * heads + 3 * kernel * inner
    if mixer == "lightning":
        return 5 * hidden * fields.heads * head_size_of(fields)
    return 4 * hidden * hidden if mixer == "conv" else 0


def _stateful(mixers: Counter[str]) -> int:
    return sum(mixers[m] for m in ("mamba", "mamba2", "parallel", "delta", "kda", "lightning", "conv"))


def matrices_of(fields: Fields) -> int:
    """Matrices of a feed-forward part: gate, up and down, or only the latter two."""
    return 2 if fields.kind in UNGATED else 3


def _feed_forward(fields: Fields, forms: Counter[str], add) -> None:
    hidden, matrices = fields.hidden, matrices_of(fields)
    if dense := forms["dense"] + forms["both"]:
        add("mlp", dense * matrices * hidden * dense_size_of(fields), dense, "tensor")
    sparse = forms["experts"] + forms["both"]
    if not sparse:
        return
    experts, _ = experts_of(fields)
    size = expert_size_of(fields)
    if not size:
        raise missing(fields.source, ["moe_intermediate_size"])
    # Nemotron 3: experts work in a narrower space, with one projection into it and one back.
    narrow = fields.number("moe_latent_size") or hidden
    add("experts", sparse * experts * matrices * narrow * size, sparse, "expert")
    between = 2 * hidden * narrow if narrow != hidden else 0
    add("shared_experts", sparse * (matrices * hidden * shared_size_of(fields) + between), sparse, "tensor")
    add("router", sparse * hidden * experts, sparse, "none")


def _extra_embeddings(fields: Fields, layers: int) -> int:
    """Learned positions, and Gemma 3n's table per layer."""
    per_layer = fields.number("vocab_size_per_layer_input") * fields.number("hidden_size_per_layer_input") * layers
    positions = (
        fields.number("max_position_embeddings", "n_positions")
        if fields.kind in ("opt", "gpt2", "gpt_bigcode", "bert", "roberta")
        else 0
    )
    return per_layer + positions * fields.hidden


def _draft(fields: Fields, layers: Sequence[Layer], found: Sequence[Weights]) -> tuple[int, int]:
    """Multi-token prediction: blocks like the last one, each with a projection of two hidden states into one; and the
    embeddings and head that are stored with them once more."""
    count = fields.number("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
    if not count:
        return 0, 0
    passed = {"state", "mlp"} if any(layer.feed_forward == "experts" for layer in layers) else {"state"}
    block = sum(group.parameters // group.layers for group in found if group.layers and group.name not in passed)
    copies = 2 * vocabulary_of(fields) * fields.hidden if fields.kind in DRAFT_COPIES else 0
    return count * (block + 2 * fields.hidden**2), count * copies
