"""Each way in which other gateways' budgets leaked (published reports), by the number of its report, shut here."""

import time
from typing import Any

import httpx
import pytest

from modelport.control.recount import by_todays_prices, journals
from modelport.domain.limits import Limits
from modelport.domain.price import Price
from modelport.gateway.surface import SURFACES
from modelport.store import budgets, services
from modelport.store import recount as recounting
from tests.fakes.answering import Answering, streamed, whole
from tests.gateway.world import PLAIN, chat, until
from tests.money.world import ENGINE_ROUTES, Holder, Shifted, Till, together

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
OWN = {"input_tokens": 5, "output_tokens": 7}
WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0" + b"\0" * 32_000
"""Two seconds of 8 kHz silence whose header does not say how long it is."""
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"choices": [{"message": {"content": "hi"}}], "usage": USAGE},
    "/v1/completions": {"choices": [{"text": "hi"}], "usage": USAGE},
    "/v1/responses": {"object": "response", "output": [], "usage": {**OWN, "total_tokens": 12}},
    "/v1/messages": {"type": "message", "content": [], "usage": OWN},
    "/v1/embeddings": {"data": [], "usage": {"prompt_tokens": 12, "total_tokens": 12}},
    "/v1/rerank": {"results": [], "usage": {"total_tokens": 12}},
    "/rerank": {"results": [], "usage": {"total_tokens": 12}},
    "/v1/moderations": {"results": [], "usage": {"total_tokens": 12}},
    "/v1/audio/speech": {},
    "/v1/audio/transcriptions": {"text": "hi", "usage": {"type": "duration", "seconds": 2}},
    "/v1/audio/translations": {"text": "hi", "usage": {"type": "duration", "seconds": 2}},
    "/v1/images/generations": {"data": [{}]},
    "/generate": {"text": "hi", "meta_info": {"prompt_tokens": 5, "completion_tokens": 7, "cached_tokens": 0}},
    "/loglikelihood": {"usage": {"prompt_tokens": 12}},
    "/classify": {"data": [], "usage": {"prompt_tokens": 12, "total_tokens": 12}},
}
"""What engines say on each route: twelve tokens, two seconds, an image."""


def body(path: str, model: str) -> dict[str, Any]:
    """Something that the route takes, small enough for any budget here."""
    plain: dict[str, Any] = {"model": model, "input": "speak", "prompt": "make", "query": "q", "documents": ["d"]}
    if "chat" in path or "messages" in path:
        plain = chat(model)
    return plain | ({"max_tokens": 20} if SURFACES.get(path) is None or SURFACES[path].output == "tokens" else {})


def send(till: Till, key: Holder, path: str, model: str, name: str = "") -> httpx.Response:
    """One request on a route, in the form that it takes; `/services/…` for what is no inference route."""
    if path.startswith("/v1/audio/t"):
        headers = {"authorization": f"Bearer {key.secret}", "x-request-id": name or "form"}
        files: Any = {"file": ("a.wav", WAV), "model": (None, model)}
        return PLAIN.post(f"{till.url}{path}", files=files, headers=headers)
    target = path if path in SURFACES else f"/services/{model}{path}"
    return till.post(key, target, body(path, model), name)


def everything(till: Till, name: str, **spec: Any) -> Answering:
    engine = till.answering(name, **spec)
    engine.answers |= {path: whole(answer) for path, answer in ANSWERS.items()}
    return engine


@pytest.fixture(scope="module")
def all_routes(till: Till) -> Answering:
    return everything(till, "all")


# Reserved before, counted once


def test_leak_34732_check_then_increment_race(till: Till) -> None:
    """40 requests that are looked at before any of them was counted: a budget for 10 lets 10 through."""
    till.on("race", till.engine(), "stub", ENGINE_ROUTES)
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "requests", 10)
    replies = together([(till.port, key.secret, chat("race", stub={"delay_s": 0.2}))] * 40)
    assert sorted(reply.status for reply in replies) == [200] * 10 + [402] * 30
    till.spent(budget, 10)


def test_leak_40095_tokens_are_reserved_before_they_are_known(till: Till, all_routes: Answering) -> None:
    """What 30 requests may take at once is held before the first of them has ended."""
    till.on("tokens-race", till.engine(), "stub", ENGINE_ROUTES)
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "output_tokens", 100)
    replies = together([(till.port, key.secret, chat("tokens-race", max_tokens=10, stub={"delay_s": 0.3}))] * 30)
    assert sorted(reply.status for reply in replies) == [200] * 10 + [402] * 20
    till.spent(budget, 80)


def test_leak_27381_a_limit_that_was_set_is_in_force_on_every_route(till: Till, all_routes: Answering) -> None:
    for path in ANSWERS:
        key = till.holder(limits=Limits(requests_per_minute=1))
        assert send(till, key, path, "all").status_code == 200, path
        assert send(till, key, path, "all").status_code == 429, path


def test_leak_27381_limits_of_teams_and_services_are_in_force_too(till: Till) -> None:
    everything(till, "slow-service", limits=Limits(requests_per_minute=1))
    assert [send(till, till.holder(), "/v1/completions", "slow-service").status_code for _ in "ab"] == [200, 429]


# Nothing is free: neither a fresh store, nor a route


def test_leak_26672_null_spend_on_a_fresh_store(fresh: Till) -> None:
    """The budget is there before anything was ever spent, and before the gateway's first start."""
    fresh.on("new", fresh.engine(), "stub", ENGINE_ROUTES)
    key = fresh.holder()
    budget = fresh.budget(f"key:{key.id}", "requests", 2)
    assert (fresh.balance(budget).spent, fresh.standing(budget).remaining) == (0, 2)
    fresh.gateway()
    assert [fresh.ask(key, "new").status_code for _ in range(4)] == [200, 200, 402, 402]
    fresh.spent(budget, 2)


def test_leak_26672_a_budget_of_nothing_allows_nothing(till: Till, all_routes: Answering) -> None:
    key = till.holder()
    till.budget(f"key:{key.id}", "requests", 0)
    before = len(all_routes.asked)
    assert till.ask(key, "all").status_code == 402
    assert len(all_routes.asked) == before


@pytest.mark.parametrize("path", [path for path in ANSWERS if not path.startswith(("/v1/audio", "/v1/images"))])
def test_leak_38176_responses_and_messages_count(till: Till, all_routes: Answering, path: str) -> None:
    """Every route that makes tokens takes them from the same budget; the generic proxy's (bifrost 2873) too."""
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "tokens", 1_000_000)
    assert send(till, key, path, "all").status_code == 200
    till.spent(budget, 12)
    poor = till.holder()
    till.budget(f"key:{poor.id}", "tokens", 1)
    assert send(till, poor, path, "all").status_code == 402


@pytest.mark.parametrize(
    ("path", "unit", "took"),
    [
        ("/v1/audio/speech", "characters", 5),
        ("/v1/audio/transcriptions", "audio_seconds", 2000),
        ("/v1/audio/translations", "audio_seconds", 2000),
        ("/v1/images/generations", "images", 1),
    ],
)
def test_leak_38176_what_is_not_tokens_counts(
    till: Till, all_routes: Answering, path: str, unit: Any, took: int
) -> None:
    key = till.holder()
    budget = till.budget(f"key:{key.id}", unit, 1000)
    assert send(till, key, path, "all").status_code == 200
    till.spent(budget, took)
    poor = till.holder()
    till.budget(f"key:{poor.id}", unit, 0)
    assert send(till, poor, path, "all").status_code == 402


def test_leak_38176_streams_of_responses_and_messages_count(till: Till) -> None:
    engine = till.answering("streams")
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "tokens", 1_000_000)
    engine.answers["/v1/responses"] = streamed(
        {"type": "response.created", "response": {"usage": None}},
        {"type": "response.output_text.delta", "delta": "hi"},
        {"type": "response.completed", "response": {"usage": {**OWN, "total_tokens": 12}}},
        named=True, done=False,
    )  # fmt: skip
    engine.answers["/v1/messages"] = streamed(
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
        named=True, done=False,
    )  # fmt: skip
    for number, path in enumerate(("/v1/responses", "/v1/messages"), 1):
        line = till.took(key, path, {**body(path, "streams"), "stream": True}, f"stream{number}")
        assert (line["input_tokens"], line["output_tokens"], line["estimated"]) == (5, 7, False), path
        till.spent(budget, 12 * number)


def test_leak_2873_the_generic_proxy_counts(till: Till, all_routes: Answering) -> None:
    """A route that we know nothing of counts with what its engine says, else with an estimate; and it is refused where
    the budget is spent."""
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "requests", 3)
    assert send(till, key, "/classify", "all").status_code == 200
    all_routes.answers["/classify"] = whole({"label": "x" * 400})
    line = till.took(key, "/services/all/classify", {"input": "y" * 400}, "unsaid")
    assert line["output_tokens"] >= 100 and line["input_tokens"] >= 100 and line["estimated"]
    assert till.post(key, "/services/all/v1/chat/completions", chat("")).status_code == 200
    till.spent(budget, 3)
    assert send(till, key, "/classify", "all").status_code == 402
    assert till.post(key, "/services/all/v1/chat/completions", chat("")).status_code == 402


# What engines say, as they say it


@pytest.mark.parametrize("stream", [False, True])
def test_leak_37992_an_explicit_zero_stays_zero(till: Till, stream: bool) -> None:
    name = f"zero-{stream}".lower()
    engine = till.answering(name)
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    chunk = {"choices": [{"index": 0, "delta": {"content": "free"}}]}
    answer = streamed(chunk, {"choices": [], "usage": zero}) if stream else whole({"choices": [], "usage": zero})
    engine.answers["/v1/chat/completions"] = answer
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "tokens", 1_000_000)
    line = till.took(key, "/v1/chat/completions", chat(name, stream=stream), name)
    assert (line["input_tokens"], line["output_tokens"], line["estimated"]) == (0, 0, False)
    assert till.ask(key, name).status_code == 200
    assert till.balance(budget).spent == 0


@pytest.mark.parametrize(
    "said",
    [{}, {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, None, "absent"],
    ids=["empty", "nulls", "null", "absent"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_leak_37992_a_null_is_not_a_zero(till: Till, said: Any, stream: bool, request: pytest.FixtureRequest) -> None:
    """An engine that says nothing is estimated, and that is said."""
    name = f"null-{request.node.callspec.id}".lower()
    usage = {} if said == "absent" else {"usage": said}
    text = "x" * 80
    chunks = [{"choices": [{"index": 0, "delta": {"content": "x"}}]} for _ in range(20)]
    engine = till.answering(name)
    engine.answers["/v1/chat/completions"] = (
        streamed(*chunks, {"choices": [], **usage}) if stream else whole({"choices": [{"message": text}], **usage})
    )
    line = till.took(till.holder(), "/v1/chat/completions", chat(name, stream=stream), name)
    assert line["estimated"] and line["output_tokens"] >= 20 and line["input_tokens"] > 0


def test_leak_37992_an_output_that_is_null_beside_an_input_that_is_said_is_estimated(till: Till) -> None:
    engine = till.answering("half")
    half = {"prompt_tokens": 5, "completion_tokens": None}
    engine.answers["/v1/chat/completions"] = whole({"choices": [{"message": "x" * 80}], "usage": half})
    line = till.took(till.holder(), "/v1/chat/completions", chat("half"), "half")
    assert line["input_tokens"] == 5 and line["output_tokens"] >= 20 and line["estimated"]


def test_reasoning_and_cached_tokens_are_part_of_what_is_said_and_not_beside_it(till: Till) -> None:
    engine = till.answering("details", price=Price(input=1000, cached=100, output=2000))
    engine.answers["/v1/chat/completions"] = whole(
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 40},
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
        }
    )
    engine.answers["/v1/messages"] = whole(
        {"usage": {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 50}}
    )
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "money", 1000)
    line = till.took(key, "/v1/chat/completions", chat("details"), "details")
    assert (line["input_tokens"], line["cached_tokens"], line["reasoning_tokens"]) == (100, 40, 30)
    cents = 60 * 1000 + 40 * 100 + 50 * 2000  # a millionth of money each
    assert line["money_nano"] == cents * 1000
    other = till.took(key, "/v1/messages", chat("details", max_tokens=50), "details2")
    assert (other["input_tokens"], other["cached_tokens"], other["money_nano"]) == (100, 40, cents * 1000)
    till.spent(budget, 2 * cents * 1000)


def test_an_engine_that_says_what_cannot_be_breaks_no_book(till: Till) -> None:
    """A number that no column holds would stop every later request from being written down."""
    engine = till.answering("mad", price=Price(input=1_000_000, audio_minute=1_000_000))
    key = till.holder()
    for number, usage in enumerate(
        (
            {"prompt_tokens": 10**30, "completion_tokens": 10**30},
            {"prompt_tokens": -5, "completion_tokens": -7},
            {"type": "duration", "seconds": 1e300},
            {"prompt_tokens": "5"},
            {"prompt_tokens": 1.5},
        )
    ):
        engine.answers["/v1/chat/completions"] = whole({"choices": [], "usage": usage})
        assert till.ask(key, "mad", f"mad{number}").status_code == 200
    engine.answers["/v1/chat/completions"] = whole({"choices": [], "usage": USAGE})
    assert till.ask(key, "mad", "sane").status_code == 200
    until(lambda: any(row.request_id == "sane" for row in till.rows()), what="the row of the request after those")
    rows = [row for row in till.rows() if row.request_id.startswith("mad")]
    assert len(rows) == 5
    assert all(row.input_tokens >= 0 and row.output_tokens >= 0 for row in rows)


def test_a_transcription_that_says_its_duration_as_text_counts_with_it(till: Till) -> None:
    """As vLLM's verbose_json does."""
    engine = till.answering("verbose")
    engine.answers["/v1/audio/transcriptions"] = whole({"text": "hi", "duration": "1.5", "language": "en"})
    send(till, till.holder(), "/v1/audio/transcriptions", "verbose", "verbose")
    assert till.line("verbose")["audio_ms"] == 1500


# Streams that break off (test_streams.py has more)


def test_leak_14457_a_client_that_leaves_is_charged(till: Till) -> None:
    stub = till.engine()
    till.on("left", stub, "stub", ENGINE_ROUTES)
    key = till.holder()
    budget = till.budget(f"key:{key.id}", "output_tokens", 1_000_000)
    headers = {"authorization": f"Bearer {key.secret}", "x-request-id": "left"}
    asked = chat("left", stream=True, stub={"tokens": 500, "token_s": 0.02})
    with PLAIN.stream("POST", f"{till.url}/v1/chat/completions", json=asked, headers=headers) as answer:
        got = 0
        for text in answer.iter_lines():
            got += '"content": "tok' in text
            if got == 10:
                break
    line = till.line("left")
    assert line["status"] == 499 and line["estimated"] and line["output_tokens"] >= 10
    till.spent(budget, line["output_tokens"])


def test_leak_39893_a_broken_stream_is_more_than_a_token(till: Till) -> None:
    """A stream of Anthropic's says one output token when it begins, and the rest only at its end."""
    engine = till.answering("broken")
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}] * 30
    begin = {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}
    engine.answers["/v1/messages"] = streamed(begin, *deltas, named=True, done=False)
    key = till.holder()
    line = till.took(key, "/v1/messages", chat("broken", max_tokens=50, stream=True), "broken")
    assert line["input_tokens"] == 25 and 30 <= line["output_tokens"] <= 31 and line["estimated"]


# One budget, whoever spends it


def test_leak_40020_a_daily_budget_begins_anew_and_one_in_all_does_not(shifted: Shifted) -> None:
    """No counter beside the store's goes on over midnight, and none is lost with it."""
    shifted.on("daily", shifted.engine(), "stub", ENGINE_ROUTES)
    key = shifted.holder()
    daily = shifted.budget(f"key:{key.id}", "requests", 2, period="day")
    ever = shifted.budget(f"key:{key.id}", "requests", 5)
    shifted.gateway()
    assert [shifted.ask(key, "daily").status_code for _ in range(3)] == [200, 200, 402]
    shifted.spent(daily, 2)
    shifted.shift(86400)
    assert [shifted.ask(key, "daily").status_code for _ in range(3)] == [200, 200, 402]
    until(lambda: shifted.standing(daily, time.time() + 86400).balance.spent == 2)
    shifted.shift(2 * 86400)
    assert [shifted.ask(key, "daily").status_code for _ in range(2)] == [200, 402]
    shifted.spent(ever, 5)
    assert shifted.standing(daily).balance.spent == 2, "the first day stays as it was"


def test_leak_36926_a_restart_spends_nothing_by_itself(fresh: Till) -> None:
    """What was spent is not counted again by a gateway that has forgotten it, and no lease stays behind."""
    fresh.on("again", fresh.engine(), "stub", ENGINE_ROUTES)
    key = fresh.holder()
    budget = fresh.budget(f"key:{key.id}", "requests", 8)
    for spent in (2, 4):
        fresh.gateway()
        assert [fresh.ask(key, "again").status_code for _ in range(2)] == [200, 200]
        fresh.stop()
        assert (fresh.balance(budget).spent, fresh.balance(budget).leased) == (spent, 0)
    fresh.gateway()
    fresh.kill()  # -9
    fresh.gateway()
    assert [fresh.ask(key, "again").status_code for _ in range(5)] == [200] * 4 + [402]
    fresh.stop()
    assert fresh.agree(budget, "requests") == 8


def test_leak_20615_a_wrong_price_is_mended_by_recount(fresh: Till) -> None:
    engine = fresh.answering("dear", price=Price(input=1_000_000, output=1_000_000))
    engine.answers["/v1/chat/completions"] = whole({"choices": [], "usage": USAGE})
    key = fresh.holder()
    budget = fresh.budget(f"key:{key.id}", "money", 10**6)
    fresh.gateway()
    for _ in range(3):
        assert fresh.ask(key, "dear", max_tokens=10).status_code == 200
    fresh.spent(budget, 36 * 10**9)
    fresh.stop()
    with fresh.store.write() as tx:
        service = next(one for one in services.all_services(tx) if one.name == "dear")
        spec = service.spec.model_copy(update={"price": Price(input=1, output=1)})
        services.update(tx, service, time.time(), spec=spec)
        cap = budgets.find(tx, budget)
        found = recounting.recount(tx, journals(fresh.directory), cap, time.time(), by_todays_prices(tx, cap))
        assert (found.stored, found.counted, found.settlements) == (36 * 10**9, 36 * 1000, 3)
        assert recounting.apply_difference(tx, found) == found.change
        assert recounting.apply_difference(tx, found) == 0
    assert fresh.balance(budget).spent == 36 * 1000
