"""Anthropic: an engine's chat completion as a Message of Anthropic's API, and errors in that API's shape."""

from typing import Any

import msgspec
from msgspec import Struct

from modelport.errors import ENGINE_FAULT, ModelportError
from modelport.gateway.anthropic_request import ChatRequest
from modelport.gateway.usage import Usage

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By status; other 4xx are invalid_request_error, other 5xx api_error (Anthropic's list of errors; there overloaded is
529, which no status of ours is)."""
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""OpenAI's finish_reason as Anthropic's stop_reason; others are end_turn."""
ABORTED = frozenset(("abort", "error"))
"""What vLLM and SGLang call the end of an answer that they could not finish."""
INVALID_JSON = "INVALID_JSON"
"""The key under which a tool's arguments that are no JSON object are handed on (Anthropic's fine-grained tool
streaming wraps them so)."""


NULL = msgspec.Raw(b"null")


class Function(Struct):
    name: str | None = None
    arguments: msgspec.Raw = NULL
    """A string that holds JSON; some engines give the object itself."""


class ToolCall(Struct):
    index: int = 0
    id: str | None = None
    function: Function | None = None


class Said(Struct):
    """A message of a completion, or what a chunk adds to it. Thoughts are `reasoning_content`, in newer vLLM
    `reasoning`, and in some versions both with the same text."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thoughts(self) -> str:
        return self.reasoning_content or self.reasoning or ""


class _Choice(Struct):
    message: Said
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    matched_stop: Any = None


class _Completion(Struct):
    choices: list[_Choice]
    usage: Usage | None = None
    timings: Any = None
    """llama.cpp's mark, which repeats a prefill before a whole answer (not in a stream), as no other engine does."""


_decode = msgspec.json.Decoder(_Completion).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def of_chat(body: bytes, request: ChatRequest, request_id: str) -> bytes:
    """A whole completion as a Message. Raises ModelportError (502) where it is none."""
    try:
        answer = _decode(body)
        choice = answer.choices[0]
        said = choice.message
        content: list[dict[str, Any]] = []
        if said.thoughts and request.shows_thinking:
            content.append({"type": "thinking", "thinking": said.thoughts, "signature": ""})
        text = said.content or ""
        if answer.timings:
            text = text.removeprefix(request.prefill)
        if text:
            content.append({"type": "text", "text": text})
        for place, call in enumerate(said.tool_calls or ()):
            content.append(_tool_use(call, f"toolu_{request_id}_{place}"))
    except (msgspec.DecodeError, RecursionError, IndexError):
        raise fault() from None
    if choice.finish_reason in ABORTED:
        raise fault()
    reason, sequence = stop(choice.finish_reason, choice.stop_reason or choice.matched_stop,
                            bool(said.tool_calls), request)  # fmt: skip
    return msgspec.json.encode(
        message(request, request_id)
        | {"content": content, "stop_reason": reason, "stop_sequence": sequence, "usage": usage(answer.usage)}
    )


def message(request: ChatRequest, request_id: str) -> dict[str, Any]:
    """A Message that says nothing yet."""
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage(None),
    }


def usage(counted: Usage | None) -> dict[str, int]:
    """Anthropic's counts: input_tokens are those that did not come from the engine's prefix cache."""
    counted = counted or Usage()
    return {
        "input_tokens": counted.input - counted.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counted.cached,
        "output_tokens": counted.output,
    }


def stop(finish_reason: str | None, matched: object, has_tools: bool, request: ChatRequest) -> tuple[str, str | None]:
    """stop_reason and stop_sequence. `matched` is what the engine says it stopped at: vLLM's `stop_reason`, SGLang's
    `matched_stop`; llama.cpp's chat does not say, so there a stop sequence is `end_turn`."""
    reason = STOP_REASONS.get(finish_reason or "", "end_turn")
    if reason == "end_turn" and has_tools:
        return "tool_use", None  # vLLM says `stop` where a call was asked for
    if reason == "end_turn" and isinstance(matched, str) and matched in request.stop_sequences:
        return "stop_sequence", matched
    return reason, None


def arguments_text(arguments: msgspec.Raw) -> str:
    """A tool call's arguments as JSON text, whichever way the engine gave them. Raises msgspec.DecodeError."""
    raw = bytes(arguments)
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    return "" if raw == b"null" else raw.decode()


def _tool_use(call: ToolCall, own_id: str) -> dict[str, Any]:
    function = call.function
    if function is None or not function.name:
        raise msgspec.DecodeError("a tool call without a name")
    text = arguments_text(function.arguments)
    try:
        _decode_object(text.strip() or "{}")
        value: object = msgspec.Raw((text.strip() or "{}").encode())
    except (msgspec.DecodeError, RecursionError):
        value = {INVALID_JSON: text}
    return {"type": "tool_use", "id": call.id or own_id, "name": function.name, "input": value}


def fault() -> ModelportError:
    return ModelportError("The engine's answer was not complete, or not one that can be read.", ENGINE_FAULT)


def error_body(error: ModelportError, request_id: str | None) -> bytes:
    """An error in Anthropic's shape; the status and Retry-After are those of every other route."""
    status = error.kind.status
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return msgspec.json.encode(
        {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
    )
