"""A plan for vLLM, SGLang and TGI: the smallest split that holds what is asked, a sure verdict, and changes that help.

Memory is tests/planner/models.py's here, so that each number can be checked by hand.
"""

from dataclasses import replace
from typing import Any

import pytest

from modelport.domain.facts import ModelFacts, Quantization
from modelport.domain.plan import Device, Plan, Span, Split
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.planner import offers, plan
from modelport.planner.advice import changes
from modelport.planner.gpus import accelerators, devices_of, find
from modelport.planner.offers import Price
from modelport.planner.room import room_of
from modelport.planner.served import Choice, Question, plan_of
from tests.planner.models import GIB, LLAMA_8B, LLAMA_70B, MIXTRAL, QWEN_7B, Shape, simple_estimate, simple_need

TABLE = (
    Price("x", "H100", 2, 6.0, "2026-01-01"),
    Price("x", "H100", 4, 12.0, "2026-01-01"),
    Price("y", "H200", 1, 5.0, "2026-01-01"),
    Price("y", "H200", 2, 10.0, "2026-01-01"),
    Price("z", "L4", 1, 0.5, "2026-01-01"),
)


def asked(
    model: Shape | ModelFacts, gpus: str, engine: str = "vllm", correction: float = 1.0, **wanted: Any
) -> Question:
    spec = Spec.model_validate({"model": "x", **wanted})
    facts = model.facts() if isinstance(model, Shape) else model
    room = room_of(devices_of(accelerators(gpus)), engine, spec)
    return Question(facts, spec, engine, room, "", correction, None, simple_estimate, simple_need)


def planned(model: Shape | ModelFacts, gpus: str, engine: str = "vllm", **wanted: Any) -> Plan:
    question = asked(model, gpus, engine, **wanted)
    return plan_of(question, question.choose())


def busy(free_gib: float, name: str = "NVIDIA H100 80GB HBM3") -> Device:
    return Device("gpu", f"GPU 0 ({name})", 81559 << 20, int(free_gib * GIB), find(name))


def test_a_small_model_has_a_copy_on_each_gpu_and_its_whole_context() -> None:
    made = planned(LLAMA_8B, "H100:4")
    assert made.verdict == "fits" and made.split == Split(data=4)
    assert made.context_tokens == made.max_context == 131_072
    assert made.reasons == ("1 GPU holds one copy of the model; 4 copies share the requests.",)
    assert [part.name for part in made.parts] == ["weights", "other", "kv cache"]


def test_tensor_parallelism_grows_until_weights_and_context_fit() -> None:
    """70B in 16 bit is 131.4 GiB: 65.7 GiB on each of two H100, of 71.3 GiB; 32,768 tokens need 5 GiB more."""
    assert planned(LLAMA_70B, "H100:4").split == Split(4)
    assert planned(LLAMA_70B, "H200:4").split == Split(2, 1, 2)


def test_a_context_that_is_asked_for_is_kept_and_decides_the_split() -> None:
    assert planned(LLAMA_70B, "H100:4", context=8192).split == Split(2, 1, 2)
    assert planned(LLAMA_70B, "H100:4", context=131_072).split == Split(4)
    made = planned(LLAMA_70B, "H100:2", context=131_072)
    assert made.verdict == "does_not_fit" and made.context_tokens == 131_072


def test_short_memory_lowers_the_context_and_says_so() -> None:
    made = planned(LLAMA_70B, "H100:2")
    assert made.verdict == "fits" and 2048 <= made.context_tokens < 32_768
    assert made.context_tokens == made.max_context and made.max_context % 256 == 0
    assert any(f"gets {made.context_tokens:,} of the 131,072 tokens" in reason for reason in made.reasons)
    again = planned(LLAMA_70B, "H100:2", context=made.context_tokens + 256)
    assert again.verdict != "fits"


def test_the_verdict_is_sure_or_says_that_it_is_not() -> None:
    """The rest is 0.5 to 2 GiB: between the two it is too close to say."""
    question = asked(LLAMA_70B, "H100:2")
    seen = [question.judge(Split(2), context, 1).verdict for context in range(2048, 65_536, 2048)]
    assert seen == sorted(seen, key=["fits", "too_close", "does_not_fit"].index)
    assert set(seen) == {"fits", "too_close", "does_not_fit"}


def test_too_close_says_with_what_it_would_surely_fit() -> None:
    question = asked(LLAMA_70B, "H100:2")
    context = next(n for n in range(2048, 65_536, 1024) if question.judge(Split(2), n, 1).verdict == "too_close")
    made = planned(LLAMA_70B, "H100:2", tensor_parallel=2, context=context)
    assert made.verdict == "too_close" and made.fits
    assert f"It fits for sure with a context of {made.max_context:,} tokens" in made.reasons[1]
    assert planned(LLAMA_70B, "H100:2", tensor_parallel=2, context=made.max_context).verdict == "fits"


def test_requests_are_held_besides_each_other() -> None:
    made = planned(LLAMA_8B, "H100:1", context=8192)
    assert made.parallel == 1 and made.max_parallel > 40
    assert planned(LLAMA_8B, "H100:1", context=8192, parallel=made.max_parallel).verdict == "fits"
    assert planned(LLAMA_8B, "H100:1", context=8192, parallel=made.max_parallel + 1).verdict != "fits"


def test_why_it_does_not_fit_names_the_part_and_what_is_missing() -> None:
    made = planned(LLAMA_70B, "L4:1")
    assert made.verdict == "does_not_fit"
    assert "The weights alone take 131.4 GiB of the 19.8 GiB" in made.reasons[0]
    assert "are missing on each GPU for the cache of 1 request of 2,048 tokens" in made.reasons[1]
    assert made.sentence().startswith("It does not fit")


def test_the_told_intervals_add_up_to_the_verdict() -> None:
    for context in range(2048, 65_536, 4096):
        made = planned(LLAMA_70B, "H100:2", tensor_parallel=2, context=context)
        assert (made.high_bytes <= made.budget_bytes) == (made.verdict == "fits")


def test_what_this_host_measured_scales_all_but_weights_and_cache() -> None:
    plain, twice = (asked(LLAMA_8B, "H100:1", correction=factor).choose() for factor in (1.0, 2.0))
    assert plain.estimate.parts[0] == twice.estimate.parts[0]
    assert twice.estimate.parts[1].bytes == 2 * plain.estimate.parts[1].bytes
    assert plain.estimate.cache_bytes.guess - twice.estimate.cache_bytes.guess == plain.estimate.parts[1].bytes
    assert twice.estimate.kv_tokens.guess < plain.estimate.kv_tokens.guess


def test_files_that_are_quantized_are_not_quantized_again() -> None:
    awq = LLAMA_8B.facts(Quantization("awq", 4, 128))
    made = planned(awq, "H100:1", quantization="fp8")
    assert made.quantization == "" and "quantized already (awq)" in made.reasons[0]
    assert planned(LLAMA_8B, "H100:1", quantization="fp8").quantization == "fp8"


def test_a_gpu_in_use_lowers_the_share_of_vllm() -> None:
    room = room_of([busy(40)], "vllm", Spec(model="x"))
    assert room.fraction is not None and 0.45 < room.fraction < 0.5 and "something else uses" in room.said[0]
    idle = room_of([busy(79.2)], "vllm", Spec(model="x"))
    assert idle.fraction is None and idle.said == ()


def test_a_share_that_is_not_free_does_not_fit_whatever_the_model() -> None:
    room = room_of([busy(40)], "vllm", Spec(model="x", memory_fraction=0.9))
    assert "asks for 71.3 GiB" in room.impossible and "set at most 0.4" in room.impossible
    facts, spec = LLAMA_8B.facts(), Spec(model="x", memory_fraction=0.9)
    made = plan(facts, spec, [busy(40)], "vllm")
    assert made.verdict == "does_not_fit" and made.reasons == (room.impossible,)


def test_sglang_and_tgi_count_from_what_is_free() -> None:
    for engine in ("sglang", "tgi"):
        assert room_of([busy(40)], engine, Spec(model="x")).gpu.memory_bytes < 40 * GIB
        assert room_of([busy(79.2)], engine, Spec(model="x")).gpu.memory_bytes == find("H100").memory_bytes  # type: ignore[union-attr]


def test_gpus_of_one_kind_are_used_and_the_others_named() -> None:
    both = [*devices_of(accelerators("L4:2")), *devices_of(accelerators("H100:1"))]
    room = room_of(both, "vllm", Spec(model="x"))
    assert (room.gpu.name, room.count) == ("H100", 1) and "Only the 1 H100 are used" in room.said[0]


def test_a_gpu_that_the_table_lacks_is_planned_and_marked() -> None:
    device = Device("gpu", "GPU 0 (NewThing)", 100 * GIB, 100 * GIB)
    made = plan(LLAMA_8B.facts(), Spec(model="x"), [device], "vllm")
    assert made.extrapolated and made.budget_bytes < 97 * GIB


def test_a_gpu_engine_without_a_gpu_is_an_error_save_vllm_on_cpu() -> None:
    cpu = Device("cpu", "CPU", 64 * GIB, 60 * GIB)
    for engine in ("sglang", "tgi"):
        with pytest.raises(ModelportError, match=f"{engine} needs a GPU"):
            plan(LLAMA_8B.facts(), Spec(model="x"), [cpu], engine)
    made = plan(LLAMA_8B.facts(), Spec(model="x"), [cpu], "vllm")
    assert made.verdict == "fits" and made.context_tokens == 8192 and "not been calibrated" in made.extrapolated
    small = replace(cpu, free_bytes=16 * GIB)
    assert plan(LLAMA_8B.facts(), Spec(model="x"), [small], "vllm").verdict == "does_not_fit"
    middle = replace(cpu, free_bytes=24 * GIB)
    assert plan(LLAMA_8B.facts(), Spec(model="x"), [middle], "vllm").verdict == "too_close"


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        ModelportError, match="'vlm' cannot be planned; these can: llamacpp, modelport, vllm, .*Did you mean 'vllm'"
    ):
        plan(LLAMA_8B.facts(), Spec(model="x"), devices_of(accelerators("H100:1")), "vlm")


def test_three_changes_are_offered_the_cheapest_first() -> None:
    question = asked(LLAMA_70B, "H100:2", context=65_536)
    assert question.choose().verdict == "does_not_fit"
    assert [(change.sentence, change.usd_per_hour) for change in changes(question, TABLE)] == [
        ("Set context to 23,296 tokens.", 6.0),
        ("Quantize while loading: set quantization to fp8.", 6.0),
        ("Take H200:2.", 10.0),
    ]


def test_every_change_named_does_what_it_says() -> None:
    assert planned(LLAMA_70B, "H100:2", context=23_296).verdict == "fits"
    assert planned(LLAMA_70B, "H100:2", context=23_296 + 256).verdict != "fits"
    assert planned(LLAMA_70B, "H100:2", context=65_536, quantization="fp8").verdict == "fits"
    assert planned(LLAMA_70B, "H200:2", context=65_536).verdict == "fits"
    assert planned(LLAMA_70B, "H200:1", context=65_536).verdict != "fits"


def test_without_prices_changes_are_sorted_by_how_little_they_change() -> None:
    found = changes(asked(LLAMA_70B, "H100:2", context=65_536), ())
    assert [change.sentence.split(" to ")[0] for change in found] == [
        "Set context", "Quantize while loading: set quantization", "Take H100:4 instead of 2.",
    ]  # fmt: skip
    assert all(change.usd_per_hour is None for change in found)


def test_a_smaller_cache_or_a_larger_share_is_offered_where_it_is_enough() -> None:
    sentences = [change.sentence for change in changes(asked(LLAMA_70B, "H100:2", context=40_000), ())]
    assert "Keep the cache in FP8: set kv_cache_dtype to fp8." in sentences
    assert planned(LLAMA_70B, "H100:2", context=40_000, kv_cache_dtype="fp8").verdict == "fits"
    sentences = [change.sentence for change in changes(asked(LLAMA_70B, "H100:2", context=28_000), ())]
    assert "Raise memory_fraction to 0.95." in sentences
    assert planned(LLAMA_70B, "H100:2", context=28_000, memory_fraction=0.95).verdict == "fits"


def test_fp8_is_offered_only_where_the_gpu_computes_it() -> None:
    found = changes(asked(LLAMA_70B, "A100-80GB:2", engine="sglang", context=65_536), ())
    assert not any("fp8" in change.sentence for change in found)
    assert any("int8wo" in change.sentence for change in found)


def test_fewer_at_once_is_offered_where_many_were_asked_for() -> None:
    found = changes(asked(LLAMA_8B, "L4:1", context=8192, parallel=16), ())
    first = next(change.sentence for change in found if "parallel" in change.sentence)
    fewer = int(first.split()[-1].rstrip("."))
    assert planned(LLAMA_8B, "L4:1", context=8192, parallel=fewer).verdict == "fits"
    assert planned(LLAMA_8B, "L4:1", context=8192, parallel=fewer + 1).verdict != "fits"


def test_offers_fit_and_are_sorted_by_price_with_cost_and_time_to_ready() -> None:
    found = offers(LLAMA_8B.facts(), Spec(model="x"), "vllm")
    costs = [made.offer.usd_per_hour for made in found if made.offer]
    assert found and len(costs) == len(found) and costs == sorted(costs)
    assert all(made.verdict == "fits" for made in found)
    first = found[0]
    assert (
        first.offer and first.offer.usd_per_million_tokens and first.ready_s and first.ready_s.low < first.ready_s.high
    )


def test_offers_for_fp8_are_of_gpus_that_have_it() -> None:
    for made in offers(LLAMA_8B.facts(), Spec(model="x", quantization="fp8"), "vllm"):
        assert made.device.gpu and made.device.gpu.fp8


def test_offers_are_the_cheapest_of_each_kind_of_gpu() -> None:
    found = offers(LLAMA_70B.facts(), Spec(model="x"), "vllm")
    names = [made.device.name for made in found]
    assert len(names) == len(set(names)) > 3


def test_a_checkpoint_in_bfloat16_is_computed_in_float16_where_there_is_none_and_that_is_said() -> None:
    model = replace(LLAMA_8B.facts(), dtype="bfloat16")
    for engine in ("vllm", "sglang", "tgi"):
        made = planned(model, "T4:4", engine)
        assert made.verdict == "fits"
        assert made.reasons[0] == f"T4 does not compute in bfloat16: {engine} uses float16 there."
        assert "bfloat16" not in " ".join(planned(model, "T4:4", engine, dtype="float16").reasons)
        assert "bfloat16" not in " ".join(planned(model, "A10:4", engine).reasons)


@pytest.mark.parametrize(
    ("gpus", "engine", "wanted", "why"),
    [
        ("T4:4", "vllm", {"dtype": "bfloat16"}, "T4 does not compute in bfloat16: set dtype to float16."),
        ("T4:4", "tgi", {"dtype": "bfloat16"}, "T4 does not compute in bfloat16: set dtype to float16."),
        ("V100-32GB:4", "vllm", {"kv_cache_dtype": "fp8"}, "V100-32GB cannot keep the cache in FP8"),
        ("V100-32GB:4", "sglang", {}, "SGLang does not run on V100-32GB"),
        ("A10:4", "vllm", {"quantization": "fp8"}, "A10 does not compute in FP8"),
    ],
)
def test_what_an_engine_refuses_whatever_the_memory_does_not_fit(
    gpus: str, engine: str, wanted: dict[str, Any], why: str
) -> None:
    made = planned(LLAMA_8B, gpus, engine, **wanted)
    assert made.verdict == "does_not_fit" and len(made.reasons) == 1 and made.reasons[0].startswith(why)
    assert made.max_context == made.max_parallel == 0


def test_sglang_computes_in_float16_even_where_bfloat16_was_asked_for() -> None:
    made = planned(LLAMA_8B, "T4:4", "sglang", dtype="bfloat16")
    assert made.verdict == "fits" and "sglang uses float16 there" in made.reasons[0]


def test_what_is_not_stable_in_float16_takes_twice_the_memory_in_vllm() -> None:
    gemma = replace(LLAMA_8B.facts(), dtype="bfloat16", architecture="gemma2")
    question = asked(gemma, "T4:4")
    assert "vllm uses float32 there" in plan_of(question, question.choose()).reasons[0]
    seen: list[str] = []
    spying = replace(question, estimator=lambda facts, ask: seen.append(ask.dtype) or simple_estimate(facts, ask))
    spying.choose()
    assert set(seen) == {"float32"}
    assert "not stable" in planned(gemma, "T4:4", dtype="float16").reasons[0]


def test_what_the_engine_refuses_is_offered_to_be_left_out() -> None:
    sentences = [change.sentence for change in changes(asked(LLAMA_8B, "T4:4", dtype="bfloat16", context=4096), TABLE)]
    assert sentences == ["Take L4:1.", "Leave dtype out."]
    assert planned(LLAMA_8B, "T4:4", context=4096).verdict == "fits"
    found = changes(asked(LLAMA_8B, "V100-32GB:1", kv_cache_dtype="fp8", context=4096), ())
    assert [change.sentence for change in found] == ["Leave kv_cache_dtype out."]


def test_a_share_that_cannot_be_is_offered_to_be_left_out_and_lowers_no_context() -> None:
    facts, here = LLAMA_8B.facts(), devices_of(accelerators("H100:1"))
    made = plan(facts, Spec(model="x", memory_fraction=1), here, "vllm", prices=TABLE)
    assert made.verdict == "does_not_fit" and "set at most 0.99" in made.reasons[0]
    assert made.context_tokens > 32_768
    assert made.offer and made.offer.usd_per_million_tokens is None, "nothing runs"
    change = made.changes[0].sentence
    assert change.startswith("Leave memory_fraction out (0.92) (context ")
    assert plan(facts, Spec(model="x"), here, "vllm").verdict == "fits"


def test_a_small_share_is_offered_to_be_left_out() -> None:
    found = changes(asked(LLAMA_8B, "H100:1", engine="sglang", memory_fraction=0.1, context=8192), ())
    assert "Leave memory_fraction out (0.9)." in [change.sentence for change in found]


def test_where_nothing_fits_the_lowered_context_is_said_to_be_lowered() -> None:
    made = planned(LLAMA_70B, "L4:1")
    assert "of 2,048 tokens, the least of the 131,072 that the model was trained for." in made.reasons[1]
    assert planned(LLAMA_70B, "L4:1", context=2048).reasons[1].endswith("of 1 request of 2,048 tokens.")


def test_more_than_one_machine_is_a_reason_and_told_in_what_is_offered() -> None:
    assert any("16 GPUs are 2 machines of 8" in reason for reason in planned(LLAMA_8B, "H100:16").reasons)
    assert not any("machines" in reason for reason in planned(LLAMA_8B, "H100:8").reasons)
    found = changes(asked(LLAMA_70B, "T4:8", context=8192), ())
    assert any(change.sentence == "Take T4:16 instead of 8 on 2 machines." for change in found)


def test_one_gpu_more_than_the_experts_divide_by_stays_idle_and_the_verdict_good() -> None:
    four, five = (planned(MIXTRAL, gpus, context=8192) for gpus in ("A100:4", "A100:5"))
    assert four.verdict == five.verdict == "fits" and five.split.gpus == 4
    assert five.reasons[-1] == "1 of 5 GPUs stays idle: one copy takes 2."
    of_one = planned(MIXTRAL, "H100:5", context=8192, tensor_parallel=1)
    assert of_one.split == Split(1, 1, 4, 4)
    assert of_one.reasons[-1] == "1 of 5 GPUs stays idle: 8 experts cannot be shared out evenly over more of them."


def test_a_draft_model_takes_its_weights_and_its_cache() -> None:
    here, spec = devices_of(accelerators("H100:1")), Spec(model="x", context=8192)
    alone = plan(LLAMA_8B.facts(), spec, here, "vllm")
    drafted = plan(LLAMA_8B.facts(), spec, here, "vllm", draft=QWEN_7B.facts())
    weights = [next(part.bytes for part in made.parts if part.name == "weights") for made in (alone, drafted)]
    assert weights[1] - weights[0] == pytest.approx(QWEN_7B.facts().weight_bytes, rel=0.01)
    question = replace(asked(LLAMA_8B, "H100:1"), draft=QWEN_7B.facts())
    seen: list[Any] = []
    replace(
        question, cache_need=lambda facts, ask, n: seen.append(ask.draft_caches) or simple_need(facts, ask, n)
    ).choose()
    assert seen[0] == QWEN_7B.facts().caches


def test_a_draft_model_on_cpu_is_counted() -> None:
    cpu, spec = Device("cpu", "CPU", 128 * GIB, 120 * GIB), Spec(model="x", context=4096)
    alone, drafted = (plan(QWEN_7B.facts(), spec, [cpu], "vllm", draft=draft) for draft in (None, QWEN_7B.facts()))
    assert drafted.parts[0].bytes == 2 * alone.parts[0].bytes and drafted.parts[1].bytes == 2 * alone.parts[1].bytes


def test_a_cache_that_nobody_described_is_counted_whole_on_every_gpu() -> None:
    here = devices_of(accelerators("H100:2"))
    spec = Spec(model="x", context=8192, tensor_parallel=2)
    known, untold = (
        plan(facts, spec, here, "tgi") for facts in (LLAMA_8B.facts(), replace(LLAMA_8B.facts(), caches=()))
    )
    assert untold.parts[-1].bytes == 2 * known.parts[-1].bytes > 0


def test_embeddings_have_a_price_per_hour_and_no_made_up_one_per_token() -> None:
    bert = replace(LLAMA_8B.facts(), task="embed", context_tokens=512, caches=(), kv_bytes_per_token=0)
    made = plan(bert, Spec(model="x"), devices_of(accelerators("L4:1")), "tgi")
    assert made.task == "embed" and made.offer and made.offer.usd_per_million_tokens is None


def test_recorded_starts_replace_the_guess_of_time_to_ready() -> None:
    here = devices_of(accelerators("H100:1"))
    recorded = Span(10, 12, 15)
    assert plan(LLAMA_8B.facts(), Spec(model="x"), here, "vllm", ready=recorded).ready_s == recorded
    guessed = plan(replace(LLAMA_8B.facts(), download_bytes=16 * GIB), Spec(model="x"), here, "vllm").ready_s
    assert guessed is not None and 0 < guessed.low < guessed.guess < guessed.high


def test_copies_that_share_experts_say_so() -> None:
    made = planned(MIXTRAL, "H100:4")
    assert made.split.expert == made.split.tensor * made.split.data
    choice: Choice = asked(MIXTRAL, "H200:8").choose()
    assert choice.split == Split(1, 1, 8, 8)
    assert "all 8 GPUs share out the experts" in planned(MIXTRAL, "H200:8").reasons[0]
