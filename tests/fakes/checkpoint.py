"""A checkpoint as its publisher would lay it out, in a few kB: true config, true safetensors headers, no weights.

The shapes and names are those of transformers' models (Llama's and what is like it, mixtures of experts, MLA), stored
in bfloat16, in FP8 with block scales, or as AWQ does; biases, towers and draft heads are left out. Files are sparse: a head of real bytes, and zeros up to a size.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from modelport.catalog.families import tied_by_default

SHARD_BYTES = 5_000_000_000  # transformers' save_pretrained
BYTES = {"BF16": 2, "F16": 2, "F8_E4M3": 1, "F32": 4, "I32": 4}


@dataclass(frozen=True, slots=True)
class Sparse:
    """A file: `head`, then zeros up to `size` bytes."""

    head: bytes
    size: int

    @classmethod
    def of(cls, content: bytes | str) -> "Sparse":
        raw = content.encode() if isinstance(content, str) else content
        return cls(raw, len(raw))

    def read(self, start: int, count: int) -> bytes:
        count = max(0, min(count, self.size - start))
        return self.head[start : start + count].ljust(count, b"\0")


Named = tuple[str, str, tuple[int, ...]]


def tensors_of(config: Mapping[str, Any]) -> Iterator[Named]:
    """Name, dtype and shape of every tensor."""
    hidden, layers, vocabulary = (config[key] for key in ("hidden_size", "num_hidden_layers", "vocab_size"))
    method = config.get("quantization_config", {}).get("quant_method", "")
    yield "model.embed_tokens.weight", "BF16", (vocabulary, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for name, rows, columns in [*_attention(config), *_feed_forward(config, layer)]:
            yield from _stored(at + name, rows, columns, "" if name.endswith("gate") else method)
        yield f"{at}input_layernorm.weight", "BF16", (hidden,)
        yield f"{at}post_attention_layernorm.weight", "BF16", (hidden,)
    yield "model.norm.weight", "BF16", (hidden,)
    kind = config.get("model_type", "")
    if not config.get("tie_word_embeddings", tied_by_default(kind, hidden)):
        yield "lm_head.weight", "BF16", (vocabulary, hidden)


def _attention(config: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if latent := config.get("kv_lora_rank"):
        rope, nope, value = (config[key] for key in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
        if query := config.get("q_lora_rank"):
            yield "self_attn.q_a_proj", query, hidden
            yield "self_attn.q_b_proj", heads * (nope + rope), query
        else:
            yield "self_attn.q_proj", heads * (nope + rope), hidden
        yield "self_attn.kv_a_proj_with_mqa", latent + rope, hidden
        yield "self_attn.kv_b_proj", heads * (nope + value), latent
        yield "self_attn.o_proj", hidden, heads * value
        return
    size = config.get("head_dim") or hidden // heads
    for name, count in (("q", heads), ("k", config["num_key_value_heads"]), ("v", config["num_key_value_heads"])):
        yield f"self_attn.{name}_proj", count * size, hidden
    yield "self_attn.o_proj", hidden, heads * size


def _feed_forward(config: Mapping[str, Any], layer: int) -> Iterator[tuple[str, int, int]]:
    hidden, experts = config["hidden_size"], config.get("num_experts") or 0
    if not experts or layer < (config.get("first_k_dense_replace") or 0):
        yield from _mlp("mlp", hidden, config["intermediate_size"])
        return
    size = config["moe_intermediate_size"]
    yield "mlp.gate", experts, hidden
    for expert in range(experts):
        yield from _mlp(f"mlp.experts.{expert}", hidden, size)
    if shared := config.get("n_shared_experts"):
        yield from _mlp("mlp.shared_experts", hidden, size * shared)


def _mlp(name: str, hidden: int, size: int) -> Iterator[tuple[str, int, int]]:
    yield f"{name}.gate_proj", size, hidden
    yield f"{name}.up_proj", size, hidden
    yield f"{name}.down_proj", hidden, size


def _stored(name: str, rows: int, columns: int, method: str) -> Iterator[Named]:
    if method == "awq":
        yield f"{name}.qweight", "I32", (columns, rows // 8)
        yield f"{name}.qzeros", "I32", (columns // 128, rows // 8)
        yield f"{name}.scales", "F16", (columns // 128, rows)
    elif method == "fp8":
        yield f"{name}.weight", "F8_E4M3", (rows, columns)
        yield f"{name}.weight_scale_inv", "F32", (-(-rows // 128), -(-columns // 128))
    else:
        yield f"{name}.weight", "BF16", (rows, columns)


def weight_bytes(config: Mapping[str, Any]) -> int:
    return sum(prod(shape) * BYTES[dtype] for _, dtype, shape in tensors_of(config))


def safetensors(tensors: list[Named]) -> Sparse:
    """One file. The format: a length in 8 bytes, that much JSON, then the tensors' bytes in that order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape in tensors:
        begin, end = end, end + prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return Sparse(head, len(head) + end)


def checkpoint(config: Mapping[str, Any], *, shard_bytes: int = SHARD_BYTES) -> dict[str, Sparse]:
    """All files of a repository with this config."""
    shards: list[list[Named]] = [[]]
    filled = 0
    for tensor in tensors_of(config):
        size = prod(tensor[2]) * BYTES[tensor[1]]
        if filled and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += size
    many = len(shards)
    names = (
        [f"model-{i:05}-of-{many:05}.safetensors" for i in range(1, many + 1)] if many > 1 else ["model.safetensors"]
    )
    files = {name: safetensors(shard) for name, shard in zip(names, shards, strict=True)}
    # Large and with the template at the end, as tokenizers with many added tokens are.
    tokenizer = {"added_tokens_decoder": {str(n): {"content": f"<|{n}|>"} for n in range(4000)}}
    return files | {
        "README.md": Sparse.of("---\nlicense: apache-2.0\n---\n"),
        "config.json": Sparse.of(json.dumps(config)),
        "tokenizer.json": Sparse(b"{", 9_000_000),
        "tokenizer_config.json": Sparse.of(json.dumps(tokenizer | {"chat_template": "{{ messages }}"})),
        "original/consolidated.00.pth": Sparse(b"", 16_000_000_000),
    }
