"""OpenAI's routes in words: chat and embeddings as Calls, Results as their bodies and server-sent events."""

import base64
import json
import secrets
import sys
import time
from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from modelport.domain import answers
from modelport.domain.answers import Answer
from modelport.errors import ModelportError
from modelport.runtime.handler import Call, Result
from modelport.runtime.inputs import Hint, Item, counted
from modelport.runtime.state import State

ROLES = ("system", "developer", "user", "assistant", "tool")
MEDIA: dict[str, Hint] = {"image_url": "image", "video_url": "video", "input_image": "image", "input_video": "video"}
"""Types of content items that are media; the address is under `url`, or under the type's own name."""
TEXT_TYPES = ("text", "input_text")
RENAMED = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"}
OURS = frozenset(("messages", "model", "stream", "stream_options", "user", "metadata", "store", "input"))
"""Fields that the handler does not need."""
REFUSED = ("tools", "functions", "tool_choice", "function_call", "logprobs", "top_logprobs", "audio", "prediction")
"""What this server does not do; said, instead of an answer that looks as if it were done."""
MAX_MESSAGES = 4096
MAX_INPUTS = 2048
TYPES = {
    400: "invalid_request",
    404: "invalid_request",
    405: "invalid_request",
    413: "invalid_request",
    500: "internal_error",
}


def chat(body: Mapping[str, Any]) -> tuple[Call, list[Item]]:
    """Raises ModelportError (400, 413)."""
    given = body.get("messages")
    if not isinstance(given, list) or not given or len(cast(list[Any], given)) > MAX_MESSAGES:
        raise ModelportError(f"'messages' must be a list of 1 to {MAX_MESSAGES} messages.", param="messages")
    for name in REFUSED:
        if body.get(name) not in (None, False, [], "none", 0):
            raise ModelportError(f"{name!r} is not done by this server.", param=name)
    if _object(body.get("response_format")).get("type", "text") != "text":
        raise ModelportError("'response_format' can be text only on this server.", param="response_format")
    items: list[Item] = []
    messages = [_message(index, message, items) for index, message in enumerate(cast(list[Any], given))]
    counted(items)
    return Call("chat", _fields(body), messages=messages), items


def embeddings(body: Mapping[str, Any]) -> tuple[Call, list[Item]]:
    """The call's body has `input`, a list of texts. Raises ModelportError (400)."""
    given = body.get("input")
    texts = cast(list[Any], given if isinstance(given, list) else [given])
    if not texts or len(texts) > MAX_INPUTS or not all(isinstance(text, str) and text for text in texts):
        raise ModelportError(f"'input' must be a text or a list of 1 to {MAX_INPUTS} texts.", param="input")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise ModelportError("'encoding_format' can be float or base64.", param="encoding_format")
    fields = {name: value for name, value in _fields(body).items() if name != "encoding_format"}
    return Call("embeddings", {**fields, "input": texts}), []


def streams(body: Mapping[str, Any]) -> bool:
    if not isinstance(found := body.get("stream") or False, bool):
        raise ModelportError("'stream' must be true or false.", param="stream")
    return found


def before(state: State) -> Answer | None:
    """What is said instead of an answer, until the model is ready."""
    return answers.chat(state.progress)


def error(_: State, problem: ModelportError) -> dict[str, Any]:
    kind = TYPES.get(problem.kind.status, problem.kind.type)
    return {"error": {"type": kind, "message": problem.message, "code": problem.kind.code, "param": problem.param}}


def completion(state: State, result: Result) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": _text(result)},
        "finish_reason": result.finish_reason,
    }
    return {**_head(state, "chat.completion"), "choices": [choice], "usage": _usage(result)}


def vectors(state: State, result: Result, *, as_base64: bool) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if as_base64 else list(vector)}
        for index, vector in enumerate(result.vectors)
    ]
    usage = {"prompt_tokens": result.input_tokens, "total_tokens": result.input_tokens}
    return {"object": "list", "data": data, "model": state.name, "usage": usage}


def models(state: State) -> dict[str, Any]:
    model = {"id": state.name, "object": "model", "created": int(state.created_at), "owned_by": "modelport"}
    return {"object": "list", "data": [model]}


class Chunks:
    """The chunks of one streamed answer, in order: `text` again and again, then `end`."""

    def __init__(self, state: State, body: Mapping[str, Any]) -> None:
        self.head = _head(state, "chat.completion.chunk")
        self.usage = _object(body.get("stream_options")).get("include_usage") is True
        self.role: dict[str, str] = {"role": "assistant"}
        self.written = False

    def text(self, text: str) -> dict[str, Any]:
        delta = {**self.role, "content": text}
        self.role = {}
        self.written = True
        return self._chunk(delta, None)

    def end(self, result: Result) -> list[dict[str, Any]]:
        rest = [] if self.written else [self.text(_text(result))]
        last = [*rest, self._chunk({}, result.finish_reason)]
        return [*last, {**self.head, "choices": [], "usage": _usage(result)}] if self.usage else last

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
        usage = {"usage": None} if self.usage else {}
        return {**self.head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **usage}


def _message(index: int, given: Any, items: list[Item]) -> dict[str, Any]:
    where = f"messages[{index}]"
    message = _object(given)
    if message.get("role") not in ROLES:
        raise ModelportError(f"'{where}' must be an object with a role of {', '.join(ROLES)}.", param="messages")
    content = message.get("content")
    if isinstance(content, list):
        parts = [_part(f"{where}.content[{at}]", part, items) for at, part in enumerate(cast(list[Any], content))]
        return {**message, "content": parts}
    if content is not None and not isinstance(content, str):
        raise ModelportError(f"'{where}.content' must be a text or a list of items.", param="messages")
    return {**message, "content": content or ""}


def _part(where: str, given: Any, items: list[Item]) -> dict[str, Any]:
    """An item of a message's content; of a medium only its place, whose kind is known once it is read."""
    part = _object(given)
    kind = part.get("type")
    if kind in TEXT_TYPES and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind not in MEDIA:
        known = (*TEXT_TYPES, *MEDIA)
        raise ModelportError(f"'{where}' must be an item of type {', '.join(known)}.", param="messages")
    holder = part.get(kind, part.get("image_url"))
    address = _object(holder).get("url") if isinstance(holder, dict) else holder
    if not isinstance(address, str) or not address:
        raise ModelportError(f"'{where}' has no url.", param="messages")
    mark: dict[str, Any] = {"type": MEDIA[kind]}
    items.append(Item(where, address, MEDIA[kind], mark=mark))
    return mark


def _fields(body: Mapping[str, Any]) -> dict[str, Any]:
    done = {name for name in REFUSED if name in body} | {"response_format", *OURS}
    return {RENAMED.get(name, name): value for name, value in body.items() if value is not None and name not in done}


def _head(state: State, kind: str) -> dict[str, Any]:
    now = time.time()
    id = f"chatcmpl-{datetime.fromtimestamp(now, UTC):%Y%m%d%H%M%S%f}{secrets.token_hex(3)}"
    return {"id": id, "object": kind, "created": int(now), "model": state.name}


def _text(result: Result) -> str:
    """What it says; for a model of no words, its results."""
    return result.text if result.text or not result.results else json.dumps(dict(result.results), ensure_ascii=False)


def _usage(result: Result) -> dict[str, int]:
    return {
        "prompt_tokens": result.input_tokens,
        "completion_tokens": result.output_tokens,
        "total_tokens": result.input_tokens + result.output_tokens,
    }


def _packed(vector: Any) -> str:
    """Little-endian 32-bit floats, in base64."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _object(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
