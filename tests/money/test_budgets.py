"""Budgets of several subjects at once, what is refused before anything is sent, and caps that are changed."""

import threading
import time
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from modelport.domain.budget import Budget
from modelport.domain.price import Price
from tests.fakes.answering import Answering, whole
from tests.gateway.world import PLAIN, chat, free_port, until
from tests.money.world import ENGINE_ROUTES, Till, together


def test_the_tightest_of_key_team_and_service_holds_and_the_others_are_not_charged_for_what_it_refused(
    till: Till,
) -> None:
    till.on("three", till.engine(), "stub", ENGINE_ROUTES)
    key = till.holder(team="red")
    ids = [
        till.budget(subject, "requests", cap)
        for subject, cap in ((f"key:{key.id}", 10), ("team:red", 3), ("service:three", 10))
    ]
    statuses = [till.ask(key, "three").status_code for _ in range(5)]
    assert statuses == [200] * 3 + [402] * 2
    refusal = till.ask(key, "three").json()["error"]
    assert refusal["code"] == "budget_spent" and "team:red" in refusal["message"]
    for budget in ids:
        till.spent(budget, 3)


@pytest.mark.parametrize(
    ("path", "more", "fits"),
    [
        ("/v1/chat/completions", {"max_tokens": 100}, True),
        ("/v1/chat/completions", {"max_tokens": 40, "n": 3}, False),
        ("/v1/chat/completions", {"max_tokens": 1, "max_completion_tokens": 101}, False),
        ("/v1/chat/completions", {"max_tokens": None}, False),
        ("/v1/completions", {"prompt": ["a", "b", "c"], "max_tokens": 40}, False),
        ("/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 51}, False),
        ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 100}, True),
        ("/v1/completions", {"prompt": "a", "best_of": 3, "max_tokens": 40}, False),
        ("/v1/responses", {"input": "a", "max_output_tokens": 101}, False),
        ("/v1/messages", {"max_tokens": 101}, False),
        ("/generate", {"text": "a", "sampling_params": {"max_new_tokens": 101}}, False),
        ("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 60, "best_of": 2}}, False),
        ("/generate", {"text": ["a", "b", "c"], "sampling_params": {"max_new_tokens": 40}}, False),
        ("/generate", {"inputs": "a"}, False),
        ("/services/bounds/classify", {"max_tokens": 1}, False),
    ],
)
def test_the_worst_case_counts_every_answer_that_a_body_may_ask_for(
    till: Till, path: str, more: dict[str, Any], fits: bool
) -> None:
    if "bounds" not in BOUNDS:
        BOUNDS["bounds"] = engine = till.answering("bounds")
        for route in ENGINE_ROUTES:
            engine.answers[route.split()[1]] = whole({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    key = till.holder()
    till.budget(f"key:{key.id}", "output_tokens", 100)
    sent = len(BOUNDS["bounds"].asked)
    answer = till.post(key, path, {**chat("bounds"), **more})
    assert answer.status_code == (200 if fits else 402), answer.text
    assert len(BOUNDS["bounds"].asked) == sent + fits


BOUNDS: dict[str, Any] = {}


def test_counting_tokens_is_a_request_and_no_tokens_translated_or_not(till: Till) -> None:
    engine = Answering()
    till.stack.callback(engine.stop)
    engine.answers["/tokenize"] = whole({"count": 3})
    till.on("counts", engine, "vllm", ("POST /v1/chat/completions", "POST /tokenize", "POST /detokenize"))
    key = till.holder()
    tokens = till.budget(f"key:{key.id}", "tokens", 10)
    requests = till.budget(f"key:{key.id}", "requests", 2)
    for _ in range(2):
        answer = till.post(key, "/v1/messages/count_tokens", chat("counts"))
        assert answer.status_code == 200 and answer.json() == {"input_tokens": 3}, answer.text
    assert till.post(key, "/v1/messages/count_tokens", chat("counts")).status_code == 402
    till.spent(requests, 2)
    assert till.balance(tokens).spent == 0


def test_what_waited_for_a_place_and_got_none_took_nothing(till: Till) -> None:
    engine = till.engine()
    till.on("full", engine, "stub", ENGINE_ROUTES, limits={"in_flight": 1, "queue_timeout": 0.2})
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "requests", 2)
    request = chat("full", max_tokens=3, stub={"delay_s": 1})
    replies = together([(till.port, key.secret, request)] * 2)
    assert sorted(reply.status for reply in replies) == [200, 429]
    till.spent(budget, 1)
    assert till.ask(key, "full").status_code == 200


def test_a_request_that_goes_on_to_another_service_counts_once_and_at_that_ones_price(till: Till) -> None:
    engine, other = till.engine(), till.engine()
    dear, cheap = Price(output=1_000_000), Price(output=1000)
    till.on("second", other, "stub", ENGINE_ROUTES, price=cheap)
    till.on("first", engine, "stub", ENGINE_ROUTES, price=dear, failover={"to": "second", "on": ["unreachable"]})
    engine.stop()
    key = till.holder()
    requests = till.budget(f"key:{key.id}", "requests", 2)
    money = till.budget(f"key:{key.id}", "money", 1000)
    first = till.budget("service:first", "requests", 10)
    assert till.ask(key, "first", max_tokens=20).status_code == 200
    assert till.ask(key, "first", max_tokens=20).status_code == 200
    till.spent(requests, 2)
    till.spent(money, 2 * 8 * 1000 * 1000)
    assert till.balance(first).spent == 0
    assert till.ask(key, "first", max_tokens=20).status_code == 402


def test_a_service_without_keys_has_its_budget_all_the_same(till: Till) -> None:
    port = free_port()
    till.on("open", till.engine(), "stub", ENGINE_ROUTES, port=port, auth="none")
    budget = till.budget("service:open", "requests", 2)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"

    def listens() -> bool:
        try:
            return bool(PLAIN.get(f"http://127.0.0.1:{port}/healthz").status_code)
        except httpx.HTTPError:
            return False

    until(listens)
    assert [PLAIN.post(url, json=chat("")).status_code for _ in range(3)] == [200, 200, 402]
    till.spent(budget, 2)


def test_a_cap_that_is_lowered_holds_within_a_second_or_so(till: Till) -> None:
    """What a gateway had leased under the old cap goes back; else it could spend a twentieth of that."""
    till.on("lowered", till.engine(), "stub", ENGINE_ROUTES)
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "requests", 100_000)
    assert till.ask(key, "lowered").status_code == 200
    till.spent(budget, 1)
    assert till.budget(f"key:{key.id}", "requests", 3) == budget
    lowered, served = time.monotonic(), 0
    while till.ask(key, "lowered").status_code == 200:
        served += 1
        assert time.monotonic() < lowered + 2, f"{served} were served beyond the cap"


def test_a_cap_that_is_raised_is_in_force_at_once(till: Till) -> None:
    till.on("raised", till.engine(), "stub", ENGINE_ROUTES)
    key = till.holder()
    till.budget(f"key:{key.id}", "requests", 1)
    assert [till.ask(key, "raised").status_code for _ in range(2)] == [200, 402]
    till.budget(f"key:{key.id}", "requests", 2)
    until(lambda: till.ask(key, "raised").status_code == 200, 3)
    assert till.ask(key, "raised").status_code == 402


def test_a_cap_that_no_column_holds_is_refused_and_the_largest_that_is_not_is_kept(till: Till) -> None:
    """Money is counted in billionths: 9.2e9 of it fill 63 bits."""
    key = till.holder()
    for unit, cap in (("money", 9e9), ("audio_seconds", 1e12), ("tokens", 1e12)):
        till.budget(f"key:{key.id}", unit, cap)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Budget(subject=f"key:{key.id}", unit="money", cap=1e10)


def test_a_budget_that_only_warns_lets_all_through_and_says_so(till: Till) -> None:
    till.on("soft", till.engine(), "stub", ENGINE_ROUTES)
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "requests", 2, hard=False)
    replies = [till.ask(key, "soft") for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200] * 5
    assert "x-modelport-budget-warning" in replies[-1].headers
    till.spent(budget, 5)


def test_a_gateway_that_is_told_to_end_settles_what_is_under_way(fresh: Till) -> None:
    fresh.on("ending", fresh.engine(), "stub", ENGINE_ROUTES)
    key = fresh.holder()
    budget = fresh.budget(f"key:{key.id}", "tokens", 10**6)
    fresh.gateway()
    asked = chat("ending", max_tokens=30, stub={"tokens": 30, "token_s": 0.05})
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(fresh.post(key, "/v1/chat/completions", asked).status_code))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(fresh.records()[0]) == 4)
    fresh.stop()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    assert fresh.agree(budget, "tokens") == sum(row.input_tokens + 30 for row in fresh.rows())
