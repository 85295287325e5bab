"""10,000 damaged headers of each kind and 1,500 damaged configs: a sentence or an answer, nothing else, in little memory."""

import json
import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.truth import config_of_row, rows
from modelport.catalog.config import facts_of_config
from modelport.catalog.gguf import read_header
from modelport.catalog.safetensors import read_safetensors_header
from modelport.errors import ModelportError
from tests.catalog.write_gguf import LLAMA, LLAMA_TENSORS, gguf
from tests.catalog.write_safetensors import LLAMA_TENSORS as SAFE_TENSORS
from tests.catalog.write_safetensors import safetensors

ROUNDS = 10_000
HANG_S = 120.0  # a hang, not a slow machine
EXTREMES = [b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 1 << 62), struct.pack("<Q", 1 << 31), struct.pack("<I", 9)]
WORDS = [b"-1", b"1e999", b'"', b"{", b"[[[[", b"null", b"9" * 40, b"true", b"\\u0000", b"\xed\xa0\x80"]


class Bytes:
    name = "m"

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def read_at(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]


@contextmanager
def bounded(peak_bytes: int) -> Iterator[None]:
    started = time.perf_counter()
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < peak_bytes
    assert time.perf_counter() - started < HANG_S


def refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except ModelportError as error:
        assert error.message.endswith(".") and len(error.message) < 1000
        return True
    return False


def damaged(whole: bytes, until: int, first: int, changes: list[bytes], dice: random.Random) -> bytes:
    """Some places before `until` overwritten, and now and then the end cut off."""
    data = bytearray(whole)
    for _ in range(dice.choice([1, 1, 2, 8])):
        at = dice.randrange(first, until)
        change = dice.choice(changes) if dice.random() < 0.4 else bytes([dice.randrange(256)])
        data[at : at + len(change)] = change
    return bytes(data[: dice.randrange(len(data))] if dice.random() < 0.1 else data)


def test_no_damaged_gguf_header_is_more_than_a_sentence() -> None:
    whole, dice = gguf(LLAMA, LLAMA_TENSORS), random.Random(20)
    data_bytes = sum(tensor.size_bytes for tensor in read_header(Bytes(whole)).tensors)
    with bounded(16 << 20):
        count = sum(
            refused(lambda: read_header(Bytes(damaged(whole, len(whole) - data_bytes, 4, EXTREMES, dice))))
            for _ in range(ROUNDS)
        )
    assert ROUNDS // 4 < count < ROUNDS


def test_no_damaged_safetensors_header_is_more_than_a_sentence() -> None:
    some = dict(list(SAFE_TENSORS.items())[:6])
    whole, dice = safetensors(some, {"format": "pt"}), random.Random(21)
    header_bytes = 8 + int.from_bytes(whole[:8], "little")

    def once() -> object:
        # The length is left whole in most rounds, or nothing behind it would be reached.
        first = 0 if dice.random() < 0.05 else 8
        data = Bytes(damaged(whole, header_bytes, first, EXTREMES + WORDS, dice))
        return read_safetensors_header(data.read_at, data.size)

    with bounded(16 << 20):
        count = sum(refused(once) for _ in range(ROUNDS))
    assert ROUNDS // 4 < count < ROUNDS


def test_no_damaged_config_is_more_than_a_sentence() -> None:
    dice, configs = random.Random(22), []
    for row in rows("models"):
        if not refused(lambda row=row: facts_of_config("m", config_of_row(row))):
            configs.append(config_of_row(row))
    values = [None, -1, 0, 1, 2**70, 1e308, float("nan"), "x", "", [], {}, [None], ["x"] * 200, True, {"a": {}},
              [2**70], "re:(((", 4096, 1 << 40, {"num_bits": "x"}, [[1]], {"rope_type": 7, "factor": "x"}]  # fmt: skip
    with bounded(64 << 20):
        for _ in range(1500):
            config = json.loads(json.dumps(dice.choice(configs)))
            for _ in range(dice.choice([1, 2, 4])):
                inner = dice.choice([config, *(v for v in config.values() if isinstance(v, dict) and v)])
                inner[dice.choice(list(inner))] = dice.choice(values)
            refused(lambda config=config: facts_of_config("m", config))
