"""A plan says what a model takes, and whether and how it fits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Device, Plan, Split
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.planner import accelerators, devices_of, plan

MIB, GIB = 1 << 20, 1 << 30

SMOLLM2 = ModelFacts(
    source="smollm2",
    path="/models/smollm2.gguf",
    format="gguf",
    architecture="llama",
    task="generate",
    parameters=134_515_008,
    weight_bytes=96_576_768,
    largest_layer_bytes=2_216_448,
    layers=30,
    embedding_size=576,
    vocabulary=49_152,
    context_tokens=8192,
    kv_bytes_per_token=23_040,
    quantization="Q4_1",
    pooling=False,
    chat_template=True,
)
LLAMA_70B = replace(
    SMOLLM2,
    source="llama-70b",
    parameters=70_553_706_496,
    weight_bytes=42_520_395_776,
    layers=80,
    embedding_size=8192,
    vocabulary=128_256,
    context_tokens=131_072,
    kv_bytes_per_token=327_680,
    quantization="Q4_K",
)
BERT = replace(SMOLLM2, source="bert", architecture="bert", task="embed", context_tokens=512, kv_bytes_per_token=0)
UNTOLD = replace(SMOLLM2, context_tokens=0)


def cpu(free_bytes: int) -> Device:
    return Device("cpu", "CPU", 64 * GIB, free_bytes)


def gpu(free_bytes: int, name: str = "GPU 0") -> Device:
    return Device("gpu", name, 80 * GIB, free_bytes)


def planned(facts: ModelFacts, *devices: Device, **wanted: object) -> Plan:
    return plan(facts, Spec.model_validate({"model": facts.source, **wanted}), devices)


@pytest.mark.parametrize(
    ("context", "parallel", "measured_mib"),
    [(512, 1, 159), (2048, 1, 193), (2048, 4, 331), (8192, 1, 328), (8192, 4, 896), (1024, 16, 537)],
)
def test_the_plan_is_within_an_eighth_of_what_smollm2_really_took(
    context: int, parallel: int, measured_mib: int
) -> None:
    made = planned(SMOLLM2, cpu(8 * GIB), context=context, parallel=parallel)
    assert made.need_bytes == pytest.approx(measured_mib * MIB, rel=1 / 8)
    assert sum(part.low_bytes for part in made.parts) <= measured_mib * MIB <= made.high_bytes


def test_with_room_four_requests_get_the_trained_context() -> None:
    made = planned(SMOLLM2, cpu(8 * GIB))
    assert made.fits and (made.parallel, made.context_tokens, made.reasons) == (4, 8192, ())


def test_a_long_context_is_offered_but_not_set_aside_unasked() -> None:
    made = planned(LLAMA_70B, cpu(200 * GIB))
    assert made.context_tokens == 8192 and "131,072" in made.reasons[0]
    assert planned(LLAMA_70B, cpu(200 * GIB), context=131_072).context_tokens == 131_072


def test_short_memory_lowers_requests_at_once_then_the_context_and_says_so() -> None:
    made = planned(SMOLLM2, cpu(900 * MIB))
    assert made.fits and (made.parallel, made.context_tokens) == (2, 8192) and "2 instead of 4" in made.reasons[0]
    made = planned(SMOLLM2, cpu(420 * MIB))
    assert made.fits and (made.parallel, made.context_tokens) == (1, 2048)
    assert "2,048 instead of 8,192" in made.reasons[1]


def test_what_the_user_named_is_never_changed() -> None:
    made = planned(SMOLLM2, cpu(420 * MIB), context=8192, parallel=4)
    assert not made.fits and (made.parallel, made.context_tokens) == (4, 8192)
    assert planned(SMOLLM2, cpu(420 * MIB), parallel=3).parallel == 3
    assert planned(SMOLLM2, cpu(420 * MIB), context=5000).context_tokens == 5000


def test_what_does_not_fit_is_told_with_numbers_and_what_would() -> None:
    made = planned(SMOLLM2, cpu(700 * MIB), context=8192, parallel=4)
    assert "too much, for 4 requests at once of up to 8,192 tokens" in made.reasons[0]
    context = int(made.reasons[1].split()[3].replace(",", ""))
    assert planned(SMOLLM2, cpu(700 * MIB), context=context, parallel=4).fits
    assert not planned(SMOLLM2, cpu(700 * MIB), context=context + 256, parallel=4).fits
    parallel = int(made.reasons[2].split()[0])
    assert planned(SMOLLM2, cpu(700 * MIB), context=8192, parallel=parallel).fits
    assert not planned(SMOLLM2, cpu(700 * MIB), context=8192, parallel=parallel + 1).fits


def test_a_model_too_large_is_told_which_quantization_would_fit() -> None:
    made = planned(LLAMA_70B, cpu(40 * GIB))
    assert not made.fits and "even for 1 request of up to 2,048 tokens" in made.reasons[0]
    assert any("Q3_K_M or below; this one is Q4_K" in reason for reason in made.reasons)
    assert "choose a smaller model" in planned(LLAMA_70B, cpu(4 * GIB)).reasons[-1]


def test_a_context_beyond_the_trained_one_is_refused() -> None:
    with pytest.raises(ModelportError, match="trained for 8,192 tokens; ask for at most 8,192") as caught:
        planned(SMOLLM2, cpu(8 * GIB), context=8193)
    assert caught.value.param == "context"
    assert planned(UNTOLD, cpu(8 * GIB), context=10_000).context_tokens == 10_000
    assert planned(UNTOLD, cpu(8 * GIB)).context_tokens == 4096


def test_an_embedding_model_embeds_and_does_not_generate() -> None:
    made = planned(BERT, cpu(8 * GIB))
    assert made.fits and (made.task, made.context_tokens) == ("embed", 512)
    assert planned(SMOLLM2, cpu(32 * GIB), task="embed").task == "embed"
    with pytest.raises(ModelportError, match="cannot generate"):
        planned(BERT, cpu(8 * GIB), task="generate")


def test_the_emptiest_gpu_is_taken_when_the_whole_fits_there() -> None:
    assert planned(SMOLLM2, cpu(8 * GIB), gpu(9 * GIB), gpu(20 * GIB, "GPU 1")).device.name == "GPU 1"
    made = planned(LLAMA_70B, cpu(200 * GIB), gpu(24 * GIB))
    assert made.fits and made.device.kind == "cpu"
    assert made.reasons[0] == "It does not fit on GPU 0, so it runs on CPU."


def test_layers_are_spread_over_as_few_gpus_as_hold_them() -> None:
    """39.6 GiB of weights, 2.5 GiB of cache: more than one GPU of 30 GiB has, and less than two."""
    three = [gpu(30 * GIB, f"GPU {n}") for n in range(3)]
    made = planned(LLAMA_70B, cpu(200 * GIB), *three, context=8192, parallel=1)
    assert made.fits and (made.split, made.devices) == (Split(pipeline=2), 3)
    assert made.reasons[0] == "It does not fit on GPU 0, so it runs on 2 GPUs."
    alone = planned(LLAMA_70B, gpu(80 * GIB), context=8192, parallel=1)
    assert alone.split == Split() and 0.5 < made.parts[0].bytes / alone.parts[0].bytes < 0.53
    assert made.parts[2] == alone.parts[2], "each has compute buffers of its own"


def test_gpus_that_are_not_here_are_planned_as_well() -> None:
    made = plan(LLAMA_70B, Spec(model="x"), devices_of(accelerators("RTX3090:4")))
    assert made.fits and made.split.pipeline == 3 and made.device.name == "RTX3090"
    made = plan(LLAMA_70B, Spec(model="x"), devices_of(accelerators("RTX3090:1")))
    assert not made.fits and "too much" in made.reasons[0]


def test_degrees_that_llama_cpp_does_not_have_are_refused() -> None:
    with pytest.raises(ModelportError, match="by layers; leave tensor_parallel out"):
        planned(SMOLLM2, cpu(8 * GIB), tensor_parallel=2)


def test_the_longest_context_and_the_most_at_once_are_told() -> None:
    made = planned(SMOLLM2, cpu(900 * MIB))
    assert made.max_context == 8192 and planned(SMOLLM2, cpu(900 * MIB), parallel=made.max_parallel).fits
    assert not planned(SMOLLM2, cpu(900 * MIB), context=8192, parallel=made.max_parallel + 1).fits
    assert planned(LLAMA_70B, cpu(4 * GIB)).max_parallel == 0


def test_what_this_host_measured_scales_all_but_weights_and_cache() -> None:
    spec = Spec(model="x", context=2048, parallel=1)
    once, twice = (plan(SMOLLM2, spec, [cpu(8 * GIB)], correction=factor) for factor in (1.0, 2.0))
    assert once.parts[:2] == twice.parts[:2]
    assert [part.bytes for part in twice.parts[2:]] == [2 * part.bytes for part in once.parts[2:]]


sizes = st.integers(min_value=64, max_value=200_000)
counts = st.integers(min_value=1, max_value=256)
frees = st.integers(min_value=0, max_value=300 * GIB)
models = st.builds(
    lambda model, weights, width, words, kv, context: replace(
        model, weight_bytes=weights, parameters=weights, embedding_size=width, vocabulary=words,
        kv_bytes_per_token=kv, context_tokens=context,
    ),
    st.sampled_from([SMOLLM2, BERT]),
    st.integers(1, 200 * GIB),
    st.integers(1, 20_000),
    st.integers(0, 300_000),
    st.integers(0, 1 << 20),
    st.sampled_from([0, 512, 4096, 131_072]),
)  # fmt: skip
devices = st.lists(st.builds(gpu, frees), max_size=2).flatmap(lambda gpus: frees.map(lambda free: [*gpus, cpu(free)]))


@given(models, sizes, sizes, counts, counts)
def test_more_context_or_more_at_once_never_needs_less(
    facts: ModelFacts, context: int, other: int, parallel: int, more: int
) -> None:
    facts = replace(facts, context_tokens=0)
    small = planned(facts, cpu(0), context=min(context, other), parallel=min(parallel, more))
    large = planned(facts, cpu(0), context=max(context, other), parallel=max(parallel, more))
    for less, greater in zip(small.parts, large.parts, strict=True):
        assert less.low_bytes <= greater.low_bytes
        assert less.bytes <= greater.bytes
        assert less.high_bytes <= greater.high_bytes


@given(models, devices, st.none() | st.integers(64, 512), st.none() | counts)
def test_every_plan_keeps_its_promises(
    facts: ModelFacts, on: list[Device], context: int | None, parallel: int | None
) -> None:
    made = planned(facts, *on, context=context, parallel=parallel)
    assert all(0 <= part.low_bytes <= part.bytes <= part.high_bytes for part in made.parts)
    assert made.fits == (made.high_bytes <= made.device.free_bytes)
    assert made.context_tokens == context or context is None
    assert made.parallel == parallel or parallel is None
    assert made.context_tokens <= (facts.context_tokens or 8192)
    assert made.fits or made.reasons


@given(models, devices, st.integers(0, 2), st.integers(0, 300 * GIB))
def test_more_free_memory_never_turns_fits_into_unfit(
    facts: ModelFacts, on: list[Device], which: int, more_bytes: int
) -> None:
    which %= len(on)
    richer = [replace(d, free_bytes=d.free_bytes + more_bytes * (n == which)) for n, d in enumerate(on)]
    assert planned(facts, *richer).fits or not planned(facts, *on).fits
