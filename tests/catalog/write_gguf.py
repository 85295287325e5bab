"""Writes small GGUF files, byte by byte, from the specification and not from our reader."""

import struct
from array import array
from pathlib import Path
from random import Random

U32, STRING, ARRAY = 4, 8, 9
F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8
BYTES_PER_WEIGHT = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34)}


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def value(item: object) -> bytes:
    """A value with its kind in front: the kinds real files use."""
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<Ii" if item < 0 else "<II", 5 if item < 0 else U32, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, str):
        return struct.pack("<I", STRING) + string(item)
    if isinstance(item, list) and item and isinstance(item[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(item)) + b"".join(string(text) for text in item)
    if isinstance(item, list) and item and isinstance(item[0], float):
        return struct.pack(f"<IIQ{len(item)}f", ARRAY, 6, len(item), *item)
    if isinstance(item, list):
        return struct.pack(f"<IIQ{len(item)}I", ARRAY, U32, len(item), *item)
    assert isinstance(item, bytes)
    return item  # kind and value as they are, for values no real file has


def gguf(
    metadata: dict[str, object],
    tensors: dict[str, tuple[tuple[int, ...], int]],
    *,
    version: int = 3,
    alignment: int = 32,
    fill: bytes = b"\0",
) -> bytes:
    """A whole file. `tensors` maps a name to shape and type; their bytes are `fill`, again and again."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, item in metadata.items():
        out += string(key) + value(item)
    offset, last = 0, 0
    for name, (shape, kind) in tensors.items():
        weights = 1
        for length in shape:
            weights *= length
        per, size = BYTES_PER_WEIGHT[kind]
        out += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        last = offset + weights // per * size
        offset = -(-last // alignment) * alignment
    out += b"\0" * (-len(out) % alignment)
    return out + (fill * -(-last // len(fill)))[:last]


LLAMA: dict[str, object] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 256,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["<s>", "a", "b"],
    "tokenizer.chat_template": "{{ messages }}",
}
LLAMA_TENSORS: dict[str, tuple[tuple[int, ...], int]] = {
    "token_embd.weight": ((64, 3), F16),
    "blk.0.attn_q.weight": ((64, 64), Q4_0),
    "blk.1.attn_q.weight": ((64, 32), Q4_0),
    "output_norm.weight": ((64,), F32),
}


def llama(path: Path, metadata: dict[str, object] | None = None, **options: int) -> Path:
    """A small llama-shaped file at `path`, with `metadata` laid over the usual one (None removes a key)."""
    merged = {key: item for key, item in {**LLAMA, **(metadata or {})}.items() if item is not None}
    path.write_bytes(gguf(merged, LLAMA_TENSORS, **options))
    return path


def projector(path: Path, width: int = 64, metadata: dict[str, object] | None = None) -> Path:
    """A projector that llama.cpp loads (CLIP's tower and LLaVA's two layers, random weights), for a model of that
    width: 56 x 56 pixels become 16 tokens. `metadata` is laid over the usual one (None removes a key)."""
    wide, inner, patch, side, layers = 64, 128, 14, 56, 2
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (patch, patch, 3, wide), "v.patch_embd.bias": (wide,),
        "v.position_embd.weight": (wide, (side // patch) ** 2), "v.pre_ln.weight": (wide,), "v.pre_ln.bias": (wide,),
        "mm.0.weight": (wide, width), "mm.0.bias": (width,), "mm.2.weight": (width, width), "mm.2.bias": (width,),
    }  # fmt: skip
    for layer in range(layers):
        at = f"v.blk.{layer}."
        for name, columns, rows in (
            *((f"attn_{part}", wide, wide) for part in ("q", "k", "v", "out")),
            *(("ffn_up", wide, inner), ("ffn_down", inner, wide)),
        ):
            shapes |= {f"{at}{name}.weight": (columns, rows), f"{at}{name}.bias": (rows,)}
        shapes |= {f"{at}{norm}.{part}": (wide,) for norm in ("ln1", "ln2") for part in ("weight", "bias")}
    usual = {
        "general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp", "clip.use_gelu": True, "clip.vision.image_size": side,
        "clip.vision.patch_size": patch, "clip.vision.embedding_length": wide,
        "clip.vision.feed_forward_length": inner, "clip.vision.projection_dim": width,
        "clip.vision.block_count": layers, "clip.vision.attention.head_count": 4,
        "clip.vision.attention.layer_norm_epsilon": 1e-5, "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    merged = {key: item for key, item in {**usual, **(metadata or {})}.items() if item is not None}
    chance = Random(1)
    weights = array("f", (chance.gauss(0, 0.2) for _ in range(65_537)))  # a prime: rows are not alike
    path.write_bytes(gguf(merged, {name: (shape, F32) for name, shape in shapes.items()}, fill=weights.tobytes()))
    return path
