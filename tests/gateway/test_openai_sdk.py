"""The official Python SDK against the gateway, as users have it: chat, completions, embeddings, usage, errors."""

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from modelport.domain.budget import Budget
from modelport.domain.limits import Limits
from modelport.store import budgets, keys
from tests.fakes.answering import Answering, streamed, whole
from tests.gateway.sdk import PNG, USAGE, chunk, completion, last, serve
from tests.gateway.world import Engine, World, until

MESSAGES: list = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def sdk(world: World, engine: Engine) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=world.admin, base_url=world.url + "/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def behind(world: World) -> Iterator[Answering]:
    """The engine behind the service `told`."""
    engine = Answering()
    serve(world, "told", engine, served_name="org/told-1.5")
    yield engine
    engine.stop()


@pytest.fixture
def told(behind: Answering) -> Answering:
    """The same without anything in it."""
    behind.answers.clear()
    behind.queued.clear()
    behind.asked.clear()
    behind.drops_kept, behind.silent_s = False, 0.0
    return behind


def test_chat_streams_embeddings_and_models(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    assert answer.usage and answer.usage.completion_tokens == 8
    chunks = list(sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks).startswith("tok0 tok1")
    assert "tiny" in [m.id for m in sdk.models.list()]
    vectors = sdk.embeddings.create(model="tiny", input=["a"], encoding_format="float")
    assert vectors.data[0].embedding == [0.25, -0.5, 1.0]


def test_a_model_is_found_by_each_of_its_names_even_one_with_a_slash(sdk: openai.OpenAI, told: Answering) -> None:
    assert {"told", "org/told-1.5"} <= {model.id for model in sdk.models.list()}
    assert sdk.models.retrieve("told").id == "told"
    assert sdk.models.retrieve("org/told-1.5").id == "org/told-1.5"
    with pytest.raises(openai.NotFoundError, match="'nobody/knows'"):
        sdk.models.retrieve("nobody/knows")


# What goes in and comes out of chat


def test_tools_go_in_and_parallel_calls_come_out_whole(sdk: openai.OpenAI, told: Answering) -> None:
    calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": "weather", "arguments": f'{{"n": {i}}}'}}
        for i in range(2)
    ]
    told.answers[CHAT] = whole(completion({"tool_calls": calls, "reasoning_content": "Two."}, "tool_calls"))
    results: Any = [{"role": "tool", "tool_call_id": call["id"], "content": "sun"} for call in calls]
    history = [*MESSAGES, {"role": "assistant", "tool_calls": calls}, *results]
    answer = sdk.chat.completions.create(
        model="told", messages=history, tools=[WEATHER], tool_choice="auto", parallel_tool_calls=True
    )
    said = answer.choices[0].message
    assert [(call.id, call.function.arguments) for call in said.tool_calls or ()] == [  # type: ignore[union-attr]
        ("call_0", '{"n": 0}'),
        ("call_1", '{"n": 1}'),
    ]
    assert said.reasoning_content == "Two." and answer.choices[0].finish_reason == "tool_calls"  # type: ignore[union-attr]
    assert told.asked[-1].body["messages"] == history and told.asked[-1].body["tools"] == [WEATHER]


def test_parallel_calls_that_come_in_fragments_are_put_together_by_the_sdk(sdk: openai.OpenAI, told: Answering) -> None:
    def piece(index: int, arguments: str, **first: Any) -> dict[str, Any]:
        named = {"id": first["id"], "type": "function"} if first else {}
        function = {"arguments": arguments, **({"name": first["name"]} if first else {})}
        return chunk({"tool_calls": [{"index": index, **named, "function": function}]})

    told.answers[CHAT] = streamed(
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "Two "}),
        chunk({"reasoning_content": "cities."}),
        piece(0, "", id="call_a", name="weather"),
        piece(1, "", id="call_b", name="weather"),
        piece(0, '{"city": "Zü'),
        piece(1, '{"city": '),
        piece(0, 'rich"}'),
        piece(1, '"Rom"}'),
        chunk({}, "tool_calls"),
        last(),
    )
    with sdk.chat.completions.stream(model="told", messages=MESSAGES, tools=[WEATHER]) as stream:
        events = list(stream)
    final = stream.get_final_completion()
    assert [call.function.arguments for call in final.choices[0].message.tool_calls or ()] == [  # type: ignore[union-attr]
        '{"city": "Zürich"}',
        '{"city": "Rom"}',
    ]
    thoughts = [e.chunk.choices[0].delta for e in events if e.type == "chunk"]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in thoughts) == "Two cities."


def test_several_choices_with_logprobs_and_a_response_format(sdk: openai.OpenAI, told: Answering) -> None:
    one = completion({"content": '{"a": 1}'})
    logprobs = {"content": [{"token": "{", "logprob": -0.5, "bytes": [123], "top_logprobs": []}], "refusal": None}
    choices = [{**one["choices"][0], "index": index, "logprobs": logprobs} for index in range(3)]
    told.answers[CHAT] = whole({**one, "choices": choices})
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    answer = sdk.chat.completions.create(
        model="told", messages=MESSAGES, n=3, logprobs=True, top_logprobs=2, response_format=form, seed=7
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.choices[2].logprobs.content[0].logprob == -0.5  # type: ignore[union-attr,index]
    asked = told.asked[-1].body
    assert (asked["n"], asked["logprobs"], asked["top_logprobs"], asked["seed"]) == (3, True, 2, 7)
    assert asked["response_format"] == form
    told.answers[CHAT] = streamed(
        *(chunk({"content": f"{i}"}, index=i, logprobs=logprobs) for i in (0, 1)),
        *(chunk({}, "stop", index=i) for i in (0, 1)),
        last(),
    )
    chunks = list(sdk.chat.completions.create(model="told", messages=MESSAGES, n=2, stream=True))
    assert [c.choices[0].index for c in chunks] == [0, 1, 0, 1]


def test_images_go_in_as_data_and_never_as_an_address(sdk: openai.OpenAI, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a pixel"}))

    def ask(url: str) -> Any:
        parts: Any = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]
        return sdk.chat.completions.create(model="told", messages=[{"role": "user", "content": parts}])

    data = f"data:image/png;base64,{PNG}"
    assert ask(data).choices[0].message.content == "a pixel"
    assert told.asked[-1].body["messages"][0]["content"][1]["image_url"]["url"] == data
    for address in ("http://127.0.0.1/a.png", "https://example.com/a.png", "file:///etc/passwd", "data:image/png,xyz"):
        before = len(told.asked)
        with pytest.raises(openai.BadRequestError, match="data: URL of base64") as refused:
            ask(address)
        assert refused.value.param == "image_url" and refused.value.request_id
        assert len(told.asked) == before, "it reached the engine"


def test_completions_whole_and_streamed(sdk: openai.OpenAI, told: Answering) -> None:
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}

    def part(text: str, finish: str | None = None) -> dict[str, Any]:
        return {**base, "choices": [{"index": 0, "text": text, "finish_reason": finish, "logprobs": None}]}

    told.answers["/v1/completions"] = whole({**part("Paris", "stop"), "usage": USAGE})
    made = sdk.completions.create(model="told", prompt=["a", "b"], max_tokens=4, echo=True, best_of=2)
    assert made.choices[0].text == "Paris" and made.usage and made.usage.total_tokens == 48
    told.answers["/v1/completions"] = streamed(part("Pa"), part("ris", "stop"), {**base, "choices": [], "usage": USAGE})
    stream = sdk.completions.create(model="told", prompt="a", stream=True)
    assert [piece.choices[0].text for piece in stream] == ["Pa", "ris"]
    assert told.asked[-1].body["stream_options"] == {"include_usage": True}


def test_embeddings_in_base64_are_read_by_the_sdk(sdk: openai.OpenAI, told: Answering) -> None:
    told.answers["/v1/embeddings"] = whole(
        {
            "object": "list", "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3},
            "data": [{"object": "embedding", "index": 0, "embedding": "AACAPgAAAL8="}],
        }
    )  # fmt: skip
    answer = sdk.embeddings.with_raw_response.create(model="told", input=[[1, 2, 3]], dimensions=2)
    assert answer.parse().data[0].embedding == [0.25, -0.5]
    assert told.asked[-1].body == {"model": "told", "input": [[1, 2, 3]], "dimensions": 2, "encoding_format": "base64"}


# Usage


def counted(world: World, request_id: str) -> tuple[int, int, int, int, bool]:
    line = world.line(request_id)
    return (
        line["input_tokens"], line["output_tokens"], line["cached_tokens"], line["reasoning_tokens"], line["estimated"]
    )  # fmt: skip


def test_usage_of_a_stream_is_shown_to_those_who_asked_and_counted_for_all(
    world: World, sdk: openai.OpenAI, told: Answering
) -> None:
    told.answers[CHAT] = streamed(chunk({"content": "a"}), chunk({}, "stop"), last())
    ids = []
    for asked in (False, True):
        options: Any = {"stream_options": {"include_usage": True}} if asked else {}
        raw = sdk.chat.completions.with_raw_response.create(model="told", messages=MESSAGES, stream=True, **options)
        chunks = list(raw.parse())
        assert [c.usage.completion_tokens for c in chunks if c.usage] == ([8] if asked else [])
        assert asked or all(c.choices for c in chunks)
        ids.append(raw.headers["x-request-id"])
    assert [counted(world, name) for name in ids] == [(40, 8, 32, 3, False)] * 2


def test_an_engine_s_zero_stays_zero_and_silence_is_an_estimate(
    world: World, sdk: openai.OpenAI, told: Answering
) -> None:
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    told.queued = [
        whole(completion({"content": "a"}, usage=zero)),
        streamed(chunk({"content": "a"}), chunk({}, "stop"), last(zero)),
        whole(completion({"content": "a"}, usage=None)),
        streamed(chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop")),
    ]
    found = []
    for stream in (False, True, False, True):
        raw = sdk.chat.completions.with_raw_response.create(model="told", messages=MESSAGES, stream=stream)
        if stream:
            list(raw.parse())  # type: ignore[call-overload]
        found.append(counted(world, raw.headers["x-request-id"]))
    assert found[0] == found[1] == (0, 0, 0, 0, False)
    assert all(estimated and output > 0 for _, output, _, _, estimated in found[2:])


def test_usage_along_the_way_is_asked_of_engines_that_tell_it_and_shown_to_those_who_asked(
    world: World, sdk: openai.OpenAI
) -> None:
    engine = Answering()
    serve(world, "like-vllm", engine, kind="vllm")
    so_far = [{"prompt_tokens": 40, "completion_tokens": n, "total_tokens": 40 + n} for n in (1, 2)]
    engine.answers[CHAT] = streamed(
        *(chunk({"content": "a"}, usage=used) for used in so_far), chunk({}, "stop", usage=so_far[1]), last()
    )
    wanted: list[tuple[Any, list[int]]] = [
        ({}, []),
        ({"stream_options": {"include_usage": True}}, [8]),
        ({"stream_options": {"include_usage": True, "continuous_usage_stats": True}}, [1, 2, 2, 8]),
    ]
    for options, shown in wanted:
        stream = sdk.chat.completions.create(model="like-vllm", messages=MESSAGES, stream=True, **options)
        assert [c.usage.completion_tokens for c in stream if c.usage] == shown
        assert engine.asked[-1].body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    engine.stop()


# Names, keys and headers


def test_every_answer_has_a_request_id_and_takes_the_client_s_own(sdk: openai.OpenAI, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    first = sdk.chat.completions.create(model="told", messages=MESSAGES)
    assert first._request_id and told.asked[-1].headers["x-request-id"] == first._request_id
    own = sdk.chat.completions.create(model="told", messages=MESSAGES, extra_headers={"x-request-id": "mine-1"})
    assert own._request_id == "mine-1"
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="x", messages=MESSAGES, extra_headers={"x-request-id": "mine-2"})
    assert missing.value.request_id == "mine-2"
    assert sdk.models.with_raw_response.list().headers["x-request-id"].startswith("req-")


def test_a_key_may_come_as_x_api_key_and_reaches_no_engine(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    headers: Any = {"authorization": openai.Omit(), "x-api-key": world.admin}
    sdk.chat.completions.create(model="told", messages=MESSAGES, extra_headers=headers, extra_query={"beta": "true"})
    assert world.admin not in str(told.asked[-1].headers) and told.asked[-1].path == CHAT


def test_limits_are_seen_by_the_sdk(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    key = world.key(limits=Limits(requests_per_minute=1))
    world.settle()
    client = sdk.with_options(api_key=key)
    headers = client.chat.completions.with_raw_response.create(model="told", messages=MESSAGES).headers
    assert headers["x-ratelimit-limit-requests"] == "1" and headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model="told", messages=MESSAGES)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60
    assert limited.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert limited.value.code == "rate_limit_exceeded" and limited.value.type == "rate_limit_error"


# Errors

OF_THE_ENGINE = {
    400: (400, openai.BadRequestError), 401: (502, openai.InternalServerError), 403: (502, openai.InternalServerError),
    404: (404, openai.NotFoundError), 413: (413, openai.APIStatusError), 422: (400, openai.BadRequestError),
    429: (429, openai.RateLimitError), 500: (502, openai.InternalServerError), 502: (502, openai.InternalServerError),
    503: (503, openai.InternalServerError), 504: (502, openai.InternalServerError),
}  # fmt: skip


@pytest.mark.parametrize("status", OF_THE_ENGINE)
def test_errors_of_the_engine_are_the_sdks_own(sdk: openai.OpenAI, told: Answering, status: int) -> None:
    shown, expected = OF_THE_ENGINE[status]
    error = {"message": "the engine's words", "type": "x", "code": None, "param": "messages"}
    told.queued = [whole({"error": error}, status, retry_after="7")]
    with pytest.raises(expected) as caught:
        sdk.chat.completions.create(model="told", messages=MESSAGES)
    assert caught.value.status_code == shown and caught.value.request_id
    assert ("the engine's words" in caught.value.message) == (shown in (400, 404, 413))
    assert caught.value.response.headers.get("retry-after") == ("7" if shown in (429, 503) else None)


def test_errors_of_ours_are_the_sdks_own(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="tinyy", messages=MESSAGES)
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="mp-wrong").models.list()
    with pytest.raises(openai.NotFoundError, match="no such route"):
        sdk.fine_tuning.jobs.list()
    narrow = world.key(models=("other",))
    world.settle()
    with pytest.raises(openai.PermissionDeniedError):
        sdk.with_options(api_key=narrow).chat.completions.create(model="tiny", messages=MESSAGES)
    with pytest.raises(openai.APIStatusError) as large:
        sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * (1 << 20)}])
    assert large.value.status_code == 413
    with pytest.raises(openai.InternalServerError) as late:
        sdk.chat.completions.create(model="tiny", messages=MESSAGES, extra_body={"stub": {"delay_s": 30}})
    assert late.value.status_code == 504 and late.value.code == "engine_timeout"
    with pytest.raises(openai.InternalServerError) as gone:
        sdk.chat.completions.create(model="tiny", messages=MESSAGES, extra_body={"stub": {"cut": "middle"}})
    assert gone.value.status_code == 502


def test_an_engine_that_is_silent_on_its_second_connection_is_given_up_too(sdk: openai.OpenAI, told: Answering) -> None:
    told.answers[CHAT] = whole(completion({"content": "a"}))
    sdk.chat.completions.create(model="told", messages=MESSAGES)
    told.drops_kept, told.silent_s = True, 8.0
    with pytest.raises(openai.InternalServerError) as late:
        sdk.with_options(timeout=6).chat.completions.create(model="told", messages=MESSAGES)
    assert late.value.status_code == 504


def test_a_spent_budget_is_402_and_is_not_tried_again(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    key = world.key(name="poor")
    with world.store.write() as tx:
        named = next(view for view in keys.views(tx) if view.name == "poor")
        budgets.put(tx, Budget(subject=f"key:{named.id}", unit="output_tokens", cap=4), time.time())
    world.settle()
    patient = sdk.with_options(api_key=key, max_retries=2)
    with pytest.raises(openai.APIStatusError) as spent:
        patient.chat.completions.create(model="told", messages=MESSAGES, max_tokens=100)
    assert spent.value.status_code == 402 and spent.value.code == "budget_spent" and not told.asked


def test_what_an_sdk_tries_again_is_counted_once(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    told.queued = [whole({"error": {"message": "no"}}, 500), whole({"error": {"message": "no"}}, 503, retry_after="0")]
    told.answers[CHAT] = whole(completion({"content": "a"}))
    key = world.key(name="patient")
    world.settle()
    client = sdk.with_options(api_key=key, max_retries=2)
    answer = client.chat.completions.with_raw_response.create(model="told", messages=MESSAGES)
    assert answer.retries_taken == 2 and len(told.asked) == 3
    whose = world.line(answer.headers["x-request-id"])["key_id"]
    lines = until(lambda: found if len(found := [li for li in world.lines() if li["key_id"] == whose]) == 3 else None)
    assert sorted((line["status"], line["output_tokens"]) for line in lines) == [(200, 8), (502, 0), (503, 0)]


def test_a_stream_that_breaks_raises_instead_of_ending_quietly(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True, extra_body={"stub": {"cut": "middle"}}
    )
    with pytest.raises(openai.APIError):
        list(stream)
