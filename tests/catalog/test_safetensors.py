"""The safetensors reader believes nothing a file says until the bytes are there."""

import json
import string
import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from modelport.catalog.quantized import Storage
from modelport.catalog.safetensors import DTYPE_BITS, MAX_HEADER_BYTES, read_safetensors, read_safetensors_header
from modelport.catalog.tensors import Tensor, weights_of_tensors
from modelport.domain.facts import Quantization
from modelport.errors import ModelportError
from tests.catalog.write_safetensors import LLAMA_TENSORS, raw, safetensors

LETTERS = string.ascii_lowercase


def refusal(data: bytes) -> str:
    with pytest.raises(ModelportError) as caught:
        read_safetensors_header(lambda at, count: data[at : at + count], len(data), "m")
    assert caught.value.message.endswith(".") and caught.value.message.startswith("'m' ")
    return caught.value.message


def test_tensors_are_read_with_type_shape_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors({"a": ("BF16", (3, 4)), "b": ("I32", ()), "c": ("F8_E4M3", (0, 5))}, {"x": "y"}))
    found = read_safetensors(path)
    assert set(found.tensors) == {
        Tensor("a", "BF16", (3, 4), 24), Tensor("b", "I32", (), 4), Tensor("c", "F8_E4M3", (0, 5), 0),
    }  # fmt: skip
    assert found.header_bytes + 28 == path.stat().st_size


@pytest.mark.parametrize("dtype", sorted(DTYPE_BITS))
def test_every_type_is_measured_in_its_bits(dtype: str) -> None:
    size = DTYPE_BITS[dtype] * 8 // 8
    data = raw(json.dumps({"t": {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, size]}}).encode(), size)
    (tensor,) = read_safetensors_header(lambda at, count: data[at : at + count], len(data)).tensors
    assert (tensor.dtype, tensor.size_bytes, tensor.elements) == (dtype, size, 8)


def test_only_the_length_and_the_header_are_read() -> None:
    data, asked = safetensors(LLAMA_TENSORS), []

    def read_at(at: int, count: int) -> bytes:
        asked.append((at, count))
        return data[at : at + count]

    header = read_safetensors_header(read_at, len(data))
    assert asked == [(0, 8), (8, header.header_bytes - 8)]


def test_a_file_cut_anywhere_is_refused() -> None:
    whole = safetensors({"a": ("BF16", (4, 4)), "b": ("F32", (2,))})
    for length in range(len(whole)):
        refusal(whole[:length])


def test_missing_tensor_data_is_told_in_numbers() -> None:
    said = refusal(safetensors(LLAMA_TENSORS)[:-100])
    assert "is truncated: its header promises" in said and "Download it again" in said


def entry(**changes: object) -> bytes:
    return json.dumps({"t": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}}).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"GGUF", "is truncated"),
        (b"PK\x03\x04" * 9, "is truncated or no safetensors file"),
        (struct.pack("<Q", 2**64 - 1) + b"{}" * 9, "18,446,744,073,709,551,615 bytes"),
        (raw(b"[]"), "not a JSON object"),
        (raw(b'{"a": nope}'), "not a JSON object"),
        (raw(b"[" * 100_000), "not a JSON object"),
        (raw(b'{"t": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "is no safetensors file"),
        (raw(b"\xff\xfe{}"), "not a JSON object"),
        (raw(b'{"t": 7}'), "the entry of tensor 't'"),
        (raw(entry(dtype="F7"), 4), "unknown type 'F7'"),
        (raw(entry(shape=[-4]), 4), "has the shape [-4]"),
        (raw(entry(shape=[2**63, 2**63]), 4), "no file can hold"),
        (raw(entry(shape=[2**61, 2**61]), 4), "does not fill"),
        (raw(entry(shape=[1] * 17), 4), "more dimensions"),
        (raw(entry(shape="4"), 4), "is not one"),
        (raw(entry(data_offsets=[4, 0]), 4), "does not fill"),
        (raw(entry(data_offsets=[-4, 0]), 4), "does not fill"),
        (raw(entry(data_offsets=[1, 5]), 5), "starts at 1 instead of 0"),
        (raw(entry(data_offsets=[0, 10**4000]), 4), "no file can hold"),
        (raw(entry(), 8), "4 bytes follow its last tensor"),
    ],
)
def test_a_header_that_cannot_be_is_refused(data: bytes, says: str) -> None:
    assert says in refusal(data)


def test_tensors_that_overlap_are_refused() -> None:
    one = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    assert "instead of 4" in refusal(raw(json.dumps({"a": one, "b": one}).encode(), 8))


def test_a_header_beyond_the_cap_is_refused_before_it_is_read() -> None:
    def read_at(at: int, count: int) -> bytes:
        assert count == 8
        return struct.pack("<Q", MAX_HEADER_BYTES + 1)

    with pytest.raises(ModelportError, match="more than 32.0 MiB"):
        read_safetensors_header(read_at, 1 << 40)


def test_the_header_of_a_great_model_takes_little_memory() -> None:
    tensors = {f"model.layers.{n // 500}.mlp.experts.{n % 500}.w": ("U8", (1,)) for n in range(20_000)}
    data = safetensors(tensors)
    tracemalloc.start()
    assert len(read_safetensors_header(lambda at, count: data[at : at + count], len(data)).tensors) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


@pytest.mark.parametrize(
    "word", ["nested_" * 140, "weight_scale" * 80, "attna." * 150, "layers." * 140, "quant_state" * 90]
)
def test_a_name_made_to_be_slow_to_look_at_is_not(word: str) -> None:
    started = time.perf_counter()
    weights_of_tensors([Tensor(f"{word} {a}{b}{c}x", "BF16", (1,), 2) for a in LETTERS for b in LETTERS for c in "ab"],
                       Storage(2))  # fmt: skip
    assert time.perf_counter() - started < 20  # a hang, not a slow machine


def test_more_kinds_of_names_than_any_model_has_are_refused() -> None:
    tensors = [Tensor(f"{a}{b}{c}.x", "BF16", (1,), 2) for a in LETTERS for b in LETTERS for c in LETTERS]
    with pytest.raises(ModelportError, match="more than 10,000 kinds of tensors"):
        weights_of_tensors(tensors, Storage(2))


def test_a_hundred_thousand_tensors_of_experts_are_few_kinds() -> None:
    tensors = [
        Tensor(f"model.layers.{layer}.mlp.experts.{expert}.{kind}_proj.weight", "BF16", (2, 2), 8)
        for layer in range(66) for expert in range(512) for kind in ("gate", "up", "down")
    ]  # fmt: skip
    (experts,) = weights_of_tensors(tensors, Storage(2), 66)
    assert (experts.name, experts.parameters, experts.layers) == ("experts", 4 * len(tensors), 66)
    assert len(tensors) > 100_000


@pytest.mark.parametrize(
    ("ending", "elements"),
    [("qweight", 80), ("weight_packed", 80), ("scales", 0), ("qzeros", 0), ("weight_scale_inv", 0), ("g_idx", 0),
     ("weight.absmax", 0), ("weight.quant_state.bitsandbytes__nf4", 0), ("weight.nested_absmax", 0), ("weight", 10)],
)  # fmt: skip
def test_the_end_of_a_name_says_what_is_packed_and_what_are_scales(ending: str, elements: int) -> None:
    storage = Storage(2, Quantization("gptq", 4))
    (group,) = weights_of_tensors([Tensor(f"model.layers.0.mlp.up_proj.{ending}", "I32", (10,), 40)], storage)
    assert group.parameters == elements
