"""Scan: the few fields of a body that decide where it goes, and the one change made to it: asking for usage.

The body is decoded once for those fields only and otherwise goes on as it came. JSON says nothing on a key that comes
twice, and engines differ on which one wins; so a body in which a key that is read here comes twice is refused.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from modelport.errors import ModelportError

READ_ONCE = (b"model", b"stream", b"stream_options", b"max_tokens")
"""Keys that decide routing or accounting: each may stand once at the top of a body."""
_QUOTED = tuple(b'"' + name + b'"' for name in READ_ONCE)
_ESCAPED_LETTERS = (b"\\u005", b"\\u006", b"\\u007")
"""How an escape begins that could spell a letter or `_`, so that a key could hide behind it."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
MAX_TOKENS_WALKED = 500_000
"""Strings and brackets that the exact walk looks at (about 0.1 s) before it gives up."""


class _Options(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str | msgspec.UnsetType = msgspec.UNSET
    stream: bool | None = None
    stream_options: _Options | msgspec.UnsetType | None = msgspec.UNSET


class _OptionsBytes(msgspec.Struct):
    stream_options: msgspec.Raw


_decode = msgspec.json.Decoder(_Body).decode
_decode_options = msgspec.json.Decoder(_OptionsBytes).decode


@dataclass(slots=True)
class Scan:
    """What admission needs of one body. `body` may ask for usage where the client's did not; `hide_usage` says so."""

    body: bytes
    model: str | None
    stream: bool
    hide_usage: bool


def scan(body: bytes, *, needs_model: bool) -> Scan:
    """Read a JSON body. Raises ModelportError (400) with a sentence on what is wrong with it."""
    try:
        if not body.isascii():
            body.decode()
        found = _decode(body)
        if _may_repeat(body):
            _refuse_repeated(body)
    except UnicodeDecodeError as error:
        raise ModelportError(f"The request body is not valid UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise ModelportError("The request body is nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error)) from None
    except msgspec.DecodeError as error:
        where = re.search(r"\(byte \d+\)", str(error))
        raise ModelportError(f"The request body is not valid JSON{' ' + where[0] if where else ''}.") from None
    model = None if found.model is msgspec.UNSET else str(found.model)
    if model is None and needs_model:
        raise ModelportError("The request body lacks 'model', the name of the service to use.", param="model")
    stream = bool(found.stream)
    options = found.stream_options
    asked = isinstance(options, _Options) and bool(options.include_usage)
    if stream and not asked:
        body = _ask_for_usage(body, options is not msgspec.UNSET)
    return Scan(body, model, stream, stream and not asked)


def _wrong_type(message: str) -> ModelportError:
    path = re.search(r"`\$\.([a-z_]+)", message)
    if path is None:
        return ModelportError("The request body must be a JSON object.")
    expected = {"model": "a string", "stream": "true or false"}.get(path[1], "an object")
    if message.endswith("include_usage`"):
        return ModelportError("'stream_options.include_usage' must be true or false.", param="stream_options")
    return ModelportError(f"'{path[1]}' must be {expected}.", param=path[1])


def _may_repeat(body: bytes) -> bool:
    """False when no key read here can stand twice at the top: the cheap test, exact in that direction only."""
    return any(body.count(name) > 1 for name in _QUOTED) or any(escape in body for escape in _ESCAPED_LETTERS)


def _refuse_repeated(body: bytes) -> None:
    seen: set[str] = set()
    for key, _ in top_level(body):
        if key in seen and key.encode() in READ_ONCE:
            raise ModelportError(f"The request body has the key '{key}' twice.", param=key)
        seen.add(key)


def top_level(body: bytes) -> list[tuple[str, int]]:
    """The keys of a valid JSON object in order, twice where they stand twice, each with where its value begins."""
    keys: list[tuple[str, int]] = []
    depth = 0
    for count, token in enumerate(_TOKEN.finditer(body)):
        if count > MAX_TOKENS_WALKED:
            raise ModelportError("The request body has too many values to be checked for keys that come twice.")
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        elif depth == 1 and (colon := _COLON.match(body, token.end())):
            keys.append((_text(token[0]), colon.end()))
    return keys


def _text(token: bytes) -> str:
    try:
        return msgspec.json.decode(token, type=str)
    except msgspec.DecodeError:
        return token.decode("utf-8", "replace")  # a lone surrogate: none of the keys looked for


def _ask_for_usage(body: bytes, has_options: bool) -> bytes:
    """The same bytes with stream_options.include_usage set; only the value of stream_options is written anew."""
    if not has_options:
        start = body.index(b"{") + 1
        return body[:start] + b'"stream_options":{"include_usage":true},' + body[start:]
    old = bytes(_decode_options(body).stream_options)
    options: dict[str, Any] = msgspec.json.decode(old) or {}
    start = next(at for key, at in top_level(body) if key == "stream_options")
    new = msgspec.json.encode({**options, "include_usage": True})
    return body[:start] + new + body[start + len(old) :]
