"""A replica's breaker: when it opens, when it is tried again, and what closes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.states import IllegalTransition
from modelport.gateway.breaker import (
    FAILED_OF_LAST,
    FIRST_OPEN_S,
    IN_A_ROW,
    LAST,
    LONGEST_OPEN_S,
    TRANSITIONS,
    WITHIN_S,
    Breaker,
    BreakerState,
)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        breaker.failed(now)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_it_opens_at_the_fifth_failure_in_a_row_and_not_before() -> None:
    breaker = Breaker()
    for _ in range(IN_A_ROW - 1):
        breaker.failed(0)
    assert breaker.ok(0)
    breaker.failed(0)
    assert not breaker.ok(0)


def test_a_success_between_begins_the_row_anew() -> None:
    breaker = Breaker()
    for _ in range(IN_A_ROW - 1):
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(IN_A_ROW - 1):
        breaker.failed(0)
    assert breaker.ok(0)


def test_it_opens_when_half_of_the_last_answers_failed_within_30_s() -> None:
    breaker = Breaker()
    for _ in range(FAILED_OF_LAST - 1):
        breaker.failed(0)
        breaker.succeeded()
    assert breaker.ok(0)
    breaker.failed(0)
    assert not breaker.ok(0)


def test_failures_that_are_rarer_do_not_open_it() -> None:
    slow, seldom = Breaker(), Breaker()
    for i in range(10 * LAST):
        slow.failed(i * WITHIN_S / (FAILED_OF_LAST - 2))
        slow.succeeded()
        seldom.failed(0)
        seldom.succeeded()
        seldom.succeeded()
    assert slow.state is seldom.state is BreakerState.CLOSED


@pytest.mark.parametrize(("status", "counts"), [(500, True), (502, True), (504, True), (503, False), (429, False),
                                                (400, False), (404, False), (200, False)])  # fmt: skip
def test_an_engines_5xx_is_a_failure_but_a_busy_one_and_a_clients_error_are_none(status: int, counts: bool) -> None:
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        breaker.heard(status, 0)
    assert breaker.ok(0) is not counts


def test_a_busy_engine_neither_closes_nor_forgives() -> None:
    breaker = Breaker()
    for _ in range(IN_A_ROW - 1):
        breaker.failed(0)
    breaker.heard(503, 0)
    breaker.failed(0)
    assert breaker.state is BreakerState.OPEN
    probe = breaker.enter(FIRST_OPEN_S)
    breaker.heard(429, FIRST_OPEN_S)
    breaker.leave(probe)
    assert breaker.state is BreakerState.OPEN and breaker.ok(FIRST_OPEN_S)


def test_one_request_at_a_time_is_the_probe_and_its_success_closes() -> None:
    breaker = opened()
    assert breaker.enter(0.5) == 0 and not breaker.ok(0.5)
    assert breaker.ok(FIRST_OPEN_S)
    probe = breaker.enter(FIRST_OPEN_S)
    assert probe and not breaker.ok(100) and breaker.enter(100) == 0
    breaker.heard(200, 100)
    assert breaker.state is BreakerState.CLOSED
    breaker.leave(probe)
    assert breaker.ok(100)


def test_a_probe_that_fails_doubles_the_pause_up_to_a_minute() -> None:
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(9):
        pauses.append(breaker.probe_at - now)
        now = breaker.probe_at
        probe = breaker.enter(now)
        breaker.failed(now)
        breaker.leave(probe)
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_OPEN_S, LONGEST_OPEN_S, LONGEST_OPEN_S]
    breaker.enter(breaker.probe_at)
    breaker.succeeded()
    for _ in range(IN_A_ROW):
        breaker.failed(1000)
    assert breaker.probe_at == 1000 + FIRST_OPEN_S


def test_a_probe_whose_client_left_makes_room_for_the_next() -> None:
    breaker = opened()
    breaker.leave(breaker.enter(FIRST_OPEN_S))
    assert breaker.ok(FIRST_OPEN_S) and breaker.enter(FIRST_OPEN_S)


def test_requests_from_before_it_opened_change_nothing_while_it_is_open() -> None:
    breaker = opened()
    breaker.succeeded()
    breaker.failed(0.9)
    breaker.leave(0)
    assert breaker.state is BreakerState.OPEN and breaker.probe_at == FIRST_OPEN_S


def test_an_old_probe_that_ends_does_not_end_the_one_under_way() -> None:
    breaker = opened()
    old = breaker.enter(FIRST_OPEN_S)
    breaker.heard(200, FIRST_OPEN_S)  # and streams on
    for _ in range(IN_A_ROW):
        breaker.failed(2)
    assert breaker.enter(3)
    breaker.leave(old)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_step_that_the_table_lacks_raises() -> None:
    with pytest.raises(IllegalTransition):
        Breaker()._go(BreakerState.HALF_OPEN)


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "failed", "succeeded", "500", "200"]), st.floats(0, 5))))
def test_whatever_happens_only_legal_steps_are_taken_and_at_most_one_probe_runs(steps: list[tuple[str, float]]) -> None:
    breaker, now, probes = Breaker(), 0.0, list[int]()
    for what, later in steps:
        now += later
        before, passes = breaker.state, breaker.ok(now)
        match what:
            case "enter" if passes:
                probe = breaker.enter(now)
                assert bool(probe) == (before is BreakerState.OPEN)
                probes.append(probe)
            case "leave" if probes:
                breaker.leave(probes.pop(0))
            case "failed":
                breaker.failed(now)
            case "succeeded":
                breaker.succeeded()
            case "500" | "200":
                breaker.heard(int(what), now)
            case _:
                pass
        assert breaker.state is before or breaker.state in TRANSITIONS[before]
        assert breaker.state is not BreakerState.HALF_OPEN or not breaker.ok(now)
        assert breaker.state is BreakerState.CLOSED or breaker.probe_at <= now + LONGEST_OPEN_S
