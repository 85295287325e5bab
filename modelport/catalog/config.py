"""ModelFacts out of a config.json, with the tensors' headers or the files' total where they are known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelport.catalog.caches import caches_of, head_size_of, kv_bytes_per_token, kv_heads_of
from modelport.catalog.computed import (
    dense_size_of,
    expert_size_of,
    experts_of,
    shared_size_of,
    tied_of,
    vocabulary_of,
    weights_of,
)  # fmt: skip
from modelport.catalog.families import DTYPE_BYTES, EMBEDDING_CLASSES, ENCODERS, known
from modelport.catalog.fields import Fields, missing
from modelport.catalog.layers import Layer, layers_of
from modelport.catalog.quantized import Storage, in_words, storage_of
from modelport.catalog.tensors import Tensor, active_parameters, common_dtype, largest_layer, weights_of_tensors
from modelport.domain.facts import ModelFacts, Weights

CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx",
           "model_max_length", "max_context_length")  # fmt: skip

# What holds each kind of input, in the config or in the name of the class.
INPUTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("image", ("vision_config", "vision_tower", "mm_vision_tower", "visual", "image_token_id", "image_token_index")),
    ("video", ("video_token_id", "video_token_index", "video_config")),
    ("audio", ("audio_config", "audio_token_id", "audio_token_index", "speech_config", "audio_processor")),
)

# Kinds of RoPE scaling whose factor is already in max_position_embeddings (vLLM's _get_and_verify_max_len).
_INCLUDED = frozenset({"su", "longrope", "llama3", "mrope", "default", "proportional", ""})


UNCHECKED = "Its architecture ({}) is not one whose sizes were checked: it is read as a plain transformer."


def facts_of_config(
    source: str,
    config: Mapping[str, Any],
    *,
    tensors: Sequence[Tensor] = (),
    total_bytes: int = 0,
    path: str = "",
    **more: Any,
) -> ModelFacts:
    """What a config.json says of a model, in bytes and tokens.

    Weights come from `tensors` where they are given, else they are computed from the architecture, and then scaled to
    `total_bytes` (all weight files together) where that is. `more` are further fields of ModelFacts, which win over
    what the config says. Raises ModelportError naming the keys that are missing, or the value that cannot be.
    """
    fields = Fields(source, config)
    layers = layers_of(fields)
    storage = storage_of(fields)
    caches = caches_of(fields, layers)
    weights = _weights(fields, layers, storage, tensors, total_bytes)
    experts, chosen = experts_of(fields)
    dtype = fields.text("torch_dtype", "dtype").removeprefix("torch.")
    encoder = fields.kind in ENCODERS
    facts = ModelFacts(
        source=source,
        path=path or source,
        format="safetensors" if tensors or total_bytes else "config",
        architecture=fields.kind or _class(fields) or "unknown",
        task="embed" if encoder or _class(fields).endswith(EMBEDDING_CLASSES) else "generate",
        parameters=sum(group.parameters for group in weights),
        weight_bytes=sum(group.bytes for group in weights),
        largest_layer_bytes=largest_layer(tensors) or sum(g.bytes // g.layers for g in weights if g.layers),
        layers=len(layers),
        embedding_size=fields.hidden,
        vocabulary=vocabulary_of(fields),
        context_tokens=context_of(fields),
        kv_bytes_per_token=kv_bytes_per_token(caches),
        quantization=in_words(storage.quantization, common_dtype(tensors) or dtype),
        pooling=False,
        chat_template=False,
        precision="tensors" if tensors else "total" if total_bytes else "computed",
        inputs=_inputs(fields),
        dtype=dtype if dtype in DTYPE_BYTES else "",
        quantized=storage.quantization,
        attention_heads=fields.heads,
        kv_heads=1 if any(cache.kind == "mla" for cache in caches) else kv_heads_of(fields),
        head_size=head_size_of(fields),
        feed_forward_size=max(_dense(fields, layers), chosen * expert_size_of(fields) + _shared(fields, experts)),
        experts=experts,
        experts_per_token=chosen,
        active_parameters=active_parameters(weights, experts, chosen, tied_of(fields)),
        tied_embeddings=tied_of(fields),
        rope_scaling=rope_in_words(fields),
        weights=weights,
        caches=caches,
        note="" if encoder or known(fields.kind) else UNCHECKED.format(fields.kind or "without a model_type"),
    )
    return replace(facts, **more)


def context_of(fields: Fields) -> int:
    """Tokens that engines take a model for without being told: what it says, times RoPE's factor where that is apart.

    As vLLM derives it (vllm/config/model.py, _get_and_verify_max_len): YaRN stretches the original length.
    """
    lengths = [n for key in CONTEXT if 0 < (n := fields.number(key)) < 1 << 30]
    said = lengths[0] if lengths else 0
    kind, factor, original = _rope(fields)
    if kind in _INCLUDED or fields.kind.startswith("gemma3") or not said:
        return said
    if kind == "yarn":
        # Configs of one kind give the stretched length (DeepSeek), of another the original one (Qwen with YaRN added).
        return round((original or said) * factor)
    return round(said * factor)


def rope_in_words(fields: Fields) -> str:
    """`yarn x4`, or empty for plain RoPE."""
    kind, factor, _ = _rope(fields)
    if kind in ("", "default", "mrope"):
        return ""
    return f"{kind} x{factor:g}" if factor != 1 else kind


def _rope(fields: Fields) -> tuple[str, float, int]:
    """Kind, factor and original context of RoPE scaling. `rope_parameters` of new configs may hold one per kind of
    layer; the one of layers that attend fully counts."""
    said = fields.part("rope_scaling") or fields.part("rope_parameters")
    inner = said.get("full_attention")
    said = inner if isinstance(inner, Mapping) else said
    kind = said.get("rope_type") or said.get("type") or ""
    factor = said.get("factor")
    original = said.get("original_max_position_embeddings")
    return (
        kind[:40] if isinstance(kind, str) else "",
        float(factor) if isinstance(factor, int | float) and 0 < factor <= 4096 else 1.0,
        original if type(original) is int and 0 < original < 1 << 30 else 0,
    )


def _weights(
    fields: Fields, layers: Sequence[Layer], storage: Storage, tensors: Sequence[Tensor], total_bytes: int
) -> tuple[Weights, ...]:
    if tensors:
        kv, queries = 2 * kv_heads_of(fields), fields.heads
        return weights_of_tensors(
            tensors, storage, len(layers), fused_share=kv / (kv + queries), latent=bool(fields.number("kv_lora_rank"))
        )
    weights = weights_of(fields, layers, storage, total_bytes)
    computed = sum(group.bytes for group in weights)
    if not computed:
        raise missing(fields.source, ["hidden_size"])
    if not total_bytes:
        return weights
    scale = total_bytes / computed
    # What takes other bytes than computed but is not packed has other weights too.
    grow = scale if storage.quantization is None else 1.0
    return tuple(
        replace(group, bytes=round(group.bytes * scale), parameters=round(group.parameters * grow)) for group in weights
    )


def _class(fields: Fields) -> str:
    names = fields.top.get("architectures")
    return str(names[0])[:100] if isinstance(names, list) and names else ""


def _inputs(fields: Fields) -> tuple[str, ...]:
    found = [kind for kind, keys in INPUTS if any(fields.has(key) for key in keys)]
    return ("text", *found)


def _dense(fields: Fields, layers: Sequence[Layer]) -> int:
    return dense_size_of(fields) if any(layer.feed_forward in ("dense", "both") for layer in layers) else 0


def _shared(fields: Fields, experts: int) -> int:
    return shared_size_of(fields) if experts else 0
