"""Anthropic's Messages API over engines that speak chat completions: both ways, streams, tools, errors, counts."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.engines import llamacpp, sglang, tgi, vllm
from modelport.errors import ModelportError
from modelport.gateway.anthropic import of_chat
from modelport.gateway.anthropic_request import to_chat, to_count
from modelport.gateway.anthropic_stream import Stream
from modelport.gateway.anthropic_tokens import count_tokens
from tests.gateway.anthropic_answers import (
    HELLO,
    IMAGE,
    LLAMACPP_STREAM,
    LLAMACPP_WHOLE,
    PNG,
    TIME,
    TWO_CALLS,
    WEATHER,
    call,
    vllm_stream,
    vllm_whole,
)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 100, "messages": HELLO} | fields).encode()


def chat(**fields: Any) -> dict[str, Any]:
    return json.loads(to_chat(body(**fields)).body)


def user(*blocks: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def whole(answer: bytes, **fields: Any) -> dict[str, Any]:
    return json.loads(of_chat(answer, to_chat(body(**fields)), "r1"))


def events(out: bytes) -> list[dict[str, Any]]:
    found = []
    for event in out.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def translated(stream: bytes, cuts: tuple[int, ...] = (), **fields: Any) -> bytes:
    into = Stream(to_chat(body(stream=True, **fields)), "r1")
    edges = (0, *sorted(cuts), len(stream))
    return b"".join(into.feed(stream[a:b]) for a, b in pairwise(edges)) + into.end()


# Requests


def test_every_setting_arrives_under_openais_name_and_nothing_else_does() -> None:
    sent = chat(
        stream=True, system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=["END"], temperature=0.5, top_p=0.9, top_k=40, metadata={"user_id": "u1"},
        service_tier="auto", chat_template="{{ evil }}", n=50,
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    )  # fmt: skip
    assert sent == {
        "model": "m", "max_tokens": 100, "stream": True, "stream_options": {"include_usage": True}, "stop": ["END"],
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "user": "u1", "reasoning_effort": "high",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "output", "schema": {"type": "object"}}},
    }  # fmt: skip


def test_a_round_of_tools_keeps_ids_order_errors_and_images() -> None:
    messages = [
        *HELLO,
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "I ask."},
            {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Zürich", "big": 2**70}},
            {"type": "tool_use", "id": "call_b", "name": "time", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "call_a", "content": [{"type": "text", "text": "sun"}, IMAGE]},
            {"type": "tool_result", "tool_use_id": "call_b", "content": "no clock", "is_error": True},
            {"type": "text", "text": "and?"},
        ]},
    ]  # fmt: skip
    _, assistant, *results, last = chat(messages=messages, tools=[WEATHER, TIME])["messages"]
    assert assistant["content"] == "I ask." and assistant["reasoning_content"] == assistant["reasoning"] == "hm"
    assert [c["id"] for c in assistant["tool_calls"]] == ["call_a", "call_b"]
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"city": "Zürich", "big": 2**70}
    assert results == [
        {"role": "tool", "tool_call_id": "call_a", "content": "sun"},
        {"role": "tool", "tool_call_id": "call_b", "content": "Error: no clock"},
    ]
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert last["role"] == "user" and last["content"][1:] == [image, {"type": "text", "text": "and?"}]


@pytest.mark.parametrize(
    ("choice", "offered", "sent"),
    [
        ({"type": "auto"}, ["weather", "time"], "auto"),
        ({"type": "any"}, ["weather", "time"], "required"),
        ({"type": "tool", "name": "time"}, ["time"], "required"),
        ({"type": "none"}, ["weather", "time"], "none"),
    ],
)
def test_tool_choices(choice: dict[str, Any], offered: list[str], sent: str) -> None:
    asked = chat(tools=[WEATHER, TIME], tool_choice=choice | {"disable_parallel_tool_use": True})
    assert [tool["function"]["name"] for tool in asked["tools"]] == offered
    assert asked["tool_choice"] == sent and asked["parallel_tool_calls"] is False
    assert chat(tools=[WEATHER])["tools"][0]["function"]["parameters"] == WEATHER["input_schema"]


def test_neighbours_of_one_role_are_one_turn_and_system_messages_stand_first() -> None:
    messages = [*HELLO, {"role": "system", "content": "Be kind."}, *user({"type": "text", "text": "there"})]
    assert chat(messages=messages, system="Be brief.")["messages"] == [
        {"role": "system", "content": "Be brief.\nBe kind."},
        {"role": "user", "content": "hello\nthere"},
    ]


def test_documents_of_text_are_read_and_image_addresses_left_to_the_media_policy() -> None:
    document = {
        "type": "document",
        "title": "T",
        "source": {"type": "text", "media_type": "text/plain", "data": "long"},
    }
    assert chat(messages=user(document))["messages"][0]["content"] == "T\nlong"
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    request = to_chat(body(messages=user(image)))
    assert request.has_media and not to_chat(body(messages=user(document))).has_media
    assert json.loads(request.body)["messages"][0]["content"][0]["image_url"]["url"] == "https://example.org/a.png"


@pytest.mark.parametrize(
    ("type", "on", "shown"), [("enabled", True, True), ("adaptive", True, True), ("disabled", False, False)]
)
def test_thinking_is_switched_in_the_chat_template(type: str, on: bool, shown: bool) -> None:
    request = to_chat(body(thinking={"type": type, "budget_tokens": 2048}))
    assert json.loads(request.body)["chat_template_kwargs"] == {"enable_thinking": on, "thinking": on}
    assert request.shows_thinking is shown
    assert not to_chat(body(thinking={"type": "enabled", "display": "omitted"})).shows_thinking
    assert "chat_template_kwargs" not in chat() and to_chat(body()).shows_thinking


def test_an_answer_begun_by_the_client_is_gone_on_with_and_not_repeated() -> None:
    begun = [*HELLO, {"role": "assistant", "content": "The city of"}]
    asked = chat(messages=begun)
    assert asked["continue_final_message"] is True and asked["add_generation_prompt"] is False
    assert whole(json.dumps(LLAMACPP_WHOLE).encode(), messages=begun)["content"] == [{"type": "text", "text": " Paris"}]
    assert (
        whole(vllm_whole({"content": "The city of Paris"}), messages=begun)["content"][0]["text"] == "The city of Paris"
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": user({"type": "hologram"})}, "messages[0].content[0].type"),
    ({"messages": user({"text": "x"})}, "messages[0].content[0].type"),
    ({"messages": user({"type": "text", "text": 5})}, "messages[0].content[0].text"),
    ({"messages": user({"type": "tool_use", "id": "a", "name": "b", "input": {}})}, "messages[0].content[0]"),
    ({"messages": [*HELLO, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": [1]}]}]}, "messages[1].content[0].input"),
    ({"messages": user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}})}, "messages[0].content[0].source"),
    ({"messages": user({"type": "image", "source": {"type": "file", "file_id": "f"}})}, "messages[0].content[0].source"),
    ({"messages": user({"type": "image", "source": {"type": "base64", "media_type": "text/html", "data": PNG}})}, "messages[0].content[0].source.media_type"),
    ({"messages": user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a,b"}})}, "messages[0].content[0].source.data"),
    ({"messages": user({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "tool_reference"}]})}, "messages[0].content[0].content[0].type"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
    ({"tools": [{"name": "x", "input_schema": []}]}, "tools[0].input_schema"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "nope"}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "often"}}, "tool_choice.type"),
    ({"thinking": {"type": "sometimes"}}, "thinking.type"),
    ({"mcp_servers": [{"url": "https://example.org"}]}, "mcp_servers"),
    ({"stop_sequences": "END"}, "stop_sequences"),
    ({"stream": "yes"}, "stream"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "place"), WRONG)
def test_what_cannot_be_translated_is_refused_with_its_place(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ModelportError) as caught:
        to_chat(body(**fields))
    assert caught.value.kind.status == 400 and caught.value.param == place
    assert place in caught.value.message and "`" not in caught.value.message


def test_tools_of_anthropics_servers_are_refused_by_name() -> None:
    with pytest.raises(ModelportError, match="'web_search' is 'web_search_20250305'"):
        to_chat(body(tools=[{"type": "web_search_20250305", "name": "web_search"}]))


@pytest.mark.parametrize("key", ["model", "stream", "max_tokens"])
@pytest.mark.parametrize("spelling", ["{}", "\\u{:04x}{}"])
def test_a_key_that_decides_something_may_stand_only_once(key: str, spelling: str) -> None:
    again = spelling.format(key) if spelling == "{}" else spelling.format(ord(key[0]), key[1:])
    twice = body(stream=False)[:-1] + f', "{again}": null}}'.encode()
    with pytest.raises(ModelportError):
        to_chat(twice)


@pytest.mark.parametrize(
    "broken", [b"", b"[]", b"{", b"\xff", b'{"model":"m","messages":' + b"[" * 100_000, b'{"model": "\\ud800"}']
)
def test_a_body_that_is_no_json_object_is_refused(broken: bytes) -> None:
    with pytest.raises(ModelportError):
        to_chat(broken)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "text", "source", "content", "id", "name", "input", "role", "data", "media_type"]),
        inner | st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "user", "base64"]), max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {},
        optional={name: JSON for name in ("messages", "system", "tools", "tool_choice", "thinking", "output_config")},
    )
)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_translated_or_refused(fields: dict[str, Any]) -> None:
    try:
        json.loads(to_chat(body(**fields)).body)
    except ModelportError as error:
        assert error.kind.status == 400


# Answers


@pytest.mark.parametrize(
    ("finish", "stopped_at", "expected"),
    [
        ("stop", None, ("end_turn", None)),
        ("stop", "END", ("stop_sequence", "END")),
        ("stop", 128009, ("end_turn", None)),
        ("stop", "<|im_end|>", ("end_turn", None)),
        ("length", None, ("max_tokens", None)),
        ("content_filter", None, ("refusal", None)),
    ],
)
def test_why_an_answer_ended(finish: str, stopped_at: Any, expected: tuple[str, str | None]) -> None:
    answer = whole(vllm_whole({"content": "x"}, finish, stopped_at), stop_sequences=["END"])
    assert (answer["stop_reason"], answer["stop_sequence"]) == expected
    delta = events(translated(vllm_stream([{"content": "x"}], finish, stopped_at), stop_sequences=["END"]))[-2]["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == expected


def test_cached_tokens_are_counted_apart() -> None:
    expected = {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 32, "output_tokens": 8}
    assert whole(vllm_whole({"content": "x"}))["usage"] == expected
    start, *_, delta, _ = events(translated(vllm_stream([{"content": "x"}])))
    assert start["message"]["usage"]["input_tokens"] == 40 and delta["usage"] == expected
    assert events(translated(LLAMACPP_STREAM))[-2]["usage"] == expected | {
        "input_tokens": 1,
        "cache_read_input_tokens": 37,
        "output_tokens": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"city": "Zürich"}', {"city": "Zürich"}),
        ("", {}),
        ({"city": "Bern"}, {"city": "Bern"}),
        ('{"city": "Zü', {"INVALID_JSON": '{"city": "Zü'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_arguments_of_a_tool_call_are_an_object_whatever_the_model_wrote(
    arguments: Any, expected: dict[str, Any]
) -> None:
    said = {
        "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": arguments}}]
    }
    answer = whole(vllm_whole(said, "stop"))  # as vLLM says it where a call was asked for
    assert answer["content"] == [{"type": "tool_use", "id": "call_a", "name": "weather", "input": expected}]
    assert answer["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{}",
        b'{"choices":[]}',
        b'{"error":{"message":"CUDA error at /opt/x"}}',
        vllm_whole({"content": "x"}, "abort"),
    ],
)
def test_an_answer_that_is_none_is_the_engines_fault(broken: bytes) -> None:
    with pytest.raises(ModelportError) as caught:
        whole(broken)
    assert caught.value.kind.status == 502 and "CUDA" not in caught.value.message


# Streams


def test_blocks_come_one_after_the_other() -> None:
    out = events(translated(vllm_stream(TWO_CALLS, "tool_calls")))
    assert [e["type"] for e in out] == [
        "message_start",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert out[0]["message"]["id"] == "msg_r1" and out[0]["message"]["model"] == "m"
    assert (
        "".join(e["delta"]["thinking"] for e in out if e.get("delta", {}).get("type") == "thinking_delta")
        == "Two tools."
    )
    assert [e["index"] for e in out if e["type"] == "content_block_start"] == [0, 1, 2, 3]
    assert out[-2]["delta"]["stop_reason"] == "tool_use"


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
PIECE = st.one_of(
    st.builds(lambda t: {"content": t}, TEXT),
    st.builds(lambda t: {"reasoning_content": t}, TEXT),
    st.builds(lambda t: {"tool_calls": t}, TEXT),
)


@given(st.lists(PIECE, max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_no_cut_of_the_stream_loses_or_doubles_anything(pieces: list[dict[str, str]], data: st.DataObject) -> None:
    deltas = [
        call(i, piece["tool_calls"], "weather", f"call_{i}") if "tool_calls" in piece else piece
        for i, piece in enumerate(pieces)
    ]
    stream = vllm_stream(deltas)
    if data.draw(st.booleans()):
        stream = b": comment\r\n\r\n" + stream.replace(b"\n", b"\r\n")
    cuts = tuple(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    out = translated(stream, cuts)
    assert out == translated(stream)
    got = [(e["delta"]["type"], e["delta"].get("text") or e["delta"].get("thinking") or e["delta"]["partial_json"])
           for e in events(out) if e["type"] == "content_block_delta"]  # fmt: skip
    names = {"content": "text_delta", "reasoning_content": "thinking_delta", "tool_calls": "input_json_delta"}
    assert got == [(names[name], text) for piece in pieces for name, text in piece.items()]
    assert events(out)[-1]["type"] == "message_stop"


@given(st.integers(0, len(vllm_stream(TWO_CALLS, "tool_calls"))))
@settings(max_examples=200, deadline=None)
def test_a_stream_broken_off_anywhere_before_its_finish_ends_with_an_error(at: int) -> None:
    stream = vllm_stream(TWO_CALLS, "tool_calls")
    last = events(translated(stream[:at]))[-1]
    finished = at >= stream.index(b'"finish_reason": "tool_calls"')
    assert last["type"] == "error" or (finished and last["type"] == "message_stop")
    assert finished or last["error"]["type"] == "api_error"


@pytest.mark.parametrize(
    "tail",
    [
        b'data: {"error": {"message": "CUDA error at /opt/x", "code": 500}}\n\ndata: [DONE]\n\n',
        b'error: {"message": "CUDA"}\n\n',
        b"data: {broken\n\n",
        b"data: [DONE]\n\n",
        b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 3, "function": {"arguments": "{}"}}]}}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]}\n\n',
        b"data: " + b"x" * (9 << 20),
    ],
    ids=["error", "error line", "no JSON", "done too early", "arguments without a call", "abort", "endless"],
)
def test_an_engine_that_fails_in_mid_stream_is_an_error_event_and_the_last_one(tail: bytes) -> None:
    begun = vllm_stream([{"content": "half"}], finish=None).split(b"data: [DONE]")[0]
    into = Stream(to_chat(body(stream=True)), "r1")
    out = into.feed(begun) + into.feed(tail)
    assert into.ended and not into.complete
    assert into.feed(LLAMACPP_STREAM) + into.end() + into.fail(ModelportError("x")) == b""
    *before, error = events(out)
    assert any(e.get("delta", {}).get("text") == "half" for e in before)
    assert error["type"] == "error" and error["request_id"] == "r1" and "CUDA" not in error["error"]["message"]


def test_thoughts_are_kept_back_where_thinking_is_off() -> None:
    out = translated(vllm_stream(TWO_CALLS, "tool_calls"), thinking={"type": "disabled"})
    assert b"tools." not in out and b"I ask." in out
    said = {"content": "x", "reasoning": "hm"}
    assert [b["type"] for b in whole(vllm_whole(said))["content"]] == ["thinking", "text"]
    assert [b["type"] for b in whole(vllm_whole(said), thinking={"type": "disabled"})["content"]] == ["text"]


# Counting


def counted(routes: tuple[str, ...], answers: dict[str, Any], **fields: Any) -> tuple[Any, list[tuple[str, Any]]]:
    asked: list[tuple[str, Any]] = []

    async def ask(method: str, path: str, sent: bytes) -> bytes:
        asked.append((f"{method} {path}", json.loads(sent)))
        return json.dumps(answers[path]).encode()

    request = to_count(json.dumps({"model": "m", "messages": HELLO} | fields).encode())
    return json.loads(asyncio.run(count_tokens(request, routes, ask))), asked


def test_llamacpp_counts_what_its_template_makes() -> None:
    answers = {"/apply-template": {"prompt": "<s>hello"}, "/tokenize": {"tokens": [1, 2, 3]}}
    count, asked = counted(llamacpp.ROUTES["generate"], answers, tools=[WEATHER])
    assert count == {"input_tokens": 3}
    assert [route for route, _ in asked] == ["POST /apply-template", "POST /tokenize"]
    assert asked[0][1]["tools"] and asked[1][1] == {"content": "<s>hello", "add_special": True, "parse_special": True}
    with pytest.raises(ModelportError, match="text only"):
        counted(llamacpp.ROUTES["generate"], answers, messages=user(IMAGE))


def test_vllm_counts_messages_itself() -> None:
    count, asked = counted(
        vllm.ROUTES["generate"], {"/tokenize": {"count": 42, "max_model_len": 4096, "tokens": []}}, system="s"
    )
    assert count == {"input_tokens": 42} and len(asked) == 1
    assert [m["role"] for m in asked[0][1]["messages"]] == ["system", "user"] and "max_tokens" not in asked[0][1]


@pytest.mark.parametrize("routes", [sglang.ROUTES["generate"], tgi.ROUTES, ()])
def test_an_engine_that_cannot_count_is_said_so(routes: tuple[str, ...]) -> None:
    with pytest.raises(ModelportError) as caught:
        counted(routes, {})
    assert caught.value.kind.status == 404
