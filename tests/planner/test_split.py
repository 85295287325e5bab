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
    assert [one.expert for one in split("sglang", 8, MIXTRAL)[:4]] == [1, 2, 4, 8]
    assert {one.expert for one in split("tgi", 8, MIXTRAL)} == {1}
    assert {one.expert for one in split("vllm", 6, MIXTRAL) if one.tensor * one.data == 6} == {1}


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
