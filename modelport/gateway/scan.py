"""Scan: the few fields of a body that decide who may send it, where it goes and what it may take.

The body is decoded once for those fields only and otherwise goes on as it came. JSON says nothing on a key that comes
twice, and engines differ on which one wins; so a body in which a key that is read here comes twice is refused.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from modelport.errors import ModelportError
from modelport.gateway.surface import Surface

FORBIDDEN = (
    "api_base", "base_url", "api_key", "headers", "extra_headers", "extra_body", "extra_query", "chat_template",
    "custom_logit_processor", "custom_params", "logits_processors", "lora_path", "lora_request", "lora",
    "prompt_embeds", "input_embeds", "kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room",
    "session_params", "n_predict", "n_cmpl", "background",
)  # fmt: skip
"""Fields that reach past a request: at other servers, code, templates, files, pickled tensors (security.md S9), or
past the caps that are counted by other names (llama.cpp's `n_predict`) or by an answer that says nothing yet
(`background`)."""
READ_ONCE = (
    b"model", b"stream", b"stream_options", b"max_tokens", b"max_new_tokens", b"max_completion_tokens",
    b"max_output_tokens", b"n", b"best_of", b"prompt", b"prompts", b"text", b"input_ids", b"inputs", b"input",
    b"sampling_params", b"parameters",
)  # fmt: skip
"""Keys that decide routing or accounting: each may stand once at the top of a body."""
_QUOTED = tuple(b'"' + name + b'"' for name in READ_ONCE)
_ESCAPED_LETTERS = (b"\\u005", b"\\u006", b"\\u007")
"""How an escape begins that could spell a letter or `_`, so that a key could hide behind it."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
MAX_TOKENS_WALKED = 500_000
"""Strings and brackets that the exact walk looks at (about 0.1 s) before it gives up."""
MAX_CHOICES = 128
"""The largest `n` and `best_of`, as OpenAI's."""
MAX_PROMPTS = 2048
"""The most inputs of one request, as OpenAI's embeddings take."""
MAX_MESSAGES = 10_000
SMALL_BYTES = 8 << 10
"""Up to this size a body is decoded at once; a larger one field by field, and as a whole only where media are looked
for."""


class _Options(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Sampling(msgspec.Struct):
    max_new_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None


class _Fields(msgspec.Struct):
    model: str | UnsetType = UNSET
    stream: bool | None = None
    stream_options: _Options | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    max_new_tokens: int | UnsetType | None = UNSET
    max_completion_tokens: int | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    n: int | None = None
    best_of: int | None = None
    input: msgspec.Raw | UnsetType = UNSET
    sampling_params: _Sampling | None = None
    parameters: _Sampling | None = None
    messages: list[msgspec.Raw] | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Fields).decode
_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
SHORTEST_REPEAT = len('"n":1,')
SEVERAL = frozenset(("/v1/completions", "/generate", "/generate_stream", "/loglikelihood"))
"""Routes that take several prompts at once."""
PROMPTS = ("prompt", "prompts", "text", "input_ids", "inputs")
"""What engines call them."""
_FORBIDDEN = frozenset(FORBIDDEN)
_READ = frozenset(_Fields.__struct_fields__) - {"messages"}
_EXPECTED = {
    "model": "a string", "stream": "true or false", "stream_options": "an object", "sampling_params": "an object",
    "parameters": "an object", "messages": "a list",
}  # fmt: skip


@dataclass(slots=True)
class Upload:
    """A form of pictures and fields: its files, and its texts by name as the runtime reads them."""

    files: list[bytes] = field(default_factory=list[bytes])
    texts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


@dataclass(slots=True)
class Scan:
    """What admission needs of one body."""

    body: bytes
    model: str | None
    stream: bool = False
    asked_usage: bool = False
    """Whether the client itself asked a stream for its usage."""
    asked_continuous: bool = False
    has_options: bool = False
    max_tokens: int | None = None
    """The output cap asked for, for each choice."""
    choices: int = 1
    prompts: int = 1
    messages: int | None = None
    """None where they were not counted: in a large body."""
    characters: int = 0
    """Of text to be spoken."""
    images: int = 0
    """To be made."""
    form: "Upload | None" = None
    """What came as a form on TAO's route."""
    audio_ms: int = 0
    """Of audio to be heard."""
    forbidden: tuple[str, ...] = ()
    """Fields of FORBIDDEN that it has: the service's owner may allow them."""
    nested: tuple[str, ...] = ()
    """The object with the cap, where it stands in the body."""
    caps: Mapping[str, int | None] = field(default_factory=dict)
    """What the fields say that cap the output, where they stand in the body."""


def scan(body: bytes, surface: Surface, *, needs_model: bool) -> Scan:
    """Read a JSON body. Raises ModelportError (400) with a sentence on what is wrong with it."""
    try:
        if not body.isascii():
            body.decode()
        top = _decode_top(body)
        found = _decode(body if len(body) < SMALL_BYTES else _read_only(top))
        if _may_repeat(body, top):
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
    model = None if found.model is UNSET else str(found.model)
    if model is None and needs_model:
        raise ModelportError("The request body lacks 'model', the name of the service to use.", param="model")
    options = found.stream_options
    made = Scan(body, model)
    if not _FORBIDDEN.isdisjoint(top):
        made.forbidden = tuple(name for name in FORBIDDEN if name in top)
    made.stream = bool(found.stream)
    made.has_options = options is not UNSET
    if found.messages is not UNSET:
        made.messages = len(found.messages)
    if isinstance(options, _Options):
        made.asked_usage = bool(options.include_usage)
        made.asked_continuous = made.asked_usage and bool(options.continuous_usage_stats)
    _outputs(made, found, surface, top)
    return made


def refuse_forbidden(found: Collection[str], allowed: Collection[str]) -> None:
    """Raises ModelportError (400) for a field of FORBIDDEN that the service does not allow."""
    for name in found:
        if name not in allowed:
            raise ModelportError(f"The field '{name}' is not taken here; leave it out.", param=name)


def _read_only(top: Mapping[str, msgspec.Raw]) -> bytes:
    """A large body without what is not read here."""
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in top.items() if name in _READ)


def _outputs(made: Scan, found: _Fields, surface: Surface, top: Mapping[str, msgspec.Raw]) -> None:
    """What decides how much may come out: caps, choices, prompts, text to be spoken."""
    if surface.output == "tokens":
        made.caps = {name: getattr(found, name) for name in surface.caps if name in top}
        if surface.nested and surface.nested in top:
            made.nested = (surface.nested,)
        given = [value for value in made.caps.values() if value is not None]
        if surface.nested and found.parameters is not None and found.parameters.max_new_tokens is not None:
            given.append(found.parameters.max_new_tokens)
        if given:
            made.max_tokens = max(given)
            if min(given) < 0:
                name = surface.nested or surface.caps[0]
                raise ModelportError(f"'{name}' must be at least 0.", param=name)
    for options in (found, found.sampling_params, found.parameters):
        if options is not None and (options.n is not None or options.best_of is not None):
            _choices(made, options)
    if surface.path in SEVERAL:
        made.prompts = max((_count(bytes(top[name]), name) for name in PROMPTS if name in top), default=1)
    elif surface.output == "media":
        if surface.path == "/v1/images/generations":
            made.images, made.choices = made.choices, 1
        elif found.input is not UNSET:
            made.characters = len(_spoken(bytes(found.input)))  # type: ignore[arg-type]
    elif found.input is not UNSET and surface.output == "none":
        _count(bytes(found.input), "input")  # type: ignore[arg-type]


def _choices(made: Scan, options: "_Fields | _Sampling") -> None:
    for name, value in (("n", options.n), ("best_of", options.best_of)):
        if value is None:
            continue
        if not 1 <= value <= MAX_CHOICES:
            raise ModelportError(f"'{name}' is {value}; it can be 1 to {MAX_CHOICES}.", param=name)
        made.choices = max(made.choices, value)


def _count(raw: bytes, name: str) -> int:
    """How many prompts: a list of texts or of lists of token ids; one text and one list of ids are one."""
    if not raw.startswith(b"["):
        return 1
    items: list[msgspec.Raw] = msgspec.json.decode(raw, type=list[msgspec.Raw])
    count = len(items) if items and bytes(items[0])[:1] in (b'"', b"[", b"{") else 1
    if count > MAX_PROMPTS:
        raise ModelportError(f"'{name}' has {count} entries; one request can have {MAX_PROMPTS}.", param=name)
    return count


def _spoken(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        raise ModelportError("'input' must be the text to speak.", param="input") from None


def _wrong_type(message: str) -> ModelportError:
    path = re.search(r"`\$\.([a-z_]+)", message)
    if path is None:
        return ModelportError("The request body must be a JSON object.")
    if message.endswith(("include_usage`", "continuous_usage_stats`")):
        return ModelportError("'stream_options.include_usage' must be true or false.", param="stream_options")
    return ModelportError(f"'{path[1]}' must be {_EXPECTED.get(path[1], 'a whole number')}.", param=path[1])


def _may_repeat(body: bytes, top: Mapping[str, msgspec.Raw]) -> bool:
    """False when no key read here can stand twice at the top: the cheap tests, exact in that direction only.

    Of a key that stands twice the decoder keeps one; so where the keys and values that it has make up the whole body,
    none did. White space may hide one from this test, and then names are counted.
    """
    # Quotes, colon and comma for each, and the braces; keys with escapes, or not in ASCII, only add to what is left.
    known = 1 + 4 * len(top) + sum(map(len, top)) + sum(map(len, top.values()))
    if len(body) - known < SHORTEST_REPEAT:
        return False
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


def with_fields(body: bytes, new: dict[str, Any], present: Collection[str]) -> bytes:
    """The same bytes with some fields set. `present` are those that stand in the body already: their values are
    written anew, and nothing else is."""
    for name in present:
        start = next(at for key, at in top_level(body) if key == name)
        old = bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])[name])
        body = body[:start] + msgspec.json.encode(new[name]) + body[start + len(old) :]
    added = {name: value for name, value in new.items() if name not in present}
    if not added:
        return body
    start = body.index(b"{") + 1
    rest = body[start:]
    text = msgspec.json.encode(added)[1:-1]
    return body[:start] + text + (b"," if rest.lstrip()[:1] != b"}" else b"") + rest


def nested_cap(made: Scan, name: str, cap: int) -> dict[str, Any]:
    """The object of that name with its cap on new tokens set, the client's other options kept."""
    top = _decode_top(made.body)
    options: dict[str, Any] = (msgspec.json.decode(top[name]) or {}) if name in top else {}
    return {**options, "max_new_tokens": cap}


def usage_options(made: Scan, continuous: bool) -> dict[str, Any]:
    """`stream_options` that ask for usage, the client's other options kept."""
    options: dict[str, Any] = {}
    if made.has_options:
        options = msgspec.json.decode(made.body, type=_OptionsOnly).stream_options or {}
    return {**options, "include_usage": True, **({"continuous_usage_stats": True} if continuous else {})}


class _OptionsOnly(msgspec.Struct):
    stream_options: dict[str, Any] | None = None
