"""Anthropic's official SDK through the whole gateway, to engines that know OpenAI's chat only and to one that does."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from modelport.domain.limits import Limits
from tests.fakes.answering import Answer, Answering, streamed, whole
from tests.gateway.anthropic_answers import HELLO, LLAMACPP_STREAM, TIME, TWO_CALLS, WEATHER, vllm_stream
from tests.gateway.sdk import PNG, completion, serve
from tests.gateway.world import World, until

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
TRANSLATED = (f"POST {CHAT}", "POST /tokenize", "POST /detokenize")
NATIVE = (*TRANSLATED, f"POST {MESSAGES}", f"POST {COUNT}")
ASKING: dict[str, Any] = {"model": "claude", "max_tokens": 50, "messages": HELLO}


@pytest.fixture
def sdk(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key=world.admin, base_url=world.url, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def behind(world: World) -> Iterator[tuple[Answering, Answering]]:
    translated, native = Answering(), Answering()
    serve(world, "claude", translated, TRANSLATED)
    serve(world, "native", native, NATIVE)
    yield translated, native
    translated.stop()
    native.stop()


@pytest.fixture
def told(behind: tuple[Answering, Answering]) -> Answering:
    """The engine behind `claude`, which knows chat completions."""
    behind[0].answers.clear()
    behind[0].asked.clear()
    return behind[0]


@pytest.fixture
def native(behind: tuple[Answering, Answering]) -> Answering:
    """The engine behind `native`, which knows messages itself."""
    behind[1].answers.clear()
    behind[1].asked.clear()
    return behind[1]


def stream_of(data: bytes) -> Answer:
    """An engine's stream, cut where nothing ends."""
    parts = tuple(data[at : at + 50] for at in range(0, len(data), 50))
    return Answer(parts, kind="text/event-stream", stream=True)


def test_a_message_whole_with_its_usage_settled_once(world: World, sdk: anthropic.Anthropic, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "Grüße 👋"}))
    message = sdk.messages.create(**ASKING, system="Be kind.", stop_sequences=["X"], extra_body={"top_k": 4})
    assert message.content[0].type == "text" and message.content[0].text == "Grüße 👋"
    assert (message.model, message.stop_reason, message.role) == ("claude", "end_turn", "assistant")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (8, 32)
    asked = told.asked[-1].body
    assert [said["role"] for said in asked["messages"]] == ["system", "user"]
    assert (asked["stop"], asked["max_tokens"], asked["top_k"]) == (["X"], 50, 4)
    assert message._request_id is not None
    line = world.line(message._request_id)
    assert (line["route"], line["service"], line["status"]) == (MESSAGES, "claude", 200)
    assert (line["input_tokens"], line["output_tokens"], line["cached_tokens"]) == (40, 8, 32)


@pytest.mark.parametrize("data", [LLAMACPP_STREAM, vllm_stream([{"content": "Par"}, {"content": "is"}], "length")])
def test_a_stream_is_anthropic_s_own_events_and_its_usage_is_counted(
    world: World, sdk: anthropic.Anthropic, told: Answering, data: bytes
) -> None:
    told.answers[CHAT] = stream_of(data)
    with sdk.messages.stream(**ASKING) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
        name = stream.response.headers["request-id"]
    assert (events[0], events[-1]) == ("message_start", "message_stop")
    assert final.content[0].type == "text" and final.content[0].text == "Paris"
    assert final.stop_reason == "max_tokens"
    assert told.asked[-1].body["stream_options"]["include_usage"] is True
    line = world.line(name)
    told_input = final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0)
    assert (line["input_tokens"], line["output_tokens"]) == (told_input, final.usage.output_tokens)
    assert line["stream"] and not line["estimated"]


def test_a_round_of_tools(sdk: anthropic.Anthropic, told: Answering) -> None:
    tools: Any = [WEATHER, TIME]
    told.answers[CHAT] = stream_of(vllm_stream(TWO_CALLS, "tool_calls"))
    with sdk.messages.stream(**ASKING, tools=tools, tool_choice={"type": "any"}) as stream:
        asking = stream.get_final_message()
    uses = [block for block in asking.content if block.type == "tool_use"]
    assert [(use.name, use.input) for use in uses] == [("weather", {"city": "Zürich"}), ("time", {})]
    assert asking.stop_reason == "tool_use" and asking.content[0].type == "thinking"
    assert told.asked[-1].body["tool_choice"] == "required"
    told.answers[CHAT] = whole(completion({"content": "Sunny at noon."}))
    results: Any = [{"type": "tool_result", "tool_use_id": use.id, "content": f"{use.name}!"} for use in uses]
    history: Any = [*HELLO, {"role": "assistant", "content": asking.content}, {"role": "user", "content": results}]
    done = sdk.messages.create(**{**ASKING, "messages": history}, tools=tools)
    assert done.content[0].type == "text" and done.content[0].text == "Sunny at noon."
    said = told.asked[-1].body["messages"]
    assert [each["role"] for each in said] == ["user", "assistant", "tool", "tool"]
    assert [each["content"] for each in said[2:]] == ["weather!", "time!"]


def test_images_go_in_as_data_and_never_as_an_address(sdk: anthropic.Anthropic, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a pixel"}))

    def ask(source: dict[str, str]) -> anthropic.types.Message:
        content: Any = [{"type": "text", "text": "what?"}, {"type": "image", "source": source}]
        return sdk.messages.create(**{**ASKING, "messages": [{"role": "user", "content": content}]})

    ask({"type": "base64", "media_type": "image/png", "data": PNG})
    parts = told.asked[-1].body["messages"][0]["content"]
    assert parts[1] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    for address in ("http://127.0.0.1/a.png", "file:///etc/passwd"):
        with pytest.raises(anthropic.BadRequestError, match="fetches no addresses") as refused:
            ask({"type": "url", "url": address})
        assert refused.value.type == "invalid_request_error"
    assert len(told.asked) == 1


def test_tokens_are_counted_by_the_engine_and_cost_none(
    world: World, sdk: anthropic.Anthropic, told: Answering
) -> None:
    told.answers["/tokenize"] = whole({"count": 42, "max_model_len": 4096, "tokens": []})
    counted = sdk.messages.with_raw_response.count_tokens(model="claude", messages=HELLO, system="s", tools=[WEATHER])
    assert counted.parse().input_tokens == 42
    assert told.asked[-1].path == "/tokenize" and len(told.asked[-1].body["messages"]) == 2
    line = world.line(counted.headers["request-id"])
    assert (line["route"], line["status"]) == (COUNT, 200)
    assert (line["input_tokens"], line["output_tokens"]) == (0, 0)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_engine_that_cannot_count_is_an_error_of_anthropic_s(
    sdk: anthropic.Anthropic, told: Answering, status: int
) -> None:
    told.answers["/tokenize"] = whole({"error": {"message": "the prompt is too long"}}, status)
    with pytest.raises(anthropic.APIStatusError) as caught:
        sdk.messages.count_tokens(model="claude", messages=HELLO)
    assert caught.value.status_code == {400: 400, 404: 404, 500: 502}[status] and caught.value.request_id


def test_counting_goes_on_after_the_engine_closed_its_idle_connection(
    sdk: anthropic.Anthropic, told: Answering
) -> None:
    """llama.cpp does so after a while, without a word."""
    told.answers["/tokenize"] = whole({"count": 1, "max_model_len": 4096, "tokens": []})
    for _ in range(3):
        assert sdk.messages.count_tokens(model="claude", messages=HELLO).input_tokens == 1
        told.hang_up()


def test_an_engine_that_knows_messages_is_asked_as_the_client_asked(
    world: World, sdk: anthropic.Anthropic, native: Answering
) -> None:
    usage = {"input_tokens": 8, "cache_read_input_tokens": 32, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "native", "stop_sequence": None}
    text = {"type": "text", "text": "Paris"}
    native.answers[MESSAGES] = whole({**message, "content": [text], "stop_reason": "end_turn", "usage": usage})
    asking: Any = {**ASKING, "model": "native"}
    made = sdk.messages.create(**asking, extra_query={"beta": "true"})
    assert made.id == "msg_1" and native.asked[-1].body == asking and native.asked[-1].path == MESSAGES
    native.answers[MESSAGES] = streamed(
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Paris"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
        named=True,
        done=False,
    )
    with sdk.messages.stream(**asking) as stream:
        final = stream.get_final_message()
        name = stream.response.headers["request-id"]
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 7)
    line = world.line(name)
    assert (line["input_tokens"], line["cached_tokens"], line["output_tokens"]) == (40, 32, 7)
    native.answers[COUNT] = whole({"input_tokens": 9})
    assert sdk.messages.count_tokens(model="native", messages=HELLO).input_tokens == 9
    assert native.asked[-1].path == COUNT


def test_the_address_of_one_service_speaks_anthropic_s_way_too(
    world: World, sdk: anthropic.Anthropic, told: Answering
) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    own = sdk.with_options(base_url=f"{world.url}/services/claude")
    assert own.messages.create(**ASKING)._request_id == told.asked[-1].headers["x-request-id"]
    with pytest.raises(anthropic.NotFoundError) as other:
        own.messages.create(**{**ASKING, "model": "native"})
    assert other.value.type == "not_found_error" and other.value.request_id


# Names, keys and headers


def test_every_answer_has_both_request_ids_and_takes_the_client_s_own(
    sdk: anthropic.Anthropic, told: Answering
) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    raw = sdk.messages.with_raw_response.create(**ASKING)
    assert raw.headers["request-id"] == raw.headers["x-request-id"] == told.asked[-1].headers["x-request-id"]
    named: Any = {"x-request-id": "mine-1"}
    assert sdk.messages.create(**ASKING, extra_headers=named)._request_id == "mine-1"
    with pytest.raises(anthropic.NotFoundError) as missing:
        sdk.messages.create(**{**ASKING, "model": "nobody"}, extra_headers=named)
    assert missing.value.request_id == "mine-1" and missing.value.body["request_id"] == "mine-1"  # type: ignore[index]


def test_a_key_may_come_either_way(world: World, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    ways: list[dict[str, Any]] = [{"api_key": world.admin}, {"auth_token": world.admin}]
    for way in ways:
        with anthropic.Anthropic(base_url=world.url, max_retries=0, **way) as client:
            client.beta.messages.create(**ASKING, betas=["interleaved-thinking-2025-05-14"])  # adds ?beta=true
        assert world.admin not in str(told.asked[-1].headers)


def test_limits_are_seen_by_the_sdk(world: World, sdk: anthropic.Anthropic, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    key = world.key(limits=Limits(requests_per_minute=1))
    world.settle()
    client = sdk.with_options(api_key=key)
    assert client.messages.with_raw_response.create(**ASKING).headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(anthropic.RateLimitError) as limited:
        client.messages.create(**ASKING)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60
    assert limited.value.type == "rate_limit_error"


# Errors

OF_THE_ENGINE = {
    400: (400, anthropic.BadRequestError, "invalid_request_error"),
    401: (502, anthropic.InternalServerError, "api_error"),
    403: (502, anthropic.InternalServerError, "api_error"),
    404: (404, anthropic.NotFoundError, "not_found_error"),
    413: (413, anthropic.RequestTooLargeError, "request_too_large"),
    429: (429, anthropic.RateLimitError, "rate_limit_error"),
    500: (502, anthropic.InternalServerError, "api_error"),
    503: (503, anthropic.ServiceUnavailableError, "overloaded_error"),
    504: (502, anthropic.InternalServerError, "api_error"),
}


def settle_breaker(sdk: anthropic.Anthropic, told: Answering) -> None:
    """A good answer: failures of tests before this one are no longer in a row."""
    told.answers[CHAT] = whole(completion({"content": "a"}))
    until(lambda: succeeded(lambda: sdk.messages.create(**ASKING)))


def succeeded(call: Callable[[], object]) -> bool:
    try:
        call()
    except anthropic.APIStatusError:
        return False
    return True


@pytest.mark.parametrize("status", OF_THE_ENGINE)
def test_errors_of_the_engine_are_the_sdks_own(sdk: anthropic.Anthropic, told: Answering, status: int) -> None:
    shown, expected, type = OF_THE_ENGINE[status]
    settle_breaker(sdk, told)
    told.answers[CHAT] = whole({"error": {"message": "the engine's words"}}, status, retry_after="7")
    for stream in (False, True):
        with pytest.raises(expected) as caught:
            sdk.messages.create(**ASKING, stream=stream)
        assert caught.value.status_code == shown and caught.value.type == type and caught.value.request_id
        assert ("the engine's words" in caught.value.message) == (shown in (400, 404, 413))
        assert caught.value.response.headers.get("retry-after") == ("7" if shown in (429, 503) else None)


def test_errors_of_ours_are_the_sdks_own(world: World, sdk: anthropic.Anthropic, told: Answering) -> None:
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        sdk.with_options(api_key="mp-wrong").messages.create(**ASKING)
    assert unknown.value.type == "authentication_error" and unknown.value.request_id
    narrow = world.key(models=("other",))
    world.settle()
    with pytest.raises(anthropic.PermissionDeniedError) as forbidden:
        sdk.with_options(api_key=narrow).messages.create(**ASKING)
    assert forbidden.value.type == "permission_error"
    with pytest.raises(anthropic.RequestTooLargeError):
        sdk.messages.create(**{**ASKING, "messages": [{"role": "user", "content": "x" * (1 << 20)}]})
    with pytest.raises(anthropic.BadRequestError, match="tools"):
        sdk.messages.create(**ASKING, tools=[{"type": "bash_20250124", "name": "bash"}])
    with pytest.raises(anthropic.NotFoundError, match="no such route") as elsewhere:
        sdk.messages.batches.list()
    assert elsewhere.value.type == "not_found_error"
    assert not told.asked


def test_what_an_sdk_tries_again_is_counted_once(world: World, sdk: anthropic.Anthropic, told: Answering) -> None:
    settle_breaker(sdk, told)
    told.asked.clear()
    told.queued = [whole({"error": {"message": "no"}}, 500), whole({"error": {"message": "no"}}, 529, retry_after="0")]
    told.answers[CHAT] = whole(completion({"content": "a"}))
    key = world.key(name="patient")
    world.settle()
    done = sdk.with_options(api_key=key, max_retries=2).messages.with_raw_response.create(**ASKING)
    assert done.retries_taken == 2 and len(told.asked) == 3
    whose = world.line(done.headers["request-id"])["key_id"]
    lines = until(lambda: found if len(found := [li for li in world.lines() if li["key_id"] == whose]) == 3 else None)
    assert sorted((line["status"], line["output_tokens"]) for line in lines) == [(200, 8), (502, 0), (502, 0)]


def test_a_stream_that_breaks_off_raises(sdk: anthropic.Anthropic, told: Answering) -> None:
    settle_breaker(sdk, told)
    told.answers[CHAT] = stream_of(vllm_stream([{"content": "half"}], finish=None))
    with pytest.raises(anthropic.APIStatusError) as caught, sdk.messages.stream(**ASKING) as stream:
        assert list(stream.text_stream) == ["half"]
    assert caught.value.type == "api_error"


def test_a_large_answer_in_pieces_is_translated_whole(sdk: anthropic.Anthropic, told: Answering) -> None:
    text = "long " * 120_000
    body = json.dumps(completion({"content": text})).encode()
    told.answers[CHAT] = Answer(tuple(body[at : at + 50_000] for at in range(0, len(body), 50_000)))
    message = sdk.messages.create(**ASKING)
    assert message.content[0].type == "text" and message.content[0].text == text
