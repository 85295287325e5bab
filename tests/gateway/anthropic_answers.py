"""What engines answer to chat completions, in vLLM's and llama.cpp's shape, for the tests of Anthropic's API."""

import base64
import json
from typing import Any

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PNG = base64.b64encode(b"\x89PNG").decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
WEATHER: Any = {
    "name": "weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TIME: Any = {"name": "time", "input_schema": {"type": "object"}}
USAGE = {
    "prompt_tokens": 40,
    "completion_tokens": 8,
    "total_tokens": 48,
    "prompt_tokens_details": {"cached_tokens": 32},
}


# What engines answer


def vllm_whole(message: dict[str, Any], finish: str = "stop", stopped_at: Any = None) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "refusal": None, "tool_calls": []} | message,
              "logprobs": None, "finish_reason": finish, "stop_reason": stopped_at}  # fmt: skip
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()


def vllm_stream(deltas: list[dict[str, Any]], finish: str | None = "stop", stopped_at: Any = None) -> bytes:
    """As vLLM with continuous usage: the counts come with every chunk, what was cached only with the last."""
    shared = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}
    choices = [
        {"index": 0, "delta": delta, "finish_reason": None} for delta in ({"role": "assistant", "content": ""}, *deltas)
    ]
    if finish is not None:
        choices.append({"index": 0, "delta": {"content": ""}, "finish_reason": finish, "stop_reason": stopped_at})
    so_far = {"prompt_tokens": 40, "completion_tokens": 0}
    chunks = [shared | {"choices": [choice], "usage": so_far} for choice in choices]
    chunks.append(shared | {"choices": [], "usage": USAGE})
    return (
        b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks)
        + b"data: [DONE]\n\n"
    )


def call(index: int, arguments: str, name: str | None = None, id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"index": index, "function": function} | ({"id": id, "type": "function"} if id else {})]}


LLAMACPP_STREAM = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"model":"m"}\n\n'
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Paris"}}],"model":"m"}\n\n'
    b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"model":"m"}\n\n'
    b'data: {"choices":[],"usage":{"completion_tokens":1,"prompt_tokens":38,"total_tokens":39,'
    b'"prompt_tokens_details":{"cached_tokens":37}},"timings":{"cache_n":37}}\n\n'
    b"data: [DONE]\n\n"
)
LLAMACPP_WHOLE = {
    "choices": [
        {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "The city of Paris"}}
    ],
    "model": "m",
    "usage": {"completion_tokens": 1, "prompt_tokens": 46, "total_tokens": 47},
    "timings": {"cache_n": 0},
}
TWO_CALLS = [
    {"reasoning_content": "Two "},
    {"reasoning": "tools.", "reasoning_content": "tools."},
    {"content": "I ask.\n"},
    call(0, "", "weather", "call_a"),
    call(0, '{"city": '),
    call(0, '"Zürich"}'),
    call(1, "{}", "time", "call_b"),
]
