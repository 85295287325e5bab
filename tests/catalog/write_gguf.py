"""Writes small GGUF files, byte by byte, from the specification and not from our reader."""

import struct
from pathlib import Path

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
    """A whole file. `tensors` maps a name to shape and type; their bytes are `fill`."""
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
    return out + (fill * last)[:last]


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
