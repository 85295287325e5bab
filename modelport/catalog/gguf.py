"""GgufHeader: what the header of a GGUF file says, read without trusting it.

The format is llama.cpp's (docs/gguf.md in ggml-org/ggml; ggml/src/gguf.cpp): magic, version, counts, keys and values,
then one entry per tensor, then the tensors' bytes. Every length is checked against the bytes that are there before
anything is read or kept, so a hostile file costs neither memory nor time.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from modelport.catalog.ggml_types import GGML_TYPES
from modelport.catalog.readable import Readable, local_file
from modelport.domain.units import show_bytes
from modelport.errors import ModelportError

# Far above what real models have (100 keys, 20,000 tensors, 300,000 tokens, 30 MiB), low enough to bound our work.
MAX_KEYS = 4096
MAX_TENSORS = 1 << 17
MAX_ARRAY = 1 << 22
MAX_HEADER_BYTES = 128 << 20
MAX_KEY_BYTES = 1 << 16
MAX_TENSOR_NAME_BYTES = 64  # GGML_MAX_NAME
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_WEIGHTS = 1 << 62
# Longer values are counted and passed over: no fact needs a tokenizer's tokens.
KEEP_STRING_BYTES = 4096
KEEP_ARRAY = 512

_CHUNK_BYTES = 1 << 20
_DEFAULT_ALIGNMENT = 32
_MIN_KEY_BYTES = 8 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Skipped:
    """A long string or array that was passed over: only its length is known."""

    length: int


Value = int | float | bool | str | tuple[int | float | bool, ...] | Skipped


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header promises it: fastest dimension first, `size_bytes` without padding."""

    name: str
    shape: tuple[int, ...]
    type: str
    weights: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Keys and tensors of one file."""

    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]


def read_header(source: Path | Readable) -> GgufHeader:
    """The header of one GGUF file (version 2 or 3, little endian), on this machine or read by ranges.

    Raises ModelportError with a sentence for anything else, for a file that ends early, and for one whose header
    promises what cannot be. OSError passes through, and what reading raises.
    """
    if isinstance(source, Path):
        with local_file(source) as file:
            return read_header(file)
    try:
        return _header(_Cursor(source))
    except _Broken as broken:
        raise ModelportError(f"{source.name!r} {broken}", param="model") from None


class _Broken(Exception):
    """What is wrong with the file, as the rest of a sentence that starts with its name."""


class _Cursor:
    """Reads forward through a file in chunks and never past its end or the header's cap."""

    def __init__(self, file: Readable) -> None:
        self.file, self.size = file, file.size
        self.chunk, self.at, self.start = b"", 0, 0

    @property
    def position(self) -> int:
        return self.start + self.at

    def need(self, count: int, what: str) -> None:
        """Raise unless `count` more bytes exist within the file and the cap on headers."""
        if count > self.size - self.position:
            raise _Broken(
                f"is truncated or damaged: {what} needs {count:,} bytes, but only "
                f"{self.size - self.position:,} are left of {self.size:,}."
            )
        if self.position + count > MAX_HEADER_BYTES:
            raise _Broken(f"has a header of more than {show_bytes(MAX_HEADER_BYTES)}, which no real model has.")

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        if self.at + count > len(self.chunk):
            self.start, self.chunk, self.at = self.position, self._read(count, what), 0
        self.at += count
        return self.chunk[self.at - count : self.at]

    def skip(self, count: int, what: str) -> None:
        self.need(count, what)
        if self.at + count <= len(self.chunk):
            self.at += count
        else:
            self.start, self.chunk, self.at = self.position + count, b"", 0

    def number(self, form: str, what: str) -> int:
        return struct.unpack("<" + form, self.take(struct.calcsize(form), what))[0]

    def _read(self, count: int, what: str) -> bytes:
        chunk = self.file.read_at(self.position, max(count, min(_CHUNK_BYTES, self.size - self.position)))
        if len(chunk) < count:
            raise _Broken(f"became shorter while {what} was read; is it still being downloaded?")
        return chunk


def _header(cursor: _Cursor) -> GgufHeader:
    if cursor.size == 0:
        raise _Broken("is empty.")
    magic = cursor.take(min(4, cursor.size), "the magic number")
    if magic != b"GGUF"[: len(magic)]:
        raise _Broken(f"is not a GGUF file: it starts with {magic!r}, not b'GGUF'.")
    if len(magic) < 4:
        raise _Broken(f"is truncated: it has only {cursor.size} bytes.")
    version = cursor.number("I", "the version")
    if version & 0xFFFF == 0 and version:
        raise _Broken("is a big-endian GGUF file; only little-endian ones can be read.")
    if version not in (2, 3):
        raise _Broken(f"has GGUF version {version}; only versions 2 and 3 can be read. Convert the model again.")
    tensor_count = cursor.number("Q", "the number of tensors")
    key_count = cursor.number("Q", "the number of keys")
    _plausible(cursor, tensor_count, MAX_TENSORS, _MIN_TENSOR_BYTES, "tensors")
    _plausible(cursor, key_count, MAX_KEYS, _MIN_KEY_BYTES, "keys")

    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = _text(cursor, MAX_KEY_BYTES, "a key")
        if key in metadata:
            raise _Broken(f"is damaged: its header has the key {_short(key)} twice.")
        metadata[key] = _value(cursor, f"the value of {_short(key)}")

    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise _Broken(f"is damaged: general.alignment is {_short(alignment)}, which is not a power of two up to 2^20.")
    return GgufHeader(metadata, _tensors(cursor, tensor_count, alignment))


def _plausible(cursor: _Cursor, count: int, most: int, least_bytes: int, what: str) -> None:
    left = cursor.size - cursor.position
    if count > most or count * least_bytes > left:
        raise _Broken(f"is damaged: its header promises {count:,} {what} in the {left:,} bytes that follow.")


def _text(cursor: _Cursor, most: int, what: str) -> str:
    length = cursor.number("Q", f"the length of {what}")
    if length > most:
        raise _Broken(f"is damaged: {what} is said to be {length:,} bytes long, where {most:,} are the most.")
    return cursor.take(length, what).decode("utf-8", "replace")


def _value(cursor: _Cursor, what: str) -> Value:
    kind = cursor.number("I", what)
    if kind == _ARRAY:
        return _array(cursor, what)
    if kind == _STRING:
        length = cursor.number("Q", what)
        if length > KEEP_STRING_BYTES:
            cursor.skip(length, what)
            return Skipped(length)
        return cursor.take(length, what).decode("utf-8", "replace")
    if form := _SCALARS.get(kind):
        return cursor.number(form, what)
    raise _Broken(f"is damaged: {what} is of the unknown kind {kind}.")


def _array(cursor: _Cursor, what: str) -> Value:
    kind = cursor.number("I", what)
    count = cursor.number("Q", what)
    if kind == _ARRAY:
        raise _Broken(f"cannot be read: {what} is an array of arrays, which llama.cpp refuses too.")
    if kind != _STRING and kind not in _SCALARS:
        raise _Broken(f"is damaged: {what} is an array of the unknown kind {kind}.")
    if count > MAX_ARRAY:
        raise _Broken(f"is damaged: {what} is said to have {count:,} elements, where {MAX_ARRAY:,} are the most.")
    if kind == _STRING:
        cursor.need(8 * count, what)
        for _ in range(count):
            cursor.skip(cursor.number("Q", what), what)
        return Skipped(count)
    form = f"{count}{_SCALARS[kind]}"
    if count > KEEP_ARRAY:
        cursor.skip(struct.calcsize("<" + form), what)
        return Skipped(count)
    return struct.unpack("<" + form, cursor.take(struct.calcsize("<" + form), what))


def _tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[Tensor, ...]:
    """All tensor entries. As in llama.cpp, each must start where the one before ends, rounded up to the alignment."""
    tensors: dict[str, Tensor] = {}
    end, next_offset = 0, 0
    for _ in range(count):
        tensor = _tensor(cursor)
        if tensor.name in tensors:
            raise _Broken(f"is damaged: it has the tensor {_short(tensor.name)} twice.")
        tensors[tensor.name] = tensor
        offset = cursor.number("Q", f"the offset of tensor {_short(tensor.name)}")
        if offset != next_offset:
            raise _Broken(f"is damaged: tensor {_short(tensor.name)} starts at {offset:,} instead of {next_offset:,}.")
        end = offset + tensor.size_bytes
        next_offset = _round_up(end, alignment)
    have = max(0, cursor.size - _round_up(cursor.position, alignment))
    if end > have:
        raise _Broken(
            f"is truncated: its header promises {show_bytes(end)} of tensor data ({end:,} bytes), "
            f"the file has {show_bytes(have)} ({have:,} bytes). Download it again."
        )
    return tuple(tensors.values())


def _tensor(cursor: _Cursor) -> Tensor:
    name = _text(cursor, MAX_TENSOR_NAME_BYTES, "a tensor's name")
    what = f"the entry of tensor {_short(name)}"
    dimensions = cursor.number("I", what)
    if dimensions > MAX_DIMENSIONS:
        raise _Broken(f"is damaged: {what} has {dimensions:,} dimensions, where {MAX_DIMENSIONS} are the most.")
    shape = tuple(cursor.number("Q", what) for _ in range(dimensions))
    number = cursor.number("I", what)
    if number not in GGML_TYPES:
        raise _Broken(f"has a tensor of the unknown type {number}; a newer Modelport may know it.")
    kind = GGML_TYPES[number]
    weights = 1
    for length in shape:
        weights *= length
        if weights > MAX_WEIGHTS:
            raise _Broken(f"is damaged: {what} has the shape {shape}, which no machine can hold.")
    if (shape[0] if shape else 1) % kind.block_weights:
        raise _Broken(f"is damaged: {what} has rows of {shape[0] if shape else 1:,}, which {kind.name} cannot divide.")
    return Tensor(name, shape, kind.name, weights, weights // kind.block_weights * kind.block_bytes)


def _round_up(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
