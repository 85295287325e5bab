"""The two lifecycle tables: complete, and closed to every step they do not have."""

import pytest

from modelport.domain.states import (
    INSTANCE_TRANSITIONS,
    SERVICE_TRANSITIONS,
    IllegalTransition,
    InstanceState,
    ServiceState,
    next_instance,
    next_service,
)


def test_every_state_has_its_row() -> None:
    assert set(INSTANCE_TRANSITIONS) == set(InstanceState)
    assert set(SERVICE_TRANSITIONS) == set(ServiceState)


def test_a_step_outside_the_table_raises() -> None:
    for now in InstanceState:
        for to in InstanceState:
            if to in INSTANCE_TRANSITIONS[now]:
                assert next_instance(now, to) is to
            else:
                with pytest.raises(IllegalTransition):
                    next_instance(now, to)
    with pytest.raises(IllegalTransition):
        next_service(ServiceState.STOPPED, ServiceState.READY)


def test_every_instance_can_end_and_the_ended_stay_so() -> None:
    for state in InstanceState:
        reachable, frontier = {state}, {state}
        while frontier:
            frontier = set().union(*(INSTANCE_TRANSITIONS[s] for s in frontier)) - reachable
            reachable |= frontier
        assert reachable & {InstanceState.GONE, InstanceState.FAILED}
    assert not INSTANCE_TRANSITIONS[InstanceState.GONE] | INSTANCE_TRANSITIONS[InstanceState.FAILED]


def test_every_service_state_but_stopped_can_be_stopped() -> None:
    for state in set(ServiceState) - {ServiceState.STOPPED, ServiceState.STOPPING}:
        assert ServiceState.STOPPING in SERVICE_TRANSITIONS[state]
