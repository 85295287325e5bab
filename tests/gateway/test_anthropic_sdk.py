"""Anthropic's official SDK against a real HTTP server that does nothing but translate what engines answered."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import pytest

from modelport import errors
from modelport.engines import vllm
from modelport.errors import ModelportError
from modelport.gateway.anthropic import error_body, of_chat
from modelport.gateway.anthropic_request import ChatRequest, to_chat, to_count
from modelport.gateway.anthropic_stream import Stream
from modelport.gateway.anthropic_tokens import count_tokens
from tests.gateway.anthropic_answers import HELLO, TIME, TWO_CALLS, WEATHER, vllm_stream, vllm_whole

ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "text": (vllm_whole({"content": "Grüße 👋"}), vllm_stream([{"content": "Grü"}, {"content": "ße 👋"}])),
    "tools": (
        vllm_whole({"reasoning": "Two tools.", "content": "I ask.\n", "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}},
            {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ]}, "tool_calls"),
        vllm_stream(TWO_CALLS, "tool_calls"),
    ),
    "broken": (b"{}", vllm_stream([{"content": "half"}], finish=None)),
}  # fmt: skip
KINDS = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, errors.Kind)}


class Translating(BaseHTTPRequestHandler):
    """Answers by the model's name: one of ANSWERS, or the error of that code. Keeps what the engine would have got."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"]))
        try:
            if self.path == "/v1/messages/count_tokens":
                self.answer(200, asyncio.run(count_tokens(to_count(sent), vllm.ROUTES["generate"], self.ask)))
                return
            request = to_chat(sent)
            self.asked.append(json.loads(request.body))
            if request.model in KINDS:
                raise ModelportError(f"This is {request.model}.", KINDS[request.model])
            self.give(request, *ANSWERS[request.model])
        except ModelportError as error:
            self.answer(error.kind.status, error_body(error, "r1"))

    @staticmethod
    async def ask(method: str, path: str, sent: bytes) -> bytes:
        return json.dumps({"count": len(json.loads(sent)["messages"])}).encode()

    def give(self, request: ChatRequest, whole: bytes, stream: bytes) -> None:
        if not request.stream:
            self.answer(200, of_chat(whole, request, "r1"))
            return
        self.head(200, "text/event-stream; charset=utf-8")
        into = Stream(request, "r1")
        for at in range(0, len(stream), 7):
            self.wfile.write(into.feed(stream[at : at + 7]))
        self.wfile.write(into.end())

    def answer(self, status: int, body: bytes) -> None:
        self.head(status, "application/json")
        self.wfile.write(body)

    def head(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("request-id", "r1")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def sdk() -> Iterator[anthropic.Anthropic]:
    Translating.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Translating) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with anthropic.Anthropic(api_key="mp-x", base_url=url, max_retries=0) as client:
            yield client
        server.shutdown()


def test_sdk_create(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(model="text", max_tokens=10, messages=HELLO)
    assert isinstance(message, anthropic.types.Message) and message._request_id == "r1"
    assert message.content[0].type == "text" and message.content[0].text == "Grüße 👋"
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", "text")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (
        8,
        32,
        8,
    )


def test_sdk_stream(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(model="text", max_tokens=10, messages=HELLO) as stream:
        assert list(stream.text_stream) == ["Grü", "ße 👋"]
        final = stream.get_final_message()
    created = sdk.messages.create(model="text", max_tokens=10, messages=HELLO)
    assert final.to_dict(exclude_none=True) == created.to_dict(exclude_none=True)


def test_sdk_round_of_tools_whole_and_streamed(sdk: anthropic.Anthropic) -> None:
    tools: Any = [WEATHER, TIME]
    asking: Any = {"model": "tools", "max_tokens": 99, "tools": tools, "messages": HELLO}
    created = sdk.messages.create(**asking)
    with sdk.messages.stream(**asking) as stream:
        streamed = stream.get_final_message()
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in created.content]
    assert [block.type for block in created.content] == ["thinking", "text", "tool_use", "tool_use"]
    uses = [block for block in created.content if block.type == "tool_use"]
    assert [(use.id, use.name, use.input) for use in uses] == [
        ("call_a", "weather", {"city": "Zürich"}),
        ("call_b", "time", {}),
    ]
    results: Any = [{"type": "tool_result", "tool_use_id": use.id, "content": use.name} for use in uses]
    sdk.messages.create(
        model="text", max_tokens=9, tools=tools,
        messages=[*asking["messages"], {"role": "assistant", "content": created.content}, {"role": "user", "content": results}],
    )  # fmt: skip
    assert [message["role"] for message in Translating.asked[-1]["messages"]] == ["user", "assistant", "tool", "tool"]
    assert Translating.asked[-1]["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Zürich"}'


def test_sdk_counts_tokens(sdk: anthropic.Anthropic) -> None:
    assert sdk.messages.count_tokens(model="m", messages=HELLO, system="s").input_tokens == 2


def test_sdk_raises_when_a_stream_breaks_off(sdk: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        sdk.messages.stream(model="broken", max_tokens=9, messages=HELLO) as stream,
    ):
        assert [text for text in stream.text_stream] == ["half"]
    assert caught.value.type == "api_error"


@pytest.mark.parametrize(
    ("code", "expected", "type"),
    [
        ("invalid_request", anthropic.BadRequestError, "invalid_request_error"),
        ("invalid_api_key", anthropic.AuthenticationError, "authentication_error"),
        ("budget_spent", anthropic.APIStatusError, "billing_error"),
        ("not_allowed", anthropic.PermissionDeniedError, "permission_error"),
        ("model_not_found", anthropic.NotFoundError, "not_found_error"),
        ("request_too_large", anthropic.APIStatusError, "request_too_large"),
        ("queue_full", anthropic.RateLimitError, "rate_limit_error"),
        ("engine_fault", anthropic.InternalServerError, "api_error"),
        ("not_ready", anthropic.InternalServerError, "overloaded_error"),
        ("engine_timeout", anthropic.InternalServerError, "timeout_error"),
    ],
)
def test_sdk_errors_are_its_own(sdk: anthropic.Anthropic, code: str, expected: type, type: str) -> None:
    for stream in (False, True):
        with pytest.raises(expected) as caught:
            sdk.messages.create(model=code, max_tokens=9, messages=HELLO, stream=stream)  # type: ignore[call-overload]
        assert caught.value.status_code == KINDS[code].status and caught.value.request_id == "r1"
        assert caught.value.body == {
            "type": "error",
            "error": {"type": type, "message": f"This is {code}."},
            "request_id": "r1",
        }
