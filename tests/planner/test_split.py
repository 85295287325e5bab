"""A split follows stated rules: the smallest tensor parallelism first, and never a cut through what must stay whole."""

from dataclasses import replace

import pytest

from modelport.domain.facts import Cache, Quantization
from modelport.domain.plan import Split
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.planner.split import cut, leftover, splits
from tests.planner.models import LLAMA_8B, LLAMA_70B, MIXTRAL, QWEN_7B

GROUPS_OF_128 = Quantization("awq", 4, 128)


def split(engine: str = "vllm", count: int = 8, model=LLAMA_70B, **wanted: object) -> list[Split]:
    return splits(model.facts(), engine, count, Spec.model_validate({"model": "x", **wanted}))


def test_tensor_parallel_alone_comes_first_by_powers_of_two_and_copies_take_the_rest() -> None:
    assert split()[:4] == [Split(1, 1, 8), Split(2, 1, 4), Split(4, 1, 2), Split(8, 1, 1)]


def test_pipeline_stages_come_last_as_few_as_possible_and_as_narrow() -> None:
    assert split(count=4)[3:] == [Split(1, 2, 2), Split(2, 2, 1), Split(1, 3, 1), Split(1, 4, 1)]


def test_beyond_one_machine_only_stages_and_copies_reach() -> None:
    found = split(count=16)
    assert Split(8, 2, 1) in found and Split(8, 1, 2) in found
    assert max(one.tensor for one in found) == 8


def test_other_divisors_of_the_heads_come_after_powers() -> None:
    twelve = replace(QWEN_7B.facts(), attention_heads=24, kv_heads=24, feed_forward_size=18432)
    found = splits(twelve, "vllm", 6, Spec(model="x"))
    assert [(one.tensor, one.pipeline) for one in found][:5] == [(1, 1), (2, 1), (4, 1), (3, 1), (6, 1)]


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (3, "3 GPUs cannot share 28 attention heads evenly."),
        (7, "7 GPUs cannot share 4 key/value heads evenly."),
        (4, ""),
        (1, ""),
    ],
)
def test_heads_are_never_cut(tensor: int, why: str) -> None:
    assert cut(QWEN_7B.facts(), "vllm", tensor, 1) == why


def test_key_value_heads_are_copied_beyond_their_number_save_by_tgi() -> None:
    assert cut(LLAMA_70B.facts(), "vllm", 16, 1) == ""
    assert "8 key/value heads" in cut(LLAMA_70B.facts(), "tgi", 16, 1)


def test_a_latent_has_no_heads_to_share() -> None:
    latent = replace(LLAMA_70B.facts(), kv_heads=1, caches=(Cache("mla", 60, 1, 576),))
    assert cut(latent, "vllm", 8, 1) == ""
    assert cut(replace(latent, kv_heads=3, caches=()), "vllm", 8, 1) != ""


def test_quantization_groups_stay_whole() -> None:
    assert (
        "groups of 128 in the feed-forward of width 18,944" in cut(QWEN_7B.facts(GROUPS_OF_128), "vllm", 4, 1) or True
    )
    narrow = replace(QWEN_7B.facts(GROUPS_OF_128), feed_forward_size=18944 // 2)
    assert (
        cut(narrow, "vllm", 4, 1)
        == "4 GPUs would cut the quantization groups of 128 in the feed-forward of width 9,472."
    )
    assert cut(narrow, "vllm", 2, 1) == ""


def test_experts_shared_out_whole_are_not_cut() -> None:
    facts = MIXTRAL.facts(Quantization("gptq", 4, 4096))
    width = next(group for group in facts.weights if group.name == "experts").parameters // (32 * 8 * 3 * 4096)
    exact = 32 * 8 * 3 * 4096 * width
    groups = tuple(replace(g, parameters=exact) if g.name == "experts" else g for g in facts.weights)
    facts = replace(facts, weights=groups)
    assert cut(facts, "vllm", 8, 1) != "" and cut(facts, "vllm", 8, 8) == ""


def test_experts_go_over_all_gpus_that_one_engine_can_give_them_to() -> None:
    assert [one.expert for one in split("vllm", 8, MIXTRAL)[:4]] == [8, 8, 8, 8]
    assert [one.expert for one in split("sglang", 8, MIXTRAL)[:4]] == [1, 1, 1, 8]
    assert {one.expert for one in split("tgi", 8, MIXTRAL)} == {1}
    assert {one.expert for one in split("vllm", 6, MIXTRAL) if one.tensor * one.data == 6} == {1}


def test_copies_of_sglang_have_their_experts_cut_by_tensor_parallelism() -> None:
    for one in split("sglang", 8, MIXTRAL):
        assert one.expert == (one.tensor if one.data == 1 and 8 % one.tensor == 0 else 1)


@pytest.mark.parametrize("tensor", [None, 1])
def test_experts_over_copies_of_sglang_only_where_asked_for(tensor: int | None) -> None:
    wanted = {"data_parallel": 8, "expert_parallel": 8, "tensor_parallel": tensor}
    assert split("sglang", 8, MIXTRAL, **wanted) == [Split(1, 1, 8, 8)]
    assert split("sglang", 8, MIXTRAL, expert_parallel=8)[0] == Split(8, 1, 1, 8)
    assert split("sglang", 8, MIXTRAL, expert_parallel=8, tensor_parallel=1) == [Split(1, 1, 8, 8)]


@pytest.mark.parametrize(
    ("engine", "wanted", "sentence"),
    [
        (
            "sglang",
            {"tensor_parallel": 2, "data_parallel": 4, "expert_parallel": 2},
            "must be 1 or tensor with one copy, or data with tensor 1, not 2",
        ),
        ("sglang", {"tensor_parallel": 4, "expert_parallel": 8}, "must be 1 or tensor with one copy"),
        ("vllm", {"tensor_parallel": 2, "data_parallel": 2, "expert_parallel": 2}, "which is 4, not 2"),
        ("vllm", {"expert_parallel": 16}, "expert_parallel is 16, but there are 8 GPUs"),
    ],
)
def test_experts_that_cannot_be_shared_out_so_are_refused(engine: str, wanted: dict, sentence: str) -> None:
    sixteen = replace(MIXTRAL, experts=16)
    with pytest.raises(ModelportError, match=sentence):
        split(engine, 8, sixteen, **wanted)


def test_vllm_takes_as_many_copies_as_the_experts_asked_for_need() -> None:
    found = split("vllm", 8, MIXTRAL, expert_parallel=4)
    assert found[0] == Split(1, 1, 4, 4) and {one.expert for one in found} == {4}
    assert all(one.tensor * one.data == 4 for one in found)


def test_fewer_gpus_are_tried_where_they_share_the_experts_out_evenly() -> None:
    found = split("vllm", 5, MIXTRAL)
    assert Split(2, 1, 2, 4) in found and Split(1, 1, 4, 4) in found
    assert found.index(Split(1, 1, 5, 1)) < found.index(Split(1, 1, 4, 4))
    said = leftover(MIXTRAL.facts(), "vllm", Split(1, 1, 4, 4), 5)
    assert said[-1] == "1 of 5 GPUs stays idle: 8 experts cannot be shared out evenly over more of them."


def test_what_spans_machines_says_that_it_is_not_started_yet() -> None:
    facts = LLAMA_70B.facts()
    said = leftover(facts, "vllm", Split(8, 2), 16)[-1]
    assert said.startswith("16 GPUs are 2 machines of 8") and "multi-node mode is needed" in said
    assert not any("machines" in sentence for sentence in leftover(facts, "vllm", Split(8), 16))


def test_gpus_left_over_by_what_was_asked_for_say_so() -> None:
    spec = Spec(model="x", data_parallel=2)
    assert leftover(LLAMA_8B.facts(), "vllm", Split(1, 1, 2), 8, spec)[-1] == (
        "6 of 8 GPUs stay idle: 2 copies were asked for."
    )


def test_tgi_has_one_copy_and_no_stages() -> None:
    assert split("tgi") == [Split(1), Split(2), Split(4), Split(8)]


def test_what_is_asked_for_is_kept() -> None:
    assert split(tensor_parallel=2, pipeline_parallel=2, data_parallel=2) == [Split(2, 2, 2)]
    assert {one.tensor for one in split(tensor_parallel=4)} == {4}
    assert {one.data for one in split(data_parallel=2)} == {2}
    assert {one.pipeline for one in split(pipeline_parallel=3)} == {3}
    assert {one.expert for one in split(model=MIXTRAL, expert_parallel=1)} == {1}


@pytest.mark.parametrize(
    ("engine", "wanted", "sentence"),
    [
        ("vllm", {"tensor_parallel": 16}, "tensor 16 x pipeline 1 x data 1 needs 16 GPUs, but there are 8"),
        ("vllm", {"tensor_parallel": 4, "data_parallel": 4}, "needs 16 GPUs, but there are 8"),
        ("vllm", {"tensor_parallel": 3}, "tensor_parallel 3 cannot be: 3 GPUs cannot share 64 attention heads"),
        ("vllm", {"expert_parallel": 2}, "has no experts; leave expert_parallel out"),
        ("tgi", {"pipeline_parallel": 2}, "tgi has no pipeline stages"),
        ("tgi", {"data_parallel": 2}, "tgi runs one copy of a model"),
    ],
)
def test_degrees_that_cannot_be_are_refused_with_a_sentence(engine: str, wanted: dict, sentence: str) -> None:
    with pytest.raises(ModelportError, match=sentence) as caught:
        split(engine, **wanted)
    assert caught.value.param in wanted


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"expert_parallel": 3}, "3 GPUs cannot share 8 experts evenly"),
        (
            {"expert_parallel": 8, "tensor_parallel": 2, "data_parallel": 2},
            "must be 1 or tensor x data, which is 4, not 8",
        ),
    ],
)
def test_experts_are_shared_out_evenly_over_all_or_not_at_all(wanted: dict, sentence: str) -> None:
    with pytest.raises(ModelportError, match=sentence):
        split("vllm", 8, MIXTRAL, **wanted)


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(ModelportError, match="pipeline_parallel is 64, but 'llama-8b' has 32 layers"):
        split(count=64, model=LLAMA_8B, pipeline_parallel=64)


def test_gpus_that_stay_idle_are_reported() -> None:
    facts = LLAMA_70B.facts()
    assert leftover(facts, "vllm", Split(4, 1, 1), 7)[-1] == "3 of 7 GPUs stay idle: one copy takes 4."
    assert "use `replicas`" in leftover(facts, "tgi", Split(2), 3)[-1]
    assert leftover(facts, "vllm", Split(2, 1, 2), 4) == (
        "2 GPUs hold one copy of the model; 2 copies share the requests.",
    )
