"""Limits: sliding windows against a slow reference, and what a key, a team and a service may take together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.limits import NO_LIMITS, Limits
from modelport.errors import INVALID, RATE_LIMITED, TOO_LARGE, ModelportError
from modelport.gateway.caps import cap_output, check_body, deadline_s
from modelport.gateway.limits import Limited, Limiter, Ticket
from modelport.gateway.window import SLOTS, Entry, Window
from modelport.store.keys import Key

# The window. Its span is SLOTS seconds here, so that a slot is one second and every time an exact number of ticks.

TICK = 1 / 4
SPAN = float(SLOTS)
GAPS = st.sampled_from([0, 1, 2, 3, 4, 5, 9, 400, 1200, 2399, 4795, 4796, 4799, 4800, 4804])
STEPS = st.lists(st.tuples(GAPS, st.integers(1, 5), st.none() | st.integers(0, 5)), min_size=1, max_size=60)


def held(kept: list[list[float]], now: float, longer: float = 0.0) -> float:
    """What counts at a moment, by definition: everything of the last SPAN seconds."""
    return sum(amount for at, amount in kept if at > now - SPAN - longer)


@given(st.integers(1, 12), STEPS)
def test_no_window_of_any_position_holds_more_than_the_limit_and_what_fits_is_let_in(
    limit: int, steps: list[tuple[int, int, int | None]]
) -> None:
    window, now = Window(limit, SPAN), 1000.0
    kept: list[list[float]] = []
    for gap, amount, used in steps:
        now += gap * TICK
        if window.remaining(now) >= amount:
            entry = window.add(now, amount)
            kept.append([now, amount])
            assert held(kept, now) <= limit
            if used is not None and used < amount:  # it turned out smaller, and frees its room at once
                before = window.remaining(now)
                window.correct(entry, used - amount)
                kept[-1][1] = used
                assert window.remaining(now) == before + amount - used
        else:
            assert held(kept, now, longer=1.0) + amount > limit, "refused although it fits, a slot's rounding apart"


@given(st.integers(1, 12), STEPS)
def test_reset_is_the_first_moment_at_which_an_amount_fits(
    limit: int, steps: list[tuple[int, int, int | None]]
) -> None:
    window, now = Window(limit, SPAN), 1000.0
    for gap, amount, _ in steps:
        now += gap * TICK
        amount = min(amount, limit)
        wait = window.reset_s(now, amount)
        assert 0 <= wait <= SPAN
        assert (wait == 0) == (window.remaining(now) >= amount)
        if wait:
            early = Window(limit, SPAN)
            early._entries.extend([list(entry) for entry in window._entries])
            early.used = window.used
            assert early.remaining(now + wait - TICK) < amount
            assert early.remaining(now + wait) >= amount
        else:
            window.add(now, amount)


def test_a_window_counts_upward_corrections_and_then_lets_nothing_in_until_they_are_over() -> None:
    window = Window(100)
    entry = window.add(1000.0, 50)
    window.correct(entry, 70)
    assert window.remaining(1000.0) == -20
    assert window.reset_s(1010.0, 1) == 50.0
    assert window.remaining(1060.0) == 100


def test_a_correction_that_comes_after_its_amount_left_the_window_changes_nothing() -> None:
    window = Window(100)
    entry = window.add(1000.0, 50)
    window.add(1030.0, 10)
    assert window.remaining(1060.0) == 90
    window.correct(entry, -50)
    window.correct(entry, 500)
    assert window.remaining(1060.0) == 90


def test_amounts_of_one_slot_count_until_the_last_of_them_is_over() -> None:
    window = Window(2, SPAN)
    window.add(1000.0, 1)
    window.add(1000.75, 1)
    assert window.remaining(1000.5 + SPAN) == 0
    assert window.remaining(1000.75 + SPAN) == 2


def test_a_clock_reading_from_just_before_lets_nothing_out_too_early() -> None:
    window = Window(2, SPAN)
    window.add(1000.5, 1)
    window.add(1000.25, 1)
    assert window.remaining(1000.25 + SPAN) == 0
    assert window.remaining(1000.5 + SPAN) == 2


def test_a_window_keeps_a_bounded_number_of_entries_at_any_rate() -> None:
    window = Window(10**9)
    entries: list[Entry] = [window.add(1000.0 + i / 4096, 1) for i in range(4096 * 70)]
    window.remaining(1070.0)
    assert len(window._entries) <= SLOTS + 1
    assert len(entries) > 200 * SLOTS


def test_a_window_whose_limit_was_changed_keeps_what_it_counted() -> None:
    window = Window(100)
    window.add(1000.0, 50)
    window.limit = 40
    assert window.remaining(1001.0) == -10
    assert window.reset_s(1001.0, 40) == 59.0
    window.limit = 60
    assert window.remaining(1001.0) == 10


# The limiter

SERVICE = "svc-1"


def key(limits: Limits = NO_LIMITS, name: str = "key-1", team: str = "") -> Key:
    return Key(name, "", b"", frozenset(), frozenset(), None, team=team, limits=limits)


def take(
    limiter: Limiter, now: float, of: Key, tokens: int = 1, team: Limits | None = None, service: Limits = NO_LIMITS
) -> Ticket:
    return limiter.admit(of, team, SERVICE, service, tokens, now)


def refused(
    limiter: Limiter, now: float, of: Key, tokens: int = 1, team: Limits | None = None, service: Limits = NO_LIMITS
) -> Limited:
    with pytest.raises(Limited) as caught:
        take(limiter, now, of, tokens, team, service)
    assert caught.value.kind is RATE_LIMITED
    return caught.value


def test_requests_per_minute_are_counted_in_any_sixty_seconds() -> None:
    limiter, holder = Limiter(), key(Limits(requests_per_minute=3))
    for now in (1000.0, 1030.0, 1059.0):
        take(limiter, now, holder)
    error = refused(limiter, 1059.5, holder)
    assert error.message == "The limit of this API key is 3 requests per minute; try again in 0.5 s."
    assert (b"retry-after-ms", b"500") in error.headers
    assert error.retry_after() == "1"
    take(limiter, 1060.0, holder)
    assert refused(limiter, 1060.0, holder).retry_after() == "30"


def test_tokens_count_with_their_worst_case_until_they_are_settled() -> None:
    limiter, holder = Limiter(), key(Limits(tokens_per_minute=1000))
    ticket = take(limiter, 1000.0, holder, 900)
    error = refused(limiter, 1001.0, holder, 200)
    assert error.message == (
        "The limit of this API key is 1000 tokens per minute, of which 100 are left, and this request may need 200; "
        "try again in 59.0 s."
    )
    ticket.settle(100)
    ticket.settle(900)  # once is enough
    take(limiter, 1001.0, holder, 900)
    refused(limiter, 1001.0, holder, 1)


def test_a_request_that_used_more_than_its_worst_case_counts_with_what_it_used() -> None:
    limiter, holder = Limiter(), key(Limits(tokens_per_minute=1000))
    take(limiter, 1000.0, holder, 10).settle(1500)
    assert refused(limiter, 1001.0, holder, 1).headers[1:] == (
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"59s"),
    )


def test_a_request_that_no_waiting_would_let_in_is_told_so() -> None:
    limiter = Limiter()
    with pytest.raises(ModelportError, match="1000 tokens per minute, and this request alone may need 1001") as caught:
        take(limiter, 1000.0, key(Limits(tokens_per_minute=1000)), 1001)
    assert (caught.value.kind, caught.value.param) == (INVALID, "max_tokens")


def test_requests_in_flight_are_limited_until_they_leave_and_leaving_twice_frees_one_place() -> None:
    limiter, holder = Limiter(), key(Limits(in_flight=2))
    first, _second = take(limiter, 1000.0, holder), take(limiter, 1000.0, holder)
    assert "2 requests at once" in refused(limiter, 5000.0, holder).message
    first.leave()
    first.leave()
    take(limiter, 5000.0, holder)
    refused(limiter, 5000.0, holder)


def test_a_services_in_flight_is_left_to_its_queue() -> None:
    limiter = Limiter()
    for _ in range(5):
        take(limiter, 1000.0, key(), service=Limits(in_flight=1))


def test_a_request_that_one_limit_refuses_counts_against_none() -> None:
    limiter = Limiter()
    team, service = Limits(tokens_per_minute=1000, in_flight=9), Limits(requests_per_minute=1)
    one, other = key(Limits(requests_per_minute=5), "key-1", "a"), key(NO_LIMITS, "key-2", "a")
    take(limiter, 1000.0, other, 400, team, service)
    for _ in range(20):
        error = refused(limiter, 1001.0, one, 600, team, service)
        assert error.message.startswith("The limit of this service is 1 requests per minute")
    ticket = take(limiter, 1001.0, one, 600, team)
    assert dict(ticket.headers(1001.0)) == {
        b"x-ratelimit-limit-requests": b"5",
        b"x-ratelimit-remaining-requests": b"4",
        b"x-ratelimit-reset-requests": b"1m0s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"1m0s",
    }


def test_keys_of_a_team_share_its_limits_and_other_teams_do_not() -> None:
    limiter, team = Limiter(), Limits(requests_per_minute=2)
    take(limiter, 1000.0, key(name="key-1", team="a"), team=team)
    take(limiter, 1000.0, key(name="key-2", team="a"), team=team)
    assert "the team 'a'" in refused(limiter, 1001.0, key(name="key-3", team="a"), team=team).message
    take(limiter, 1001.0, key(name="key-4", team="b"), team=team)


def test_a_refusal_names_the_limit_that_takes_longest() -> None:
    limiter, holder = Limiter(), key(Limits(requests_per_minute=1, in_flight=1))
    take(limiter, 1000.0, holder)
    assert "requests per minute; try again in 40.0 s" in refused(limiter, 1020.0, holder).message
    assert "requests at once" in refused(limiter, 1059.5, holder).message


def test_headers_of_a_request_are_those_of_the_tightest_limit_and_never_the_services() -> None:
    limiter, holder = Limiter(), key(Limits(requests_per_minute=10), team="a")
    service = Limits(requests_per_minute=2, tokens_per_minute=100)
    ticket = take(limiter, 1000.0, holder, 5, Limits(requests_per_minute=4), service)
    assert ticket.headers(1000.5)[:2] == (
        (b"x-ratelimit-limit-requests", b"4"),
        (b"x-ratelimit-remaining-requests", b"3"),
    )
    assert len(ticket.headers(1000.5)) == 3
    assert take(limiter, 1000.0, key(name="key-2"), 5, None, service).headers(1000.0) == ()
    assert take(limiter, 1000.0, key(name="key-2")).headers(1000.0) == ()


@pytest.mark.parametrize(
    ("wait", "text"), [(0.0194, b"20ms"), (0.9995, b"1s"), (1.0, b"1s"), (8.64, b"9s"), (59.5, b"1m0s")]
)
def test_resets_are_spelled_as_openai_does(wait: float, text: bytes) -> None:
    limiter, holder = Limiter(), key(Limits(requests_per_minute=1))
    take(limiter, 1000.0, holder)
    assert dict(refused(limiter, 1060.0 - wait, holder).headers)[b"x-ratelimit-reset-requests"] == text


def test_limits_that_change_hold_from_the_next_request_and_keep_what_was_used() -> None:
    limiter = Limiter()
    for _ in range(3):
        take(limiter, 1000.0, key(Limits(requests_per_minute=5)))
    refused(limiter, 1001.0, key(Limits(requests_per_minute=3)))
    take(limiter, 1001.0, key(Limits(requests_per_minute=4)))
    refused(limiter, 1001.0, key(Limits(requests_per_minute=4, tokens_per_minute=1000)))
    take(limiter, 1001.0, key(Limits()))


def test_gateways_share_a_limit_and_each_keeps_at_least_one() -> None:
    limiter, holder = Limiter(), key(Limits(requests_per_minute=5))
    take(limiter, 1000.0, holder)
    limiter.gateways = 2
    take(limiter, 1000.0, holder)
    assert "is 2 requests per minute at this gateway" in refused(limiter, 1001.0, holder).message
    limiter.gateways = 9
    assert "is 1 requests" in refused(limiter, 1001.0, holder).message
    limiter.gateways = 1
    take(limiter, 1001.0, holder)
    limiter.gateways = 4
    assert [limiter.share(limit) for limit in (None, 2, 9)] == [None, 1, 2]


def test_who_has_nothing_under_way_and_nothing_counted_is_forgotten() -> None:
    limiter = Limiter()
    limits = Limits(requests_per_minute=2, tokens_per_minute=5, in_flight=3)
    staying = take(limiter, 1000.0, key(limits, "key-stays"))
    for i in range(500):
        take(limiter, 1000.0, key(limits, f"key-{i}")).leave()
    take(limiter, 2000.0, key(limits, "key-new"))
    assert set(limiter._keys) == {"key-stays", "key-new"}
    staying.settle(1)
    staying.leave()


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(1, 9), st.integers(0, 2)), max_size=80))
def test_no_order_of_requests_gets_past_any_of_the_limits(steps: list[tuple[int, int, int, int]]) -> None:
    limiter, now = Limiter(), 1000.0
    limits = [Limits(requests_per_minute=3 + i, tokens_per_minute=10 + 5 * i, in_flight=2 + i) for i in range(3)]
    team, service = Limits(requests_per_minute=8, tokens_per_minute=40, in_flight=4), Limits(tokens_per_minute=30)
    keys = [key(limits[i], f"key-{i}", "a") for i in range(3)]
    served: list[list[float]] = []
    under_way: list[tuple[int, Ticket, int]] = []
    for gap, who, tokens, used in steps:
        now += gap / 4
        if who == 3:
            if under_way:
                index, ticket, place = under_way.pop(0)
                served[place][2] = min(used, served[place][2])
                ticket.settle(int(served[place][2]))
                ticket.leave()
            continue
        try:
            ticket = take(limiter, now, keys[who], tokens, team, service)
        except ModelportError:
            continue
        under_way.append((who, ticket, len(served)))
        served.append([now, who, tokens])
        recent = [entry for entry in served if entry[0] > now - 60]
        for index, each in enumerate(limits):
            mine = [entry for entry in recent if entry[1] == index]
            assert len(mine) <= (each.requests_per_minute or 0)
            assert sum(entry[2] for entry in mine) <= (each.tokens_per_minute or 0)
            assert sum(entry[0] == index for entry in under_way) <= (each.in_flight or 0)
        assert len(recent) <= 8
        assert sum(entry[2] for entry in recent) <= 30
        assert len(under_way) <= 4


# Caps


def test_a_body_above_the_tightest_limit_is_refused() -> None:
    limits = (Limits(max_input_bytes=100), NO_LIMITS, Limits(max_input_bytes=50))
    check_body(50, limits)
    with pytest.raises(ModelportError, match="has 51 bytes, more than the 50") as caught:
        check_body(51, limits)
    assert caught.value.kind is TOO_LARGE


@pytest.mark.parametrize(
    ("requested", "n", "cap", "default", "given"),
    [
        (None, 1, None, None, None),
        (-1, 1, None, None, -1),
        (70, 1, None, 50, 70),
        (None, 1, None, 50, 50),
        (None, 1, 100, None, 100),
        (None, 4, 100, None, 25),
        (None, 4, 100, 50, 25),
        (None, 1, 100, 50, 50),
        (100, 1, 100, 50, 100),
        (50, 2, 100, None, 50),
        (0, 1, 100, None, 0),
    ],
)
def test_an_output_gets_the_default_or_the_cap_where_it_asks_for_none(
    requested: int | None, n: int, cap: int | None, default: int | None, given: int | None
) -> None:
    assert cap_output(requested, n, (Limits(max_tokens=cap), Limits(default_max_tokens=default))) == given


@pytest.mark.parametrize(
    ("requested", "n", "says"),
    [
        (101, 1, "asks for 101 tokens; at most 100"),
        (51, 2, "2 answers of 51 tokens each; at most 100"),
        (None, 101, "101 answers of 1 tokens each"),
        (-1, 1, "must not be negative"),
    ],
)
def test_an_output_above_the_tightest_cap_is_refused(requested: int | None, n: int, says: str) -> None:
    with pytest.raises(ModelportError, match=says) as caught:
        cap_output(requested, n, (Limits(max_tokens=100), Limits(max_tokens=5000)))
    assert (caught.value.kind, caught.value.param) == (INVALID, "max_tokens")


def test_the_tightest_deadline_holds() -> None:
    limits = (Limits.model_validate({"deadline": "2m"}), Limits.model_validate({"deadline": 30}), NO_LIMITS)
    assert deadline_s(None, (NO_LIMITS,)) is None
    assert deadline_s(None, limits) == 30
    assert deadline_s(b"1500", limits) == 1.5
    assert deadline_s(b"90000", limits) == 30
    assert deadline_s(b"90000", ()) == 90


@given(st.sampled_from([b"", b"0", b"-1", b"1.5", b"1e3", b" 5", b"nan", b"12345678901", "٣".encode()]))
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(value: bytes) -> None:
    with pytest.raises(ModelportError, match="whole number of milliseconds"):
        deadline_s(value, (Limits.model_validate({"deadline": 30}),))
