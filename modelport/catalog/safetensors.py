"""SafetensorsHeader: what the header of a safetensors file says, read without trusting it.

The format is huggingface/safetensors' (README.md and safetensors/src/tensor.rs): eight bytes of length, that many bytes
of JSON, then the tensors' bytes, which fill the rest of the file without holes. Everything is held against the file's
size before it is believed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelport.catalog.readable import local_file
from modelport.catalog.tensors import Tensor
from modelport.domain.units import show_bytes
from modelport.errors import ModelportError

MAX_HEADER_BYTES = 32 << 20
"""Three times the longest header known (a mixture of experts in one file); safetensors itself stops at 100 MB."""
MAX_TENSORS = 1 << 20
MAX_NAME = 1024
MAX_DIMENSIONS = 16
MOST = 1 << 62  # bytes or elements

# bits of one element (enum Dtype in safetensors/src/tensor.rs)
DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """The tensors of one file, in the order of their bytes."""

    tensors: tuple[Tensor, ...]
    header_bytes: int
    """With the eight bytes of its length."""


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_Entry)


def read_safetensors(path: Path) -> SafetensorsHeader:
    """The header of a file on this machine. Raises as `read_safetensors_header`; OSError passes through."""
    with local_file(path) as file:
        return read_safetensors_header(file.read_at, file.size, file.name)


def read_safetensors_header(
    read_at: Callable[[int, int], bytes], size: int, name: str = "the file"
) -> SafetensorsHeader:
    """The header of a file of `size` bytes, of which `read_at(offset, count)` gives some.

    Reads twice: the length and the header. Raises ModelportError with a sentence for what is no safetensors file, is
    truncated, or promises what cannot be; what `read_at` raises passes through.
    """

    def broken(what: str) -> ModelportError:
        return ModelportError(f"{name!r} {what}", param="model")

    if size < 10:  # the length and `{}`
        raise broken("is empty." if not size else f"is truncated: it has only {size} bytes.")
    length = int.from_bytes(_exactly(read_at, 0, 8, broken), "little")
    if length > size - 8:
        raise broken(
            f"is truncated or no safetensors file: it says its header has {length:,} bytes, "
            f"but {size - 8:,} follow. Download it again."
        )
    if length > MAX_HEADER_BYTES:
        raise broken(f"has a header of more than {show_bytes(MAX_HEADER_BYTES)}, which no real model has.")
    text = _exactly(read_at, 8, length, broken)
    try:
        entries = _RAW.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise broken("is no safetensors file: its header is not a JSON object.") from None
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise broken(f"is damaged: its header names {len(entries):,} tensors, where {MAX_TENSORS:,} are the most.")
    tensors: list[tuple[int, int, Tensor]] = []
    for key, raw in entries.items():
        try:
            entry = _ENTRY.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise broken(f"is damaged: the entry of tensor {_short(key)} is not one.") from None
        tensors.append(_tensor(key, entry, broken))
    tensors.sort(key=lambda item: item[:2])
    _filled(tensors, size - 8 - length, broken)
    return SafetensorsHeader(tuple(tensor for _, _, tensor in tensors), 8 + length)


def _exactly(
    read_at: Callable[[int, int], bytes], offset: int, count: int, broken: Callable[[str], ModelportError]
) -> bytes:
    data = read_at(offset, count)
    if len(data) != count:
        raise broken("became shorter while it was read; is it still being downloaded?")
    return data


def _tensor(name: str, entry: _Entry, broken: Callable[[str], ModelportError]) -> tuple[int, int, Tensor]:
    what = f"tensor {_short(name)}"
    if len(name) > MAX_NAME or len(entry.shape) > MAX_DIMENSIONS:
        raise broken(f"is damaged: {what} has a longer name or more dimensions than any real one.")
    if entry.dtype not in DTYPE_BITS:
        raise broken(f"has a tensor of the unknown type {_short(entry.dtype)}; a newer Modelport may know it.")
    begin, end = entry.data_offsets
    if not all(-MOST <= number <= MOST for number in (begin, end, *entry.shape)):
        raise broken(f"is damaged: {what} has a shape or a place that no file can hold.")
    bits = DTYPE_BITS[entry.dtype]
    for length in entry.shape:
        if length < 0:
            raise broken(f"is damaged: {what} has the shape {_short(entry.shape)}.")
        bits *= length
    if begin < 0 or (end - begin) * 8 != bits:
        raise broken(f"is damaged: {what} is said to be at {begin:,} to {end:,}, which its shape does not fill.")
    return begin, end, Tensor(name, entry.dtype, tuple(entry.shape), end - begin)


def _filled(tensors: list[tuple[int, int, Tensor]], have: int, broken: Callable[[str], ModelportError]) -> None:
    """Tensors follow each other without gap or overlap and end where the file does."""
    at = 0
    for begin, end, tensor in tensors:
        if begin != at:
            raise broken(f"is damaged: tensor {_short(tensor.name)} starts at {begin:,} instead of {at:,}.")
        at = end
    if at > have:
        raise broken(
            f"is truncated: its header promises {show_bytes(at)} of tensor data ({at:,} bytes), "
            f"the file has {show_bytes(have)} ({have:,} bytes). Download it again."
        )
    if at < have:
        raise broken(f"is damaged: {have - at:,} bytes follow its last tensor.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
