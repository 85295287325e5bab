"""ChatRequest: a request of Anthropic's Messages API as the OpenAI chat request that an engine understands.

The body is an allow-list: what is not read here does not reach the engine. Three choices that the two formats leave
open: `thinking` becomes the switches that chat templates have (budgets are not known to engines and are dropped), one
tool that must be called becomes the only tool offered with `required` (llama.cpp reads a named tool_choice as `auto`),
and text blocks are joined, because not every chat template takes parts (vLLM and llama.cpp join them by a line too).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from modelport.errors import ModelportError
from modelport.gateway.scan import top_level

IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""Media types that Anthropic's API takes."""
EFFORT = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""output_config.effort as OpenAI's reasoning_effort, whose highest level that every engine knows is `high`."""
TEMPLATE_SWITCHES = ("enable_thinking", "thinking")
"""What chat templates call the switch: Qwen, GLM and others the first, DeepSeek and Granite the second."""
ONCE = ("model", "stream", "max_tokens")
"""Keys that admission reads too: they may not stand twice, lest it read another one."""
_ESCAPED_LETTERS = (b"\\u005", b"\\u006", b"\\u007")
"""How an escape begins that could spell a letter, so that a key could hide behind it."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_PLACE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The body for POST /v1/chat/completions, and what is needed to translate its answer back."""

    body: bytes
    model: str
    stream: bool
    stop_sequences: tuple[str, ...]
    shows_thinking: bool
    """False where the client switched thinking off or asked not to be shown it."""
    has_media: bool
    prefill: str
    """The beginning of the answer, where the client's last message is the assistant's; the answer goes on after it."""


def to_chat(body: bytes) -> ChatRequest:
    """Translate the body of POST /v1/messages. Raises ModelportError (400) that names what is wrong, with its place."""
    request = _decoded(body)
    if request.max_tokens is None:
        raise _wrong("max_tokens", "is missing; it is the most tokens the answer may have")
    chat = _prompt(request) | {"max_tokens": request.max_tokens}
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.stop_sequences:
        chat["stop"] = request.stop_sequences
    for name in ("temperature", "top_p", "top_k"):
        if (value := getattr(request, name)) is not None:
            chat[name] = value
    if request.metadata and request.metadata.user_id:
        chat["user"] = request.metadata.user_id
    if (output := request.output_config) and output.effort:
        chat["reasoning_effort"] = EFFORT[output.effort]
    if output and output.format:
        chat["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": _object(output.format.schema, "output_config.format.schema")},
        }
    return _chat_request(request, chat)


def to_count(body: bytes) -> ChatRequest:
    """The body of POST /v1/messages/count_tokens, as the part of a chat request that makes the prompt."""
    request = _decoded(body)
    return _chat_request(request, _prompt(request))


# What is read of a request


class _Source(Struct):
    """Of an image or a document."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: "str | list[_Text | _Image]" = ""


class _Text(Struct, tag_field="type", tag="text"):
    text: str


class _Image(Struct, tag_field="type", tag="image"):
    source: _Source


class _Document(Struct, tag_field="type", tag="document"):
    source: _Source
    title: str | None = None
    context: str | None = None


class _Thinking(Struct, tag_field="type", tag="thinking"):
    thinking: str


class _Redacted(Struct, tag_field="type", tag="redacted_thinking"):
    """Opaque; no engine of ours made it."""


class _ToolUse(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


class _ToolResult(Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text | _Image | _Document] | None = None
    is_error: bool | None = None


BLOCKS = {
    "user": (_Text, _Image, _Document, _ToolResult),
    "assistant": (_Text, _Thinking, _Redacted, _ToolUse),
    "system": (_Text,),
}
"""What a message of each role may hold."""


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Text | _Image | _Document | _Thinking | _Redacted | _ToolUse | _ToolResult]


class _Tool(Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _ThinkingChoice(Struct):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    display: str | None = None


class _Format(Struct):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class _Output(Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Request(Struct):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system: str | list[_Text] | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _ThinkingChoice | None = None
    output_config: _Output | None = None
    metadata: _Metadata | None = None
    container: Any = None
    mcp_servers: Any = None


_decode = msgspec.json.Decoder(_Request).decode


def _decoded(body: bytes) -> _Request:
    try:
        body.decode()
        request = _decode(body)
    except msgspec.ValidationError as error:
        raise _misshapen(str(error)) from None
    except RecursionError:
        raise ModelportError("The request body is nested too deeply.") from None
    except ValueError:  # of msgspec for JSON, of Python for UTF-8
        raise ModelportError("The request body is not valid JSON in UTF-8.") from None
    if any(body.count(f'"{name}"'.encode()) > 1 for name in ONCE) or any(escape in body for escape in _ESCAPED_LETTERS):
        keys = [key for key, _ in top_level(body)]
        for name in ONCE:
            if keys.count(name) > 1:
                raise _wrong(name, "stands twice at the top of the request body")
    for name in ("container", "mcp_servers"):
        if getattr(request, name):
            raise _wrong(name, "needs Anthropic's own servers; leave it out")
    return request


def _misshapen(message: str) -> ModelportError:
    """msgspec's words on what does not fit, with the place first."""
    match = _PLACE.fullmatch(message)
    what, place = (match[1], match[2] or "") if match else (message, "")
    if missing := _MISSING.fullmatch(what):
        return _wrong(f"{place}.{missing[1]}".lstrip("."), "is missing")
    if not place:
        return ModelportError("The request body must be a JSON object.")
    if place.endswith(".type") and (value := re.fullmatch(r"Invalid (?:enum )?value '(.*)'", what, re.DOTALL)):
        return _wrong(place, f"is '{value[1][:80]}', which is not supported here")
    return _wrong(place, f"does not fit: {what[:1].lower()}{what[1:200].replace('`', '')}")


def _wrong(place: str, what: str) -> ModelportError:
    return ModelportError(f"'{place}' {what}.", param=place)


def _object(raw: msgspec.Raw, place: str) -> msgspec.Raw:
    if not bytes(raw).lstrip().startswith(b"{"):
        raise _wrong(place, "must be an object")
    return raw


# The chat request


def _chat_request(request: _Request, chat: dict[str, Any]) -> ChatRequest:
    thinking = request.thinking
    return ChatRequest(
        body=msgspec.json.encode(chat),
        model=request.model,
        stream=bool(request.stream),
        stop_sequences=tuple(request.stop_sequences or ()),
        shows_thinking=thinking is None or (thinking.type != "disabled" and thinking.display != "omitted"),
        prefill=chat["messages"][-1]["content"] if chat.get("continue_final_message") else "",
        has_media=any(isinstance(message["content"], list) for message in chat["messages"]),
    )


def _prompt(request: _Request) -> dict[str, Any]:
    """All that the engine's chat template sees."""
    messages = list(_messages(request))
    chat: dict[str, Any] = {"model": request.model, "messages": messages} | _tools(request)
    if request.thinking:
        chat["chat_template_kwargs"] = dict.fromkeys(TEMPLATE_SWITCHES, request.thinking.type != "disabled")
    if messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
        # The answer goes on where the client's last message ends: vLLM's and SGLang's words; llama.cpp does so anyway.
        chat |= {"continue_final_message": True, "add_generation_prompt": False}
    return chat


def _tools(request: _Request) -> dict[str, Any]:
    tools, choice = request.tools or [], request.tool_choice
    for place, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            raise _wrong(f"tools[{place}].type", f"of '{tool.name[:80]}' is '{tool.type[:80]}', a tool of Anthropic's "
                         "own, which is not offered here; tools need an input_schema")  # fmt: skip
    if choice and choice.type == "tool":
        tools = [tool for tool in tools if tool.name == choice.name]
    if choice and choice.type in ("any", "tool") and not tools:
        raise _wrong("tool_choice", "asks for a tool that 'tools' does not have")
    if not tools:
        return {}
    chat: dict[str, Any] = {"tools": [_function(tool, place) for place, tool in enumerate(tools)]}
    if choice:
        chat["tool_choice"] = {"any": "required", "tool": "required"}.get(choice.type, choice.type)
        if choice.disable_parallel_tool_use:
            chat["parallel_tool_calls"] = False
    return chat


def _function(tool: _Tool, place: int) -> dict[str, Any]:
    if not tool.name or not bytes(tool.input_schema):
        raise _wrong(f"tools[{place}].{'input_schema' if tool.name else 'name'}", "is missing")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = _object(tool.input_schema, f"tools[{place}].input_schema")
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


_Placed = list[tuple[str, Any]]
"""Blocks with where each stands in the request."""


def _messages(request: _Request) -> Iterator[dict[str, Any]]:
    """OpenAI's messages: one system message at the head, which is where every chat template takes it, then the turns;
    neighbours of one role are one turn, as in Anthropic's API."""
    system = [block.text for block in _blocks(request.system)]
    turns: list[tuple[str, _Placed]] = []
    for place, message in enumerate(request.messages):
        placed = [(f"messages[{place}].content[{i}]", b) for i, b in enumerate(_blocks(message.content))]
        for where, block in placed:
            if not isinstance(block, BLOCKS[message.role]):
                raise _wrong(where, f"cannot stand in a message of the role '{message.role}'")
        if message.role == "system":
            system += [block.text for _, block in placed]
        else:
            turns.append((message.role, placed))
    if text := "\n".join(filter(None, system)):
        yield {"role": "system", "content": text}
    if not turns:
        raise _wrong("messages", "must have a message of the role 'user'")
    for role, group in groupby(turns, key=lambda turn: turn[0]):
        placed = [pair for _, pairs in group for pair in pairs]
        yield from _user(placed) if role == "user" else _assistant(placed)


def _blocks(content: Any) -> list[Any]:
    return [_Text(content)] if isinstance(content, str) else content or []


def _assistant(placed: _Placed) -> Iterator[dict[str, Any]]:
    blocks = [block for _, block in placed]
    text = "".join(block.text for block in blocks if isinstance(block, _Text))
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": bytes(_object(block.input, f"{place}.input")).decode()},
        }
        for place, block in placed
        if isinstance(block, _ToolUse)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": (text or None) if calls else text}
    if thoughts := "\n".join(block.thinking for block in blocks if isinstance(block, _Thinking)):
        message |= {"reasoning_content": thoughts, "reasoning": thoughts}  # the second is vLLM's newer word
    if calls:
        message["tool_calls"] = calls
    yield message


def _user(placed: _Placed) -> Iterator[dict[str, Any]]:
    """Tool results first, each a message of its own; their images go to the user's message, as a tool's takes text."""
    parts: list[dict[str, Any]] = []
    for place, block in placed:
        if not isinstance(block, _ToolResult):
            parts += _parts(block, place)
            continue
        inner = [part for i, b in enumerate(_blocks(block.content)) for part in _parts(b, f"{place}.content[{i}]")]
        text = "\n".join(part["text"] for part in inner if part["type"] == "text")
        if block.is_error:
            text = f"Error: {text}"
        yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
        if images := [part for part in inner if part["type"] != "text"]:
            parts += [{"type": "text", "text": f"Images in the result of {block.tool_use_id}:"}, *images]
    if parts and any(part["type"] != "text" for part in parts):
        yield {"role": "user", "content": parts}
    elif parts or not any(isinstance(block, _ToolResult) for _, block in placed):
        yield {"role": "user", "content": "\n".join(part["text"] for part in parts)}


def _parts(block: Any, place: str) -> list[dict[str, Any]]:
    """A text, an image or a document as OpenAI's content parts."""
    if isinstance(block, _Text):
        return [{"type": "text", "text": block.text}] if block.text else []
    if isinstance(block, _Image):
        return [{"type": "image_url", "image_url": {"url": _image_url(block.source, f"{place}.source")}}]
    source = block.source
    if source.type not in ("text", "content"):
        raise _wrong(f"{place}.source", "is not text, and documents of other kinds are not read here; send their text")
    inner = [_Text(source.data)] if source.type == "text" else _blocks(source.content)
    head = "\n".join(filter(None, (block.title, block.context)))
    return [part for b in (_Text(head), *inner) for part in _parts(b, f"{place}.source.content")]


def _image_url(source: _Source, place: str) -> str:
    if source.type == "url" and source.url:
        return source.url
    if source.type != "base64":
        raise _wrong(place, "must be of the type 'base64' or 'url'")
    if source.media_type not in IMAGES:
        raise _wrong(f"{place}.media_type", f"must be one of {', '.join(IMAGES)}")
    if not _BASE64.fullmatch(source.data):
        raise _wrong(f"{place}.data", "must be an image in base64, without line breaks")
    return f"data:{source.media_type};base64,{source.data}"
