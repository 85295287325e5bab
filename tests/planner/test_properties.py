"""What must hold whatever the model and the numbers: by hypothesis, with the real memory model."""

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelport.domain.facts import Cache, ModelFacts
from modelport.domain.gpu import Accelerators, Gpu
from modelport.domain.plan import Plan
from modelport.domain.spec import Spec
from modelport.planner import plan
from modelport.planner.gpus import GPUS, devices_of
from modelport.planner.room import room_of
from modelport.planner.served import Question
from modelport.planner.split import splits
from tests.planner.models import LLAMA_8B, LLAMA_70B, MIXTRAL, QWEN_7B

KINDS = sorted((gpu for gpu in GPUS.values() if gpu.vendor == "nvidia"), key=lambda gpu: gpu.memory_bytes)
SLIDING = replace(
    QWEN_7B.facts(), caches=(Cache("sliding", 21, 4, 128, 128, window_tokens=1024), Cache("full", 7, 4, 128, 128))
)
LATENT = replace(QWEN_7B.facts(), kv_heads=1, caches=(Cache("mla", 28, 1, 576),))
LATENT_EXPERTS = replace(MIXTRAL.facts(), kv_heads=1, caches=(Cache("mla", 32, 1, 576),))
MANY_EXPERTS = replace(MIXTRAL.facts(), experts=128, experts_per_token=8)

models = st.sampled_from(
    [
        LLAMA_8B.facts(),
        LLAMA_70B.facts(),
        MIXTRAL.facts(),
        QWEN_7B.facts(),
        SLIDING,
        LATENT,
        LATENT_EXPERTS,
        MANY_EXPERTS,
    ]
)
engines = st.sampled_from(["vllm", "sglang", "tgi"])
kinds = st.sampled_from(KINDS)
counts = st.sampled_from([1, 2, 3, 4, 6, 8, 16])
contexts = st.integers(64, 32_768)
requests = st.integers(1, 256)


def planned(facts: ModelFacts, engine: str, gpu: Gpu, count: int, **wanted: object) -> Plan:
    spec = Spec.model_validate({"model": "x", **wanted})
    return plan(facts, spec, devices_of(Accelerators(gpu, count)), engine, prices=())


@settings(deadline=None)
@given(models, engines, kinds, counts, contexts, contexts, requests, requests, st.data())
def test_more_context_or_more_at_once_never_lowers_the_need(
    facts: ModelFacts,
    engine: str,
    gpu: Gpu,
    count: int,
    context: int,
    other: int,
    parallel: int,
    more: int,
    data: st.DataObject,
) -> None:
    spec = Spec(model="x")
    question = Question(facts, spec, engine, room_of(devices_of(Accelerators(gpu, count)), engine, spec))
    split = data.draw(st.sampled_from(splits(facts, engine, count, spec)))
    small = question.judge(split, min(context, other), min(parallel, more))
    large = question.judge(split, max(context, other), max(parallel, more))
    assert small.need_bytes <= large.need_bytes
    fixed = [sum(part.bytes for part in choice.estimate.parts) for choice in (small, large)]
    assert fixed[0] + small.need_bytes <= fixed[1] + large.need_bytes
    assert ORDER.index(small.verdict) <= ORDER.index(large.verdict)


@settings(deadline=None)
@given(models, engines, st.lists(kinds, min_size=2, max_size=2), counts, contexts, requests)
def test_more_memory_never_turns_fits_into_unfit(
    facts: ModelFacts, engine: str, pair: list[Gpu], count: int, context: int, parallel: int
) -> None:
    """The same GPU with more memory; a quarter more at least, as engines' own defaults grow with it in steps."""
    small, large = sorted(pair, key=lambda gpu: gpu.memory_bytes)
    large = replace(small, memory_bytes=max(large.memory_bytes, small.memory_bytes * 5 // 4))
    before, after = (
        planned(facts, engine, gpu, count, context=context, parallel=parallel).verdict for gpu in (small, large)
    )
    assert before != "fits" or after == "fits"


ORDER = ("fits", "too_close", "does_not_fit")


@settings(deadline=None)
@given(
    models,
    engines,
    kinds,
    st.integers(1, 17),
    st.integers(1, 17),
    st.none() | contexts,
    st.none() | requests,
    st.none() | st.floats(0.5, 0.95),
    st.sets(st.sampled_from(["tensor_parallel", "pipeline_parallel"])),
)
@example(MIXTRAL.facts(), "vllm", GPUS["L40S"], 4, 5, None, None, None, {"tensor_parallel", "pipeline_parallel"})
@example(MIXTRAL.facts(), "sglang", GPUS["A100-80GB"], 2, 3, 8192, 64, None, {"pipeline_parallel"})
def test_more_gpus_of_a_kind_never_make_a_verdict_worse(
    facts: ModelFacts,
    engine: str,
    gpu: Gpu,
    count: int,
    more: int,
    context: int | None,
    parallel: int | None,
    fraction: float | None,
    alone: set[str],
) -> None:
    """Also where only copies can use them: `alone` are degrees fixed to 1."""
    wanted = {"context": context, "parallel": parallel, "memory_fraction": fraction, **dict.fromkeys(alone, 1)}
    few, many = (planned(facts, engine, gpu, number, **wanted) for number in sorted((count, more)))
    assert ORDER.index(many.verdict) <= ORDER.index(few.verdict), (few.split, many.split)


@settings(deadline=None)
@given(models, engines, kinds, counts, st.none() | contexts, st.none() | requests)
def test_every_plan_keeps_its_promises(
    facts: ModelFacts, engine: str, gpu: Gpu, count: int, context: int | None, parallel: int | None
) -> None:
    made = planned(facts, engine, gpu, count, context=context, parallel=parallel)
    assert made.split.gpus <= count == made.devices
    assert made.split.tensor * made.split.pipeline * made.split.data == made.split.gpus
    assert made.context_tokens == context or (context is None and made.context_tokens <= facts.context_tokens)
    assert made.parallel == parallel or parallel is None
    assert made.kv_tokens is not None
    assert 0 <= made.kv_tokens.low <= made.kv_tokens.guess <= made.kv_tokens.high
    if made.verdict == "fits":
        assert made.need_bytes <= made.budget_bytes and made.kv_tokens.low > 0
        assert made.max_context >= made.context_tokens and made.max_parallel >= made.parallel
    if made.verdict == "does_not_fit":
        assert made.reasons
    assert made.fits == (made.verdict != "does_not_fit")
