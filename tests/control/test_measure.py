"""What a start took beside what was planned: from the process where it runs on the CPU, from the engine's words on GPUs."""

import pytest

from modelport.control.measure import Taken, expected, taken
from modelport.domain.plan import Device, Part, Plan, Span

GIB = 1 << 30


def plan(kind: str, **fields: object) -> Plan:
    parts = tuple(Part(name, size, size, size) for name, size in fields.pop("parts").items())  # type: ignore[attr-defined]
    device = Device(kind, kind, 80 * GIB, 80 * GIB)  # type: ignore[arg-type]
    return Plan(device, "generate", parts, 4096, 1, "fits", (), **fields)  # type: ignore[arg-type]


ON_CPU = expected(plan("cpu", parts={"weights": 4 * GIB, "kv cache": 1 * GIB, "program": 1 * GIB}), None)
ON_GPU = expected(
    plan(
        "gpu",
        parts={"weights": 20 * GIB, "kv cache": 5 * GIB, "activations": 3 * GIB, "non-torch": 1 * GIB},
        budget_bytes=72 * GIB,
        kv_tokens=Span(90_000, 96_000, 100_000),
    ),
    "H100:1",
)
VLLM = "INFO 11-20 10:00:00 [kv_cache_utils.py:1229] GPU KV cache size: {:,} tokens"


def test_a_process_that_took_more_shows_that_overhead_was_planned_too_small() -> None:
    assert taken("llamacpp", ON_CPU, [], 7 * GIB) == Taken(7 * GIB, None, 2.0)


def test_a_process_that_took_less_shows_nothing_because_its_buffers_are_not_used_yet() -> None:
    assert taken("llamacpp", ON_CPU, [], 5 * GIB) == Taken(5 * GIB, None, 1.0)


def test_what_was_not_measured_corrects_nothing() -> None:
    assert taken("llamacpp", ON_CPU, [], None) == Taken()
    assert taken("llamacpp", {}, [], 5 * GIB) == Taken(5 * GIB)


@pytest.mark.parametrize(("tokens", "ratio"), [(96_000, 1.0), (88_000, 2.0), (100_000, 0.5)])
def test_on_gpus_what_the_cache_is_short_of_the_plan_is_overhead(tokens: int, ratio: float) -> None:
    """48 GiB of cache for 96,000 tokens were planned, beside 4 GiB of overhead: 2,000 tokens are 1 GiB."""
    found = taken("vllm", ON_GPU, ["something", VLLM.format(tokens)], 3 * GIB)
    assert found.kv_tokens == tokens
    assert found.overhead_ratio == pytest.approx(ratio)
    assert found.bytes == pytest.approx((29 + 4 * (ratio - 1)) * GIB)


def test_an_engine_on_gpus_that_says_nothing_teaches_nothing() -> None:
    assert taken("vllm", ON_GPU, ["no word of it"], 3 * GIB) == Taken()


def test_what_is_kept_of_a_plan_is_plain_data() -> None:
    import json

    assert json.loads(json.dumps(ON_GPU)) == ON_GPU
    assert ON_GPU["gpu"] is True and ON_GPU["accelerators"] == "H100:1" and ON_GPU["kv_tokens"] == 96_000
