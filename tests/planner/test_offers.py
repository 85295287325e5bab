"""Prices are dated data that the user's own file overrides, and a cost is what whole machines take."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from modelport.domain.plan import Split
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.planner import accelerators, devices_of, offers, plan
from modelport.planner.cost import requests, tokens_per_second, usd_per_million
from modelport.planner.gpus import GPUS
from modelport.planner.offers import Price, cheapest, prices, shapes
from tests.planner.models import GIB, LLAMA_8B, MIXTRAL, QWEN_7B

TABLE = (
    Price("x", "H100", 1, 3.0, "2026-01-01"),
    Price("y", "H100", 8, 20.0, "2026-02-01"),
    Price("x", "L4", 1, 0.5, "2026-01-01"),
    Price("x", "L4", 4, 2.5, "2026-01-01"),
)


def test_every_packaged_price_is_of_a_known_gpu_and_dated() -> None:
    for row in prices():
        assert row.gpu in GPUS and row.usd_per_hour > 0 and 1 <= row.count <= 8
        assert date(2026, 1, 1) <= date.fromisoformat(row.as_of) <= date.today()


def test_the_cheapest_machine_is_taken_even_if_larger() -> None:
    assert cheapest(TABLE, "H100", Split(4)) == cheapest(TABLE, "H100", Split(8))
    offer = cheapest(TABLE, "L4", Split(2))
    assert offer is not None and (offer.count, offer.usd_per_hour, offer.as_of) == (4, 2.5, "2026-01-01")


def test_more_than_a_machine_has_is_several_whole_nodes_or_nothing() -> None:
    offer = cheapest(TABLE, "H100", Split(8, 2))
    assert offer is not None and (offer.count, offer.usd_per_hour) == (16, 40.0)
    assert cheapest(TABLE, "H100", Split(16)) is None
    assert cheapest(TABLE, "L4", Split(8)) is None
    assert cheapest(TABLE, "MI300X", Split()) is None


def test_shapes_are_what_is_sold_cheapest_first_and_two_nodes() -> None:
    assert shapes(TABLE) == [("L4", 1), ("L4", 4), ("H100", 1), ("H100", 8), ("H100", 16)]


def test_the_users_file_replaces_what_it_names_and_adds(tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(
        "prices:\n- cloud: lambda\n  as_of: 2026-11-01\n  usd_per_machine: {h100: {1: 1.5}}\n"
        "- cloud: basement\n  as_of: '2026-11-02'\n  counts: [1, 2]\n  usd_per_gpu: {RTX 4090: 0.1}\n"
    )
    found = {(row.cloud, row.gpu, row.count): row for row in prices(own)}
    assert found["lambda", "H100", 1].usd_per_hour == 1.5 and found["lambda", "H100", 1].as_of == "2026-11-01"
    assert found["basement", "RTX4090", 2].usd_per_hour == 0.2
    assert found["lambda", "H100", 8] in prices() and len(found) == len(prices()) + 2
    assert prices(tmp_path / "none.yaml") == prices()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "is not YAML"),
        ("a: 1", "has no list `prices:`"),
        ("prices: [3]", "Entry 1 .*must be a mapping"),
        ("prices: [{cloud: x, as_of: 2026-01-01, per_hour: 3}]", "the key 'per_hour' is not known"),
        ("prices: [{as_of: 2026-01-01}]", "`cloud` must be a name"),
        ("prices: [{cloud: x, as_of: soon}]", "`as_of` must be a day like 2026-09-08, not 'soon'"),
        ("prices: [{cloud: x, as_of: 2026-01-01, usd_per_gpu: {H1000: 1}}]", "the GPU 'H1000' is not known"),
        ("prices: [{cloud: x, as_of: 2026-01-01, usd_per_gpu: {H100: -1}}]", "-1 is not a number above 0"),
        ("prices: [{cloud: x, as_of: 2026-01-01, usd_per_machine: {H100: 4}}]", "must be a mapping, not 4"),
        ("prices: [{cloud: x, as_of: 2026-01-01, usd_per_machine: {H100: {a: 4}}}]", "'a' is not a number above 0"),
    ],
)
def test_a_wrong_price_file_is_told_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(text)
    with pytest.raises(ModelportError, match=sentence):
        prices(own)


def test_the_roofline_is_the_weights_and_the_caches_read_once_a_step() -> None:
    """16 GiB of weights and 256 requests of 1,024 tokens of 128 KiB (32 GiB) at 0.6 x 3,350 GB/s: 26 ms a step."""
    rate = tokens_per_second(LLAMA_8B.facts(), GPUS["H100"], Split(), 16 * GIB, 50 * GIB, 50 * GIB / (128 << 10), 256)
    assert rate == pytest.approx(256 / (48 * GIB / (0.6 * 3350e9)), rel=1e-6)
    assert usd_per_million(3.6, 1000.0) == pytest.approx(1.0)


def test_requests_at_work_are_those_asked_for_or_the_engines_own_and_never_more_than_fit() -> None:
    assert requests(Split(), 400 * 1024, most_of_a_copy=256) == 256
    assert requests(Split(), 100 * 1024, most_of_a_copy=256) == 100
    assert requests(Split(data=2), 4000 * 1024, most_of_a_copy=256) == 512
    assert requests(Split(data=2), 4000 * 1024, most_of_a_copy=256, at_once=8) == 8
    assert requests(Split(), 4 * 1024, most_of_a_copy=256, at_once=8) == 4
    assert requests(Split(), 100, most_of_a_copy=256) == 1


def test_one_request_at_once_costs_much_more_per_token_than_256() -> None:
    """8B in 16 bit: one request waits for 15 GiB of weights alone, which 256 share."""
    here = devices_of(accelerators("H100:1"))
    one, many, unasked = (
        plan(LLAMA_8B.facts(), Spec(model="x", context=1024, parallel=parallel), here, "vllm").offer
        for parallel in (1, 256, None)
    )
    assert one and many and unasked
    assert one.usd_per_hour == many.usd_per_hour
    dear, cheap, full = (offer.usd_per_million_tokens or 0 for offer in (one, many, unasked))
    assert 50 * cheap < dear < 256 * cheap and 0 < full <= cheap


def test_copies_add_up_and_what_cannot_be_known_is_none() -> None:
    facts = LLAMA_8B.facts()

    def rate(split: Split, tokens: float, at_once: float) -> float:
        return tokens_per_second(facts, GPUS["H100"], split, 16 * GIB, 50 * GIB, tokens, at_once)

    assert rate(Split(data=2), 800_000, 512) == pytest.approx(2 * rate(Split(), 400_000, 256))
    assert rate(Split(data=2), 800_000, 1) < rate(Split(), 400_000, 2), "one request keeps one copy at work"
    assert rate(Split(pipeline=2), 800_000, 1) == pytest.approx(rate(Split(), 800_000, 1) / 2, rel=0.01)
    assert tokens_per_second(facts, GPUS["H100"], Split(), 16 * GIB, -1, 0, 1) == 0
    assert usd_per_million(3.0, 0) is None


def test_few_requests_read_few_experts() -> None:
    facts = MIXTRAL.facts()
    few = tokens_per_second(facts, GPUS["H200"], Split(), 90 * GIB, 0.2 * GIB, 1024, 1)
    dense = tokens_per_second(LLAMA_8B.facts(), GPUS["H200"], Split(), 90 * GIB, 0.2 * GIB, 1024, 1)
    assert 3 * dense < few < 4 * dense, "2 of 8 experts, which are 97 % of it"


def test_experts_that_copies_share_are_read_for_the_requests_of_all_of_them() -> None:
    apart, shared = (
        tokens_per_second(MIXTRAL.facts(), GPUS["H200"], Split(data=8, expert=expert), 90 * GIB, 8 * GIB, 400_000, 8)
        for expert in (1, 8)
    )
    assert shared < apart


def test_a_draft_model_stands_on_the_gpus_that_are_offered_too() -> None:
    spec = Spec(model="x", context=8192)
    alone = offers(LLAMA_8B.facts(), spec, "vllm")
    drafted = offers(LLAMA_8B.facts(), spec, "vllm", draft=QWEN_7B.facts())
    smallest = [min(made.device.total_bytes * made.devices for made in found) for found in (alone, drafted)]
    assert smallest[1] > smallest[0]
    for made in drafted:
        assert next(part for part in made.parts if part.name == "weights").bytes > QWEN_7B.facts().weight_bytes


def test_gpus_without_bfloat16_are_offered_unless_it_was_asked_for() -> None:
    """vLLM computes a checkpoint in bfloat16 in float16 there, and refuses bfloat16 that is asked for."""
    model = replace(QWEN_7B.facts(), dtype="bfloat16")
    table = (Price("x", "V100-32GB", 1, 0.5, "2026-01-01"), Price("x", "L40S", 1, 1.0, "2026-01-01"))
    for dtype, kinds in ((None, ["V100-32GB", "L40S"]), ("float16", ["V100-32GB", "L40S"]), ("bfloat16", ["L40S"])):
        found = offers(model, Spec(model="x", dtype=dtype), "vllm", table)  # type: ignore[arg-type]
        assert [made.device.name for made in found] == kinds
    assert [made.device.name for made in offers(model, Spec(model="x"), "sglang", table)] == ["L40S"]
