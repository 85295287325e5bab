"""Writes small safetensors files, byte by byte, from the specification and not from our reader."""

import json
import struct
from pathlib import Path

ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "U32": 4, "U8": 1, "F8_E4M3": 1, "I64": 8}


def safetensors(tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str] | None = None) -> bytes:
    """A whole file of zeros: name → dtype and shape."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = ITEM_BYTES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return raw(json.dumps(header).encode(), at)


def raw(header: bytes, data_bytes: int = 0) -> bytes:
    """A file with this header, true or not."""
    return struct.pack("<Q", len(header)) + header + bytes(data_bytes)


HIDDEN, VOCABULARY = 8, 16
LLAMA_CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
    "max_position_embeddings": 64, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
SHAPES = {
    "self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8),
    "mlp.gate_proj": (24, 8), "mlp.up_proj": (24, 8), "mlp.down_proj": (8, 24), "input_layernorm": (8,),
    "post_attention_layernorm": (8,),
}  # fmt: skip


def layer(number: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {f"model.layers.{number}.{name}.weight": ("BF16", shape) for name, shape in SHAPES.items()}


LLAMA_TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "model.embed_tokens.weight": ("BF16", (VOCABULARY, HIDDEN)),
    **layer(0),
    **layer(1),
    "model.norm.weight": ("BF16", (HIDDEN,)),
    "lm_head.weight": ("BF16", (VOCABULARY, HIDDEN)),
}
LLAMA_PARAMETERS = 2 * VOCABULARY * HIDDEN + HIDDEN + 2 * (2 * 64 + 2 * 32 + 3 * 192 + 16)


def llama_directory(path: Path, config: dict[str, object] | None = None) -> Path:
    """A small llama-shaped model: config.json and one safetensors file."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({**LLAMA_CONFIG, **(config or {})}))
    (path / "model.safetensors").write_bytes(safetensors(LLAMA_TENSORS, {"format": "pt"}))
    return path
