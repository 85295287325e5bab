"""The GGUF reader believes nothing a file says until the bytes are there."""

import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from modelport.catalog.aliases import alias_directory
from modelport.catalog.ggml_types import GGML_TYPES
from modelport.catalog.gguf import Skipped, read_header
from modelport.errors import ModelportError
from tests.catalog.write_gguf import LLAMA, LLAMA_TENSORS, gguf, llama, string, value


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ModelportError) as caught:
        read_header(path)
    assert caught.value.message.endswith(".")
    return caught.value.message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def header(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def test_the_real_model_is_read_as_llama_cpp_prints_it() -> None:
    (path,) = alias_directory("smollm2").glob("*.gguf")
    read = read_header(path)
    assert len(read.tensors) == 272
    assert sum(t.size_bytes for t in read.tensors) == 96_576_768  # "file size = 92.10 MiB"
    assert read.metadata["llama.block_count"] == 30
    assert read.metadata["tokenizer.ggml.tokens"] == Skipped(49152)


@pytest.mark.parametrize("version", [2, 3])
def test_both_living_versions_are_read(file: Path, version: int) -> None:
    read = read_header(llama(file, version=version))
    assert read.metadata["general.architecture"] == "llama"
    assert [t.name for t in read.tensors] == list(LLAMA_TENSORS)
    assert read.tensors[1].shape == (64, 64) and read.tensors[1].size_bytes == 64 * 64 // 32 * 18


def test_another_alignment_is_followed(file: Path) -> None:
    assert len(read_header(llama(file, {"general.alignment": 64}, alignment=64)).tensors) == 4


def test_every_kind_of_value_is_read(file: Path) -> None:
    kinds = {
        "i8": (1, "b", -3),
        "u16": (2, "H", 7),
        "i64": (11, "q", -9),
        "u64": (10, "Q", 1 << 60),
        "f64": (12, "d", 0.5),
    }
    keys: dict[str, object] = {name: struct.pack("<I" + form, n, v) for name, (n, form, v) in kinds.items()}
    file.write_bytes(gguf({**keys, "b": True, "f": 1.5, "a": [1, 2], "long": [0] * 1000, "text": "x" * 5000}, {}))
    read = read_header(file).metadata
    assert {name: read[name] for name in kinds} == {name: v for name, (_, _, v) in kinds.items()}
    assert (read["b"], read["f"], read["a"]) == (True, 1.5, (1, 2))
    assert (read["long"], read["text"]) == (Skipped(1000), Skipped(5000))


def test_a_file_cut_anywhere_is_refused(file: Path) -> None:
    whole = gguf(LLAMA, LLAMA_TENSORS)
    for length in range(len(whole)):
        refusal(file, whole[:length])
    file.write_bytes(whole)
    assert read_header(file)


def test_missing_tensor_data_is_told_in_numbers(file: Path) -> None:
    said = refusal(file, gguf(LLAMA, LLAMA_TENSORS)[:-1000])
    assert "is truncated: its header promises" in said and "of tensor data" in said and "the file has" in said


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"GG", "is truncated"),
        (b"PK\x03\x04" + b"\0" * 60, "is not a GGUF file"),
        (header(version=1), "version 1"),
        (header(version=99), "version 99"),
        (header(version=0), "version 0"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(tensors=10**18), "1,000,000,000,000,000,000 tensors"),
        (header(keys=10**18), "1,000,000,000,000,000,000 keys"),
        (header(tensors=2**64 - 1), "tensors"),
        (header(keys=1) + struct.pack("<Q", 10**18) + b"k" * 40, "a key is said to be"),
        (header(keys=1) + string("k") + struct.pack("<IQ", 8, 2**63), "truncated or damaged"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 8, 10**18), "elements"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 4, 2**22), "truncated or damaged"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 8, 1) + struct.pack("<Q", 2**64 - 1), "truncated"),
        (header(keys=1) + string("k") + struct.pack("<IIQIQ", 9, 9, 1, 9, 1), "array of arrays"),
        (header(keys=1) + string("k") + struct.pack("<II", 77, 0), "unknown kind 77"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 77, 1), "array of the unknown kind 77"),
        (header(keys=2) + (string("k") + value(1)) * 2, "twice"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_refused_at_once(file: Path, data: bytes, says: str) -> None:
    started = time.perf_counter()
    assert says in refusal(file, data)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("alignment", [0, 3, 2**31, "32", True, 1.0])
def test_an_alignment_that_is_no_power_of_two_is_refused(file: Path, alignment: object) -> None:
    assert "general.alignment" in refusal(file, gguf({**LLAMA, "general.alignment": alignment}, {}))


def entry(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0, dimensions: int | None = None) -> bytes:
    count = len(shape) if dimensions is None else dimensions
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", count, *shape, kind, offset)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([entry("t", (1,), dimensions=5)], "5 dimensions"),
        ([entry("t", (2**40, 2**40))], "no machine can hold"),
        ([entry("t", (2**40,))], "is truncated: its header promises 4096.0 GiB"),
        ([entry("t", (1,), kind=31)], "unknown type 31"),
        ([entry("t", (33,), kind=2)], "Q4_0 cannot divide"),
        ([entry("t", (1,), offset=32)], "starts at 32 instead of 0"),
        ([entry("t", (1,)), entry("t", (1,), offset=32)], "twice"),
        ([entry("t" * 65, (1,))], "a tensor's name is said to be 65"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(file: Path, entries: list[bytes], says: str) -> None:
    assert says in refusal(file, header(tensors=len(entries)) + b"".join(entries) + b"\0" * 256)


def test_long_tokenizers_are_passed_over_without_being_kept(file: Path) -> None:
    file.write_bytes(gguf({"tokens": [f"word {n}" for n in range(200_000)], "scores": [0.5] * 200_000}, {}))
    tracemalloc.start()
    read = read_header(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read.metadata == {"tokens": Skipped(200_000), "scores": Skipped(200_000)}
    assert peak < 8 << 20


def test_a_header_is_read_from_bytes_anywhere_by_offset() -> None:
    class Bytes:
        name, asked = "org/name/m.gguf", 0

        def __init__(self, data: bytes) -> None:
            self.data, self.size = data, len(data)

        def read_at(self, offset: int, count: int) -> bytes:
            self.asked += 1
            return self.data[offset : offset + count]

    whole = Bytes(gguf(LLAMA, LLAMA_TENSORS))
    assert [t.name for t in read_header(whole).tensors] == list(LLAMA_TENSORS)
    assert whole.asked == 1
    with pytest.raises(ModelportError, match="^'org/name/m.gguf' is damaged"):
        read_header(Bytes(whole.data[:100]))


def test_the_type_table_agrees_with_the_llama_cpp_that_is_installed() -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    theirs = {
        int(getattr(xllamacpp.ggml_type, name)): name.removeprefix("GGML_TYPE_")
        for name in dir(xllamacpp.ggml_type)
        if name.startswith("GGML_TYPE_") and name != "GGML_TYPE_COUNT"
    }
    assert {number: kind.name for number, kind in GGML_TYPES.items()} == theirs
