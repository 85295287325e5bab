"""Whatever bytes stand where a key belongs: 401, 429 from who tries often, 400 where they are no HTTP; never a fault."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.gateway.world import World

BYTES = st.binary(max_size=200).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))
TEXT = st.text(max_size=80).map(
    lambda text: text.encode("utf-8", "surrogatepass").replace(b"\n", b"").replace(b"\r", b"")
)
NO_KEY = (401, 429)


def ask(world: World, line: bytes) -> tuple[int, str]:
    status, answer = world.exchange(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + line + b"\r\nconnection: close\r\n\r\n")
    return status, str(answer)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"authorization: ", b"authorization: Bearer ", b"authorization: Basic ", b"x-api-key: "]),
    BYTES | TEXT,
)
@example(b"authorization: Bearer ", b"mp-'; DROP TABLE keys; --")
@example(b"authorization: Bearer ", b"mp-\xff\xfe\xfd")
@example(b"authorization: Bearer ", b"mp-\x00")
@example(b"authorization: Bearer ", b"mp-" + b"\xc3\xa9" * 30)
@example(b"authorization: Bearer ", b"%s%n{key}${jndi:ldap://x}")
@example(b"authorization: Bearer ", b"undefined")
@example(b"authorization: ", b"Bearer")
@example(b"x-api-key: ", b"mp-" + b"a" * 4000)
def test_no_bytes_in_place_of_a_key_are_a_fault(world: World, line: bytes, value: bytes) -> None:
    status, text = ask(world, line + value)
    assert status in (*NO_KEY, 400, 431), text
    assert "Traceback" not in text and "Error(" not in text


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 53), BYTES)
def test_part_of_a_key_and_anything_else_is_no_key(world: World, length: int, rest: bytes) -> None:
    key = world.admin.encode()
    if (key[:length] + rest).strip() == key:
        return
    assert ask(world, b"authorization: Bearer " + key[:length] + rest)[0] in (*NO_KEY, 400)


@pytest.mark.parametrize("value", [b"%b%b", b"%b %b", b"%b,%b", b"%b\t%b", b"%b;%b"])
def test_two_keys_in_one_are_no_key(world: World, value: bytes) -> None:
    key = world.admin.encode()
    assert ask(world, b"authorization: Bearer " + value % (key, key))[0] in NO_KEY


@pytest.mark.parametrize("change", [str.upper, str.lower, str.swapcase, lambda key: key[::-1], lambda key: key[:-1]])
def test_another_spelling_of_a_key_is_no_key(world: World, change: Callable[[str], str]) -> None:
    assert ask(world, b"x-api-key: " + change(world.admin).encode())[0] in NO_KEY


def test_two_credentials_of_which_one_is_wrong_are_refused_in_any_order(world: World) -> None:
    good, bad = b"authorization: Bearer " + world.admin.encode(), b"authorization: Bearer mp-wrong"
    statuses = [ask(world, first + b"\r\n" + second)[0] for first, second in ((good, bad), (bad, good))]
    assert set(statuses) <= {400, *NO_KEY}, "two servers may differ on which of two Authorization headers counts"


def test_no_key_that_was_sent_is_in_the_log(world: World) -> None:
    ask(world, b"authorization: Bearer mp-notAKey0123456789")
    assert "notAKey" not in world.log.read_text() and world.admin not in world.log.read_text()
