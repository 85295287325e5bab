"""Backoff: failures are answered less and less often, and what is remembered of them stays small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import BACKING_OFF, ModelportError
from modelport.gateway.backoff import FAILURES, MAX_ORIGINS, Backoff

HERE, PREFIX = "203.0.113.7", "mp-abcdefgh"


def waits(backoff: Backoff, now: float, address: str = HERE, prefix: str = PREFIX) -> float | None:
    """How long one more failure is held off; None where it is looked up."""
    try:
        backoff.refuse_if_backing_off(address, prefix, now)
    except ModelportError as error:
        assert error.kind is BACKING_OFF
        return error.retry_after_s
    return None


def fail(backoff: Backoff, now: float, times: int = 1, address: str = HERE, prefix: str = PREFIX) -> None:
    for _ in range(times):
        backoff.failed(address, prefix, now)


def test_nine_failures_are_looked_up_and_the_tenth_in_a_minute_starts_the_wait() -> None:
    backoff = Backoff()
    fail(backoff, 1000.0, FAILURES - 1)
    assert waits(backoff, 1000.0) is None
    fail(backoff, 1059.9)
    assert waits(backoff, 1059.9) == 1.0
    fail(backoff, 1000.0, FAILURES - 1, "203.0.113.8", "mp-otherone")
    fail(backoff, 1060.0, 1, "203.0.113.8", "mp-otherone")
    assert waits(backoff, 1060.0, "203.0.113.8", "mp-otherone") is None


def test_the_wait_doubles_with_every_failure_up_to_a_minute() -> None:
    backoff, now = Backoff(), 1000.0
    fail(backoff, now, FAILURES)
    seen: list[float] = []
    for _ in range(9):
        wait = waits(backoff, now)
        assert wait is not None
        seen.append(wait)
        assert waits(backoff, now + wait / 2) == wait / 2, "attempts meanwhile do not make it longer"
        now += wait
        assert waits(backoff, now) is None
        fail(backoff, now)
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_an_origin_that_was_quiet_for_a_minute_starts_anew() -> None:
    backoff = Backoff()
    fail(backoff, 1000.0, FAILURES)
    fail(backoff, 1061.0)
    assert waits(backoff, 1061.0) is None
    fail(backoff, 1061.0, FAILURES - 1)
    assert waits(backoff, 1061.0) == 1.0


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60))
def test_the_wait_starts_exactly_with_the_tenth_failure_of_any_minute(gaps: list[float]) -> None:
    backoff, now = Backoff(), 1000.0
    times: list[float] = []
    for gap in gaps:
        now += gap
        fail(backoff, now)
        times.append(now)
        many = sum(at > now - 60 for at in times) >= FAILURES
        assert (waits(backoff, now) is not None) == many
        if many:
            return


def test_a_prefix_is_held_off_from_every_address_and_an_address_with_every_prefix() -> None:
    backoff = Backoff()
    for i in range(FAILURES):
        fail(backoff, 1000.0, 1, f"198.51.100.{i}", PREFIX)
    assert waits(backoff, 1000.0, "192.0.2.1", PREFIX) == 1.0
    assert waits(backoff, 1000.0, "198.51.100.3", "mp-otherone") is None
    for i in range(FAILURES):
        fail(backoff, 1000.0, 1, HERE, f"mp-other{i:03}")
    assert waits(backoff, 1000.0, HERE, "mp-newonexx") == 1.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", False),
        ("203.0.113.7", "203.0.113.8", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
    ],
)
def test_an_ipv6_network_is_one_origin(one: str, other: str, same: bool) -> None:
    backoff = Backoff()
    for i in range(FAILURES):
        fail(backoff, 1000.0, 1, one, f"mp-other{i:03}")
    assert (waits(backoff, 1000.0, other, "mp-newonexx") is not None) == same


def test_what_is_remembered_stays_bounded_and_the_busiest_stay_in_it() -> None:
    backoff = Backoff()
    fail(backoff, 1000.0, FAILURES)
    for i in range(MAX_ORIGINS):
        fail(backoff, 1000.0, 1, f"2001:db8:{i:x}::1", f"mp-{i:08}")
        if i % 1000 == 0:
            fail(backoff, 1000.0)
    assert len(backoff._origins) == MAX_ORIGINS
    assert waits(backoff, 1000.0) is not None
