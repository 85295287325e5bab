"""What an engine takes of one GPU, and what it leaves for the cache."""

from dataclasses import replace

import pytest

from modelport.domain.facts import Cache, ModelFacts, Quantization, Weights
from modelport.domain.plan import Split
from modelport.planner.ask import Ask
from modelport.planner.gpu_memory import cache_need, estimate
from modelport.planner.gpus import GPUS
from modelport.planner.weights import weights

GIB = 1 << 30
H100 = GPUS["H100"]
LLAMA_8B = ModelFacts(
    source="org/llama-8b", path="org/llama-8b", format="safetensors", architecture="llama", task="generate",
    parameters=8_030_261_248, weight_bytes=16_060_522_496, largest_layer_bytes=0, layers=32, embedding_size=4096,
    vocabulary=128_256, context_tokens=131_072, kv_bytes_per_token=131_072, quantization="BF16", pooling=False,
    chat_template=True, dtype="bfloat16", attention_heads=32, kv_heads=8, head_size=128, feed_forward_size=14_336,
    weights=(
        Weights("embeddings", 525_336_576, 1_050_673_152, 0, "tensor"),
        Weights("head", 525_336_576, 1_050_673_152, 0, "tensor"),
        Weights("attention", 1_073_741_824, 2_147_483_648, 32, "tensor"),
        Weights("key_value", 268_435_456, 536_870_912, 32, "key_value"),
        Weights("mlp", 5_637_144_576, 11_274_289_152, 32, "tensor"),
        Weights("norms", 266_240, 532_480, 32, "none"),
    ),
    caches=(Cache("full", 32, 8, 128, 128),),
)  # fmt: skip


def ask(engine: str = "vllm", split: Split = Split(), **changes: object) -> Ask:  # noqa: B008
    return replace(Ask(engine, H100, split, context=8192, version="0.12.0"), **changes)  # type: ignore[arg-type]


def held(facts: ModelFacts, asked: Ask) -> float:
    return weights(facts, asked).bytes / GIB


def test_one_gpu_holds_all_weights_and_two_hold_half_each() -> None:
    assert held(LLAMA_8B, ask()) == pytest.approx(14.96, abs=0.01)
    assert held(LLAMA_8B, ask(split=Split(tensor=2))) == pytest.approx(7.48, abs=0.01)


def test_key_value_projections_are_copied_beyond_their_heads() -> None:
    key_value = 536_870_912 / GIB
    sixteen = held(LLAMA_8B, ask(split=Split(tensor=16)))
    assert sixteen == pytest.approx((14.96 - key_value) / 16 + key_value / 8, abs=0.01)


def test_a_pipeline_stage_has_its_layers_and_one_end() -> None:
    inside = (14.96 - 2 * 1_050_673_152 / GIB) / 2
    assert held(LLAMA_8B, ask(split=Split(pipeline=2))) == pytest.approx(inside + 1_050_673_152 / GIB, abs=0.01)


def test_quantizing_while_loading_halves_the_layers_and_nothing_else() -> None:
    assert held(LLAMA_8B, ask(quantization="fp8")) == pytest.approx(8.46, abs=0.01)  # 8.4596 printed, row c046


def test_what_is_quantized_already_is_not_quantized_again() -> None:
    stored = replace(LLAMA_8B, quantized=Quantization("fp8", 8))
    assert held(stored, ask(quantization="fp8")) == held(stored, ask())


def test_experts_are_shared_out_by_expert_parallelism_where_attention_is_copied() -> None:
    moe = replace(LLAMA_8B, weights=(Weights("experts", 10**9, 2 * 10**9, 32, "expert"), LLAMA_8B.weights[2]))
    one_each = held(moe, ask(split=Split(data=8, expert=8)))
    assert one_each == pytest.approx((2 * 10**9 / 8 + 2_147_483_648) / GIB, abs=0.01)


def test_heads_for_drafting_count_only_where_something_drafts() -> None:
    drafting = replace(LLAMA_8B, weights=(*LLAMA_8B.weights, Weights("draft", 10**9, 2 * 10**9, 0, "tensor")))
    assert held(drafting, ask()) == held(LLAMA_8B, ask())
    assert held(drafting, ask(draft_tokens=3)) == pytest.approx(held(LLAMA_8B, ask()) + 2 * 10**9 / GIB)


def test_float32_doubles_weights_cache_and_activations() -> None:
    wide, narrow = estimate(LLAMA_8B, ask(dtype="float32")), estimate(LLAMA_8B, ask())
    assert wide.parts[0].bytes == pytest.approx(2 * narrow.parts[0].bytes, rel=0.01)
    assert cache_need(LLAMA_8B, ask(dtype="float32"), 1) == 2 * cache_need(LLAMA_8B, ask(), 1)


@pytest.mark.parametrize(
    ("gpu", "fraction", "context", "requests", "measured"),
    # rows c244, c232, c240 and c248 of bench/data: Llama-3.1-8B with vLLM 0.12.0, 64 requests at once
    [
        ("A100", 0.95, 65_536, 64, 180_128),
        ("RTX3090", 0.95, 31_800, 64, 56_880),
        ("RTX5090", 0.95, 65_536, 64, 117_232),
        ("RTX5000-Ada", 0.95, 65_536, 64, 118_432),
    ],
)
def test_tokens_that_vllm_printed_are_told_within_three_percent(
    gpu: str, fraction: float, context: int, requests: int, measured: int
) -> None:
    asked = ask(gpu=GPUS[gpu], memory_fraction=fraction, context=context, max_requests=requests)
    tokens = estimate(LLAMA_8B, asked).kv_tokens
    assert tokens.guess == pytest.approx(measured, rel=0.03)
    assert tokens.low <= measured <= tokens.high


def test_fewer_requests_at_once_leave_more_for_the_cache() -> None:
    few, many = (estimate(LLAMA_8B, ask(max_requests=n)).cache_bytes.guess for n in (64, 1024))
    assert few > many + 3 * GIB


def test_data_parallel_copies_share_requests_and_add_up_their_tokens() -> None:
    one, two = estimate(LLAMA_8B, ask()), estimate(LLAMA_8B, ask(split=Split(data=2)))
    assert two.kv_tokens.guess == 2 * one.kv_tokens.guess
    assert cache_need(LLAMA_8B, ask(split=Split(data=2)), 8) == cache_need(LLAMA_8B, ask(), 4)


def test_what_was_never_measured_says_so() -> None:
    assert "measured" in estimate(LLAMA_8B, ask("tgi", version="3.3.0")).extrapolated
    assert not estimate(LLAMA_8B, ask()).extrapolated


def test_no_part_is_ever_negative() -> None:
    for engine in ("vllm", "sglang", "tgi"):
        for name in ("T4", "H100", "GB10", "MI300X"):
            for part in estimate(LLAMA_8B, ask(engine, gpu=GPUS[name], version="")).parts:
                assert 0 <= part.low_bytes <= part.bytes <= part.high_bytes, (engine, name, part)
