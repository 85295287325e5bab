"""The two lifecycle tables. A transition that is not in them raises."""

from enum import StrEnum


class InstanceState(StrEnum):
    LAUNCHING = "launching"  # written down, process not seen yet
    INITIALIZING = "initializing"  # process runs, port closed
    LOADING = "loading"  # port open, not answering yet
    READY = "ready"
    DRAINING = "draining"  # gets no new requests
    STOPPING = "stopping"  # told to end
    GONE = "gone"
    FAILED = "failed"


class ServiceState(StrEnum):
    PENDING = "pending"
    PLANNING = "planning"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"  # fewer replicas than wanted answer, or a change could not be rolled out
    IDLE = "idle"  # no instances; the next request wakes it
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


_I, _S = InstanceState, ServiceState

INSTANCE_TRANSITIONS: dict[InstanceState, frozenset[InstanceState]] = {
    # GONE: a batch is over when it is done, which may be before it was ever seen ready.
    _I.LAUNCHING: frozenset({_I.INITIALIZING, _I.LOADING, _I.READY, _I.STOPPING, _I.FAILED, _I.GONE}),
    _I.INITIALIZING: frozenset({_I.LOADING, _I.READY, _I.STOPPING, _I.FAILED, _I.GONE}),
    _I.LOADING: frozenset({_I.INITIALIZING, _I.READY, _I.STOPPING, _I.FAILED, _I.GONE}),
    _I.READY: frozenset({_I.DRAINING, _I.FAILED, _I.GONE}),
    _I.DRAINING: frozenset({_I.STOPPING, _I.FAILED}),
    _I.STOPPING: frozenset({_I.GONE}),
    _I.GONE: frozenset(),
    _I.FAILED: frozenset(),
}

SERVICE_TRANSITIONS: dict[ServiceState, frozenset[ServiceState]] = {
    _S.PENDING: frozenset({_S.PLANNING, _S.STOPPING}),
    _S.PLANNING: frozenset({_S.STARTING, _S.DEGRADED, _S.FAILED, _S.STOPPING}),
    _S.STARTING: frozenset({_S.READY, _S.DEGRADED, _S.PLANNING, _S.FAILED, _S.STOPPING}),
    _S.READY: frozenset({_S.DEGRADED, _S.IDLE, _S.PLANNING, _S.STOPPING}),
    _S.DEGRADED: frozenset({_S.READY, _S.IDLE, _S.PLANNING, _S.FAILED, _S.STOPPING}),
    _S.IDLE: frozenset({_S.STARTING, _S.PLANNING, _S.STOPPING}),
    _S.STOPPING: frozenset({_S.STOPPED}),
    _S.STOPPED: frozenset({_S.PENDING}),
    _S.FAILED: frozenset({_S.PENDING, _S.PLANNING, _S.STARTING, _S.STOPPING}),
}

ALIVE = frozenset({_I.LAUNCHING, _I.INITIALIZING, _I.LOADING, _I.READY, _I.DRAINING, _I.STOPPING})
"""States in which a process may exist."""
COMING = frozenset({_I.LAUNCHING, _I.INITIALIZING, _I.LOADING})
"""On the way to ready."""
WAITED_FOR = frozenset({_S.PENDING, _S.PLANNING, _S.STARTING, _S.READY, _S.DEGRADED, _S.IDLE})
"""Service states in which a request without a ready replica is held."""


class IllegalTransition(Exception):
    """A defect of ours: some code wanted a change that the table does not have."""


def next_instance(now: InstanceState, to: InstanceState) -> InstanceState:
    """`to`, or IllegalTransition when the table has no such step."""
    if to not in INSTANCE_TRANSITIONS[now]:
        raise IllegalTransition(f"instance: {now} -> {to}")
    return to


def next_service(now: ServiceState, to: ServiceState) -> ServiceState:
    """`to`, or IllegalTransition when the table has no such step."""
    if to not in SERVICE_TRANSITIONS[now]:
        raise IllegalTransition(f"service: {now} -> {to}")
    return to
