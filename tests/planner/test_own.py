"""Whether a model fits in Modelport's own runtime."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport import planner
from modelport.catalog.size_only import size_only
from modelport.domain.plan import Device
from modelport.domain.spec import Spec
from modelport.errors import ModelportError

MIB, GIB = 1 << 20, 1 << 30
SPEC = Spec(model="m")
PICTURES = replace(size_only("m", "/m", "onnx", 200 << 20), task="detect", inputs=("image",))
LANGUAGE = replace(
    size_only("m", "/m", "safetensors", 500 << 20), kv_bytes_per_token=22_500, context_tokens=2048, layers=30
)


def cpu(free: int) -> Device:
    return Device("cpu", "CPU", 64 * GIB, free)


def gpu(free: int) -> Device:
    return Device("gpu", "GPU", 24 * GIB, free)


def test_pictures_take_no_context_and_many_requests_at_once() -> None:
    plan = planner.plan(PICTURES, SPEC, [cpu(8 * GIB)], "modelport")
    assert (plan.task, plan.context_tokens, plan.parallel, plan.verdict) == ("detect", 0, 64, "fits")
    assert {part.name for part in plan.parts} == {"weights", "work", "program"}


def test_language_has_a_cache_and_its_context() -> None:
    plan = planner.plan(LANGUAGE, SPEC, [cpu(16 * GIB)], "modelport")
    assert (plan.task, plan.context_tokens) == ("generate", 2048)
    assert "kv cache" in {part.name for part in plan.parts}


def test_the_gpu_is_taken_where_it_holds_the_model_else_the_cpu() -> None:
    assert planner.plan(LANGUAGE, SPEC, [cpu(32 * GIB), gpu(20 * GIB)], "modelport").device.kind == "gpu"
    assert planner.plan(LANGUAGE, SPEC, [cpu(32 * GIB), gpu(100 * MIB)], "modelport").device.kind == "cpu"


def test_what_does_not_fit_is_said() -> None:
    plan = planner.plan(LANGUAGE, SPEC, [cpu(300 * MIB)], "modelport")
    assert not plan.fits and plan.reasons and "does not fit" in plan.sentence()


def test_a_language_model_classifies_nothing() -> None:
    with pytest.raises(ModelportError, match="an ONNX model is needed"):
        planner.plan(LANGUAGE, SPEC.model_copy(update={"task": "classify"}), [cpu(8 * GIB)], "modelport")


@given(st.integers(1 << 16, 1 << 36), st.integers(0, 1 << 38), st.booleans())
def test_more_room_never_makes_a_verdict_worse(weights: int, free: int, pictures: bool) -> None:
    order = ("does_not_fit", "too_close", "fits")
    facts = replace(PICTURES if pictures else LANGUAGE, weight_bytes=weights)
    less, more = (planner.plan(facts, SPEC, [cpu(room)], "modelport") for room in (free, free + GIB))
    assert order.index(less.verdict) <= order.index(more.verdict)
    for plan in (less, more):
        assert all(part.low_bytes <= part.bytes <= part.high_bytes for part in plan.parts)
        assert (plan.verdict == "fits") == (plan.high_bytes <= plan.device.free_bytes)
