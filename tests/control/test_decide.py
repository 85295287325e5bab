"""What the reconciler does next, as a function: every case a value, no process."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.control.decide import Step, backoff_s, decide
from modelport.domain.launch import Labels, Launch
from modelport.domain.service import ENDED_IDLE
from modelport.domain.spec import Batch, Spec
from modelport.domain.states import ALIVE, SERVICE_TRANSITIONS, InstanceState, ServiceState
from modelport.store.instances import Row
from modelport.store.services import Service

NOW = 1_000_000.0
SERVICE = Service(
    id="s", name="s", spec=Spec(model="m"), version="v1", desired="running", state=ServiceState.READY, reason="",
    port=None, plan=None, failures=0, retry_at=None, wake_at=None, created_at=0, changed_at=0,
)  # fmt: skip


def row(number: int, state: InstanceState, version: str = "v1", ready_at: float | None = NOW - 5) -> Row:
    launch = Launch(("x",), "/health", labels=Labels("s", f"i-{number}", "o"))
    return Row(
        id=f"i-{number}", service_id="s", version=version, state=state, reason="", platform="process", engine="e",
        port=1, launch=launch, instance=None, exit=None, drain_revision=None, created_at=number, changed_at=0,
        ready_at=ready_at,
    )  # fmt: skip


READY, LOADING = InstanceState.READY, InstanceState.LOADING


def test_a_ready_service_with_its_replica_needs_nothing() -> None:
    assert decide(SERVICE, [row(1, READY)], NOW, NOW) == Step()


def test_a_lost_replica_degrades_the_service_and_is_launched_again() -> None:
    step = decide(SERVICE, [row(1, InstanceState.FAILED)], NOW, NOW)
    assert (step.state, step.launch) == (ServiceState.DEGRADED, 1)


def test_nothing_is_launched_before_the_back_off_is_over() -> None:
    waiting = replace(SERVICE, state=ServiceState.STARTING, failures=3, retry_at=NOW + 1)
    assert decide(waiting, [], NOW, 0).launch == 0
    assert decide(waiting, [], NOW + 2, 0).launch == 1


def test_after_a_failure_replicas_come_one_at_a_time() -> None:
    several = replace(SERVICE, state=ServiceState.STARTING, spec=Spec(model="m", replicas=4))
    assert decide(several, [], NOW, 0).launch == 4
    assert decide(replace(several, failures=1), [], NOW, 0).launch == 1


def test_old_engines_go_on_until_all_new_ones_are_ready() -> None:
    changing = replace(SERVICE, state=ServiceState.STARTING, version="v2")
    old = row(1, READY)
    assert decide(changing, [old], NOW, NOW) == Step(launch=1)
    assert decide(changing, [old, row(2, LOADING, "v2")], NOW, NOW) == Step()
    done = decide(changing, [old, row(2, READY, "v2")], NOW, NOW)
    assert (done.state, done.wind_down) == (ServiceState.READY, ("i-1",))


def test_an_engine_of_a_version_nobody_wants_any_more_is_not_waited_for() -> None:
    changing = replace(SERVICE, state=ServiceState.STARTING, version="v3")
    assert decide(changing, [row(1, READY), row(2, LOADING, "v2")], NOW, NOW).wind_down == ("i-2",)


def test_fewer_replicas_end_the_newest() -> None:
    assert decide(SERVICE, [row(1, READY), row(2, READY)], NOW, NOW).wind_down == ("i-2",)


def test_without_requests_a_service_goes_to_sleep_and_only_a_wake_up_starts_it() -> None:
    sleepy = replace(SERVICE, spec=Spec(model="m", idle_timeout=3))
    assert decide(sleepy, [row(1, READY, ready_at=NOW - 9)], NOW, NOW - 4).state is None, "a gateway's word may be late"
    step = decide(sleepy, [row(1, READY, ready_at=NOW - 9)], NOW, NOW - 5)
    assert (step.state, step.wind_down) == (ServiceState.IDLE, ("i-1",))
    asleep = replace(sleepy, state=ServiceState.IDLE)
    assert decide(asleep, [], NOW, NOW - 4) == Step()
    assert decide(replace(asleep, wake_at=NOW), [], NOW, NOW).state is ServiceState.STARTING


def test_idle_timeout_zero_never_sleeps() -> None:
    assert decide(replace(SERVICE, spec=Spec(model="m", idle_timeout=0)), [row(1, READY)], NOW, 1) == Step()


def test_a_removed_service_ends_its_engines_and_is_deleted_last() -> None:
    gone = replace(SERVICE, desired="removed")
    step = decide(gone, [row(1, READY), row(2, LOADING)], NOW, NOW)
    assert (step.state, step.wind_down) == (ServiceState.STOPPING, ("i-1", "i-2"))
    stopping = replace(gone, state=ServiceState.STOPPING)
    assert decide(stopping, [row(1, InstanceState.DRAINING)], NOW, NOW) == Step()
    assert decide(stopping, [], NOW, NOW).state is ServiceState.STOPPED
    assert decide(replace(gone, state=ServiceState.STOPPED), [], NOW, NOW).delete


def test_a_service_that_is_wanted_again_while_it_stops_stops_first() -> None:
    stopping = replace(SERVICE, state=ServiceState.STOPPING)
    assert decide(stopping, [], NOW, NOW).state is ServiceState.STOPPED
    assert decide(replace(SERVICE, state=ServiceState.STOPPED), [], NOW, NOW).state is ServiceState.PENDING


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (99, 300)])
def test_restarts_back_off_from_one_second_to_five_minutes(failures: int, seconds: float) -> None:
    assert backoff_s(failures) == seconds


@given(
    st.sampled_from(list(ServiceState)),
    st.sampled_from(["running", "stopped", "removed"]),
    st.lists(st.tuples(st.sampled_from(list(InstanceState)), st.sampled_from(["v1", "v2"])), max_size=6),
    st.integers(1, 4),
    st.sampled_from([0.0, NOW - 10_000, NOW]),
    st.sampled_from([None, NOW - 1]),
)
def test_whatever_is_found_each_step_is_legal_and_never_more_than_is_wanted(
    state: ServiceState,
    desired: str,
    found: list[tuple[InstanceState, str]],
    replicas: int,
    last: float,
    wake_at: float | None,
) -> None:
    service = replace(SERVICE, state=state, desired=desired, wake_at=wake_at, spec=Spec(model="m", replicas=replicas))  # type: ignore[arg-type]
    rows = [row(n, instance, version) for n, (instance, version) in enumerate(found)]
    step = decide(service, rows, NOW, last)
    assert step.state is None or step.state in SERVICE_TRANSITIONS[state]
    coming = [
        r for r in rows if r.version == "v1" and r.state in ALIVE - {InstanceState.DRAINING, InstanceState.STOPPING}
    ]
    assert step.launch == 0 or step.launch + len(coming) <= replicas
    assert desired == "running" or step.launch == 0
    ended = {r.id for r in rows if r.state in (InstanceState.GONE, InstanceState.FAILED)}
    assert not ended & set(step.wind_down)


def test_a_job_that_idles_is_over_and_another_service_sleeps() -> None:
    rested = replace(SERVICE, spec=Spec(model="m", idle_timeout=60))
    job = replace(SERVICE, spec=Spec(model="m", idle_timeout=60, job=True))
    long_ago = [row(1, READY, ready_at=NOW - 1000)]
    assert decide(rested, long_ago, NOW, NOW - 900).state is ServiceState.IDLE
    step = decide(job, long_ago, NOW, NOW - 900)
    assert step.end and step.state is None and step.reason == ENDED_IDLE
    assert decide(job, long_ago, NOW, NOW - 10) == Step()


def test_a_batch_is_never_idle() -> None:
    batch = Spec(model="m", idle_timeout=60, job=True, batch=Batch(input="/in", results="/out"))
    assert decide(replace(SERVICE, spec=batch), [row(1, READY, ready_at=NOW - 1000)], NOW, 0.0) == Step()
