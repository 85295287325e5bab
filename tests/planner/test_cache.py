"""How engines lay out their caches: bytes per token held against what they printed (rows of bench/data)."""

from dataclasses import replace

import pytest

from modelport.domain.facts import Cache, ModelFacts
from modelport.planner import cache
from tests.planner.test_gpu_memory import LLAMA_8B


def facts(*caches: Cache) -> ModelFacts:
    return replace(LLAMA_8B, caches=caches)


def per_token(model: ModelFacts, tensor: int = 1, context: int = 8192, **more: object) -> float:
    wanted = {"by_concurrency": False, "draft_tokens": 0, **more}
    return cache.vllm(model, tensor, 1, 2, context, 2048, **wanted).token_bytes  # type: ignore[arg-type]


GPT_OSS = facts(Cache("full", 12, 8, 64, 64), Cache("sliding", 12, 8, 64, 64, window_tokens=128))
GEMMA_3 = facts(Cache("full", 8, 8, 256, 256), Cache("sliding", 40, 8, 256, 256, window_tokens=1024))
GEMMA_4 = facts(Cache("full", 5, 2, 512, 512), Cache("sliding", 25, 8, 256, 256, window_tokens=1024))
QWEN_35 = facts(Cache("full", 10, 2, 256, 256), Cache("state", 30, state_bytes=2_146_304))
KIMI = facts(Cache("mla", 61, 1, 576))


@pytest.mark.parametrize(
    ("model", "tensor", "printed"),
    [
        (LLAMA_8B, 1, 131_072),
        (LLAMA_8B, 2, 65_536),
        (LLAMA_8B, 16, 16_384),  # heads are copied beyond their number
        (GPT_OSS, 1, 49_152),  # c233: 7.12 GiB, 155,584 tokens
        (GEMMA_3, 1, 393_216),  # c218: 16.25 GiB, 44,368 tokens
        (GEMMA_4, 1, 245_760),  # c192: 40.61 GiB, 177,440 tokens
        (QWEN_35, 1, 81_920),  # c181: 47.55 GiB, 623,040 tokens
        (KIMI, 8, 70_272),  # c254: 46.80 GiB, 715,072 tokens; a latent is never divided
    ],
)
def test_a_token_takes_what_vllm_counted(model: ModelFacts, tensor: int, printed: int) -> None:
    assert per_token(model, tensor) == printed


def test_newer_versions_count_a_window_once_however_long_the_context() -> None:
    # c207: Qwen3.6-35B with its MTP layer, 262,144 tokens, 74.22 GiB, 3,366,051 tokens
    drafting = facts(Cache("full", 11, 2, 256, 256), Cache("state", 30, state_bytes=2_146_304))
    counted = per_token(drafting, context=262_144, by_concurrency=True, draft_tokens=3, padding=1.5)
    assert counted == pytest.approx(74.22 * 2**30 / 3_366_051, rel=0.01)


def test_a_cache_in_fp8_takes_half() -> None:
    halves = [cache.plain(LLAMA_8B, 1, 1, cache.element_bytes(kind), 8192).token_bytes for kind in ("auto", "fp8")]
    assert halves[0] == 2 * halves[1]


def test_a_sparse_latent_has_its_own_layout_in_fp8() -> None:
    # c087: 61 layers of 656 bytes and 132 of the indexer
    sparse = facts(Cache("mla", 61, 1, 576, extra_bytes=132))
    assert cache.plain(sparse, 1, 1, 1, 8192).token_bytes == 61 * (656 + 132)


def test_the_fullest_pipeline_stage_counts() -> None:
    assert cache.plain(LLAMA_8B, 1, 3, 2, 8192).token_bytes == 11 * 4096


def test_sliding_layers_need_no_more_for_a_longer_context() -> None:
    sliding = facts(Cache("sliding", 32, 8, 128, 128, window_tokens=4096))
    laid = [
        cache.vllm(sliding, 1, 1, 2, context, 2048, by_concurrency=True, draft_tokens=0).request_bytes
        for context in (8192, 131_072)
    ]
    assert laid[0] == laid[1]
