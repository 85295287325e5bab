"""The scan and the stream filter by themselves, against slow and obvious references."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ModelportError
from modelport.gateway.scan import READ_ONCE, _may_repeat, scan, top_level, usage_options, with_fields
from modelport.gateway.surface import CHAT
from modelport.gateway.usage import Events

NAMES = [name.decode() for name in READ_ONCE]
KEYS = st.sampled_from([*NAMES, "tools", "x", 'mo"del', "model\\", "{", "é", "m\u0000"])
TEXT = st.sampled_from(['"model":', "\\", '{"model"', "é\u2028", "", '"', "]}", "model", "\\u006d"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def spell(key: str, escape: int, ascii_only: bool) -> str:
    """A key as JSON, its first `escape` characters as \\u escapes."""
    head = "".join(f"\\u{ord(c):04x}" for c in key[:escape])
    return '"' + head + json.dumps(key[escape:], ensure_ascii=ascii_only)[1:]


@st.composite
def objects(draw: st.DrawFn) -> str:
    """The text of a JSON object that may hold keys twice, oddly spelled and spaced."""
    pairs = draw(st.lists(st.tuples(KEYS, VALUES, st.integers(0, 3), st.sampled_from(["", " ", "\n\t"])), max_size=6))
    ascii_only = draw(st.booleans())
    parts = [
        f"{ws}{spell(k, n, ascii_only)}{ws}:{ws}{json.dumps(v, ensure_ascii=ascii_only)}{ws}" for k, v, n, ws in pairs
    ]
    return "{" + ",".join(parts) + "}"


def reference(text: str) -> list[tuple[str, Any]]:
    depths: list[list[tuple[str, Any]]] = []
    json.loads(text, object_pairs_hook=lambda pairs: depths.append(pairs) or dict(pairs))
    return depths[-1]  # the outermost object is finished last


@given(objects())
def test_top_level_keys_are_those_a_json_parser_finds(text: str) -> None:
    body = text.encode()
    pairs = reference(text)
    found = top_level(body)
    assert [key for key, _ in found] == [key for key, _ in pairs]
    for (_, at), (_, value) in zip(found, pairs, strict=True):
        assert json.JSONDecoder().raw_decode(body[at:].decode())[0] == value


@given(objects())
def test_a_body_is_refused_exactly_when_a_key_read_here_comes_twice(text: str) -> None:
    keys = [key for key, _ in reference(text)]
    repeated = any(keys.count(name) > 1 for name in NAMES)
    if repeated:
        assert _may_repeat(text.encode(), msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    try:
        scan(text.encode(), CHAT, needs_model=False)
    except ModelportError as error:
        assert repeated or "twice" not in error.message
    else:
        assert not repeated


@given(
    objects(), st.sampled_from(["", '"stream_options":null,', '"stream_options": { } ,', '"stream_options":{"a":[1]},'])
)
def test_asking_for_usage_changes_nothing_else(text: str, options: str) -> None:
    pairs = [(k, v) for k, v in reference(text) if k not in NAMES]
    inner = "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs)
    body = ("{" + options + '"model":"m","stream":true' + inner + "}").encode()
    found = scan(body, CHAT, needs_model=True)
    assert not found.asked_usage and found.stream and found.model == "m"
    present = ["stream_options"] if found.has_options else []
    changed = with_fields(body, {"stream_options": usage_options(found, False)}, present)
    before, after = json.loads(body), json.loads(changed)
    assert after.pop("stream_options")["include_usage"] is True
    before.pop("stream_options", None)
    assert after == before


def test_names_inside_values_are_no_keys() -> None:
    inside = {
        "model": "a",
        "messages": [{"model": "b", "stream": 1}, '"model":"c"'],
        "tools": {"max_tokens": {"stream": 2}},
    }
    assert scan(json.dumps(inside).encode(), CHAT, needs_model=True).model == "a"


def test_a_body_that_cannot_be_checked_cheaply_is_refused() -> None:
    body = b'{ "model": "a", "x": { "model": [' + b"[]," * 300_000 + b"[]]}     }"
    with pytest.raises(ModelportError, match="too many values"):
        scan(body, CHAT, needs_model=True)


def event(value: object, end: str = "\n\n") -> str:
    return f"data: {value if isinstance(value, str) else json.dumps(value)}{end}"


CHUNKS = [
    {"choices": [{"delta": {"content": 'has "usage": { inside'}}], "usage": None},
    {"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": None}},
]


@given(st.lists(st.integers(1, 40), min_size=1), st.sampled_from(["\n\n", "\r\n\r\n"]), st.booleans())
def test_a_stream_cut_anywhere_loses_only_the_event_with_nothing_but_usage(
    cuts: list[int], end: str, hide: bool
) -> None:
    text = ": waking\n\n" + "".join(event(c, end) for c in CHUNKS) + event("[DONE]", end)
    data, out, events = text.encode(), b"", Events(hide)
    while data:
        size = cuts[len(out) % len(cuts)]
        out += events.feed(data[:size])
        data = data[size:]
    out += events.rest()
    assert events.usage and events.usage.completion_tokens == 4
    if hide:  # the last event goes, and what an event along the way says of usage
        text = text.replace(event(CHUNKS[2], end), "").replace(
            ', "usage": {"prompt_tokens": 1, "completion_tokens": 1}', ""
        )
    assert out.decode() == text
