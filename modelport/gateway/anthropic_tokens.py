"""Tokens: how many a prompt has, asked of the engine that would answer it, by the routes it lists."""

from collections.abc import Awaitable, Callable, Collection

import msgspec
from msgspec import Struct

from modelport.errors import NOT_FOUND, ModelportError
from modelport.gateway.anthropic import fault
from modelport.gateway.anthropic_request import ChatRequest

Ask = Callable[[str, str, bytes], Awaitable[bytes]]
"""Sends method, path and body to the engine and gives the body of its 200 answer; raises ModelportError otherwise."""
Counter = Callable[[ChatRequest, Ask], Awaitable[int]]


class _Prompt(Struct):
    prompt: str


class _Tokens(Struct):
    tokens: list[msgspec.Raw]


class _Count(Struct):
    count: int


async def by_template(request: ChatRequest, ask: Ask) -> int:
    """llama.cpp: the prompt that the chat template makes, then its tokens, as its chat route counts them."""
    if request.has_media:
        raise ModelportError("The engine of this service counts the tokens of text only, and this request has images.")
    made = await ask("POST", "/apply-template", request.body)
    prompt = msgspec.json.decode(made, type=_Prompt).prompt
    body = msgspec.json.encode({"content": prompt, "add_special": True, "parse_special": True})
    return len(msgspec.json.decode(await ask("POST", "/tokenize", body), type=_Tokens).tokens)


async def by_messages(request: ChatRequest, ask: Ask) -> int:
    """vLLM: its tokenizer route takes a chat request."""
    return msgspec.json.decode(await ask("POST", "/tokenize", request.body), type=_Count).count


COUNTERS: tuple[tuple[frozenset[str], Counter], ...] = (
    (frozenset(("POST /apply-template", "POST /tokenize")), by_template),
    (frozenset(("POST /tokenize", "POST /detokenize")), by_messages),
)
"""The first row whose routes an engine lists. /tokenize alone is TGI's, which knows text only."""


def counter(routes: Collection[str]) -> Counter | None:
    """How an engine with these `METHOD /path` counts, or None where it cannot."""
    return next((count for needed, count in COUNTERS if needed.issubset(routes)), None)


async def count_tokens(request: ChatRequest, routes: Collection[str], ask: Ask) -> bytes:
    """The answer to POST /v1/messages/count_tokens. Raises ModelportError: 404 where the engine cannot count, 502
    where its answer cannot be read, and what `ask` raises."""
    count = counter(routes)
    if count is None:
        raise ModelportError("The engine of this service has no route that counts the tokens of a chat.", NOT_FOUND)
    try:
        return msgspec.json.encode({"input_tokens": await count(request, ask)})
    except (msgspec.DecodeError, RecursionError):
        raise fault() from None
