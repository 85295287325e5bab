"""Host names and CORS, as pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.gateway.edge import cors, host_allowed, preflight
from tests.security.corpus import HOSTS

ORIGIN = "https://chat.example.com"
LISTED = (ORIGIN, "http://localhost:3000")
ASKED = {
    b"origin": ORIGIN.encode(),
    b"access-control-request-method": b"POST",
    b"access-control-request-headers": b"authorization,content-type,x-stainless-os",
}
ELSEWHERE = [
    b"https://evil.com", b"http://chat.example.com", b"https://chat.example.com:443", b"https://chat.example.com.evil.com",
    b"https://evilchat.example.com", b"https://CHAT.example.com", b"https://chat.example.com/", b"null", b"", b"*",
    b"https://chat.example.com https://evil.com", b"\xff",
]  # fmt: skip


@pytest.mark.parametrize(
    "host", [b"x", b"example.com", b"Example.COM.", b"a_b.internal:8700", b"10.0.0.1:80", b"[::1]:8700"]
)
def test_any_well_formed_host_is_answered_where_none_is_listed(host: bytes) -> None:
    assert host_allowed(host, ())


@pytest.mark.parametrize("host", [*HOSTS, b"", b":80", b".", b"a..b", b"x:", b"x:1:2", b"x:123456", b"[::1", b"::1", b"[x]",
                                  b"[127.0.0.1]", b"\xff", "ü.com".encode(), b"%61", b"a" * 300, b"x\n", b"-x", b"x,y"])  # fmt: skip
def test_what_is_no_host_is_never_answered(host: bytes) -> None:
    assert not host_allowed(host, ())
    assert not host_allowed(host, ("*.example.com", "x"))


@pytest.mark.parametrize(
    ("host", "answered"),
    [(b"api.example.com", True), (b"API.Example.com:443", True), (b"api.example.com.", True), (b"a.models.test", True),
     (b"a.b.models.test", True), (b"models.test", False), (b"evilmodels.test", False), (b"example.com", False),
     (b"api.example.com.evil.com", False), (b"xapi.example.com", False), (b"127.0.0.1:8700", True), (b"10.1.2.3", True),
     (b"[::1]", True), (b"localhost:8700", True), (b"localhost.evil.com", False), (b"127.0.0.1.evil.com", False),
     (b"0x7f.1", False)],
)  # fmt: skip
def test_with_a_list_its_names_and_plain_addresses_are_answered(host: bytes, answered: bool) -> None:
    assert host_allowed(host, ("api.example.com", "*.models.test")) is answered


@given(st.binary(max_size=40))
def test_no_bytes_make_the_host_check_fail(host: bytes) -> None:
    if host_allowed(host, ()):
        assert not set(host) & set(b"/?#@\\ \t\r\n\0,")


def test_a_listed_page_may_ask_and_read() -> None:
    answer = dict(preflight(ASKED, LISTED) or ())
    assert answer[b"access-control-allow-origin"] == ORIGIN.encode()
    assert answer[b"access-control-allow-headers"] == b"authorization,content-type,x-stainless-os"
    assert b"POST" in answer[b"access-control-allow-methods"] and b"origin" in answer[b"vary"]
    headers = dict(cors(ASKED, LISTED))
    assert headers[b"access-control-allow-origin"] == ORIGIN.encode() and headers[b"vary"] == b"origin"
    assert b"x-request-id" in headers[b"access-control-expose-headers"]
    assert not any(b"credentials" in name for name in (*answer, *headers))


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_a_page_that_is_not_listed_may_not(origin: bytes) -> None:
    asked = ASKED | {b"origin": origin}
    assert preflight(asked, LISTED) is None
    assert cors(asked, LISTED) == ((b"vary", b"origin"),)


def test_without_a_list_nothing_is_added_for_anybody() -> None:
    assert preflight(ASKED, ()) is None and cors(ASKED, ()) == ()


def test_a_request_that_is_no_preflight_is_none() -> None:
    assert preflight({b"origin": ORIGIN.encode()}, LISTED) is None
    assert preflight({b"access-control-request-method": b"POST"}, LISTED) is None


@pytest.mark.parametrize(
    "wanted", [b"", b"a b", b"a\r\nset-cookie: x", b"a,,b", b"\xff", b"a:b", b"a" * 10 + b"," * 90]
)
def test_headers_that_are_no_names_are_not_repeated(wanted: bytes) -> None:
    asked = ASKED | {b"access-control-request-headers": wanted}
    assert b"access-control-allow-headers" not in dict(preflight(asked, LISTED) or ())
