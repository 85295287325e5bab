"""Status: what is known of a job, in TAO's words: documented fields and those of its servers."""

import time
from datetime import UTC, datetime
from typing import Any, Literal

from modelport.domain.answers import Facts, flags, shown, stamp
from modelport.domain.answers import status as running_status
from modelport.domain.progress import Progress, Stage, failed
from modelport.domain.service import ENDED_IDLE, InstanceView, ServiceView
from modelport.domain.states import InstanceState, ServiceState

Word = Literal["Pending", "Running", "Done", "Error", "Canceled"]

_S = ServiceState
WAIT = "Server is initializing, please wait"
PENDING = frozenset({_S.PENDING, _S.PLANNING})
FAILED_TO_COME = frozenset({InstanceState.FAILED, InstanceState.GONE})
FINISHED = "exit code 0"
"""How the engine of a batch ends that was not stopped."""


def word(view: ServiceView) -> Word:
    """A job's state as TAO's lists have it."""
    last = view.instances[-1] if view.instances else None
    broke = last is None or last.state is InstanceState.FAILED
    if view.state is _S.FAILED or (view.state is _S.STOPPED and broke and view.reason not in ("", ENDED_IDLE)):
        return "Error"  # also once it was stopped: what happened stays so
    if view.spec.batch is None:
        if view.state in (_S.STOPPED, _S.STOPPING, _S.FAILED) or view.desired != "running":
            return "Done"
        return "Pending" if view.state in PENDING else "Running"
    if view.state in (_S.STOPPED, _S.FAILED):
        return "Done" if view.instances and view.instances[-1].exit == FINISHED else "Canceled"
    return "Pending" if view.state in PENDING else "Running"


def status(view: ServiceView) -> dict[str, Any]:
    """The body of a status: of a server that is on its way or answers, or of a job that is over."""
    now = time.time()
    last = view.instances[-1] if view.instances else None
    if (over := word(view)) in ("Pending", "Running"):
        _, body = running_status(facts(view, last), progress(view, last), now)
        return {**body, "id": view.id}
    ended = failed(view.reason or "it could not be started") if over == "Error" else Progress(message=_farewell(view))
    return {
        "job_id": view.id,
        "id": view.id,
        "status": over,
        "message": f"Inference microservice has been {over.lower()}",
        **flags(ended),
        "server_initializing": False,
        "pod_name": last.id if last else "",
        "pod_status": "Failed" if over == "Error" else "Succeeded",
        "auto_deletion": view.reason == ENDED_IDLE,
        "reason": view.reason,
        "progress": {**shown(ended), "stage": "error" if over == "Error" else "stopped"},
        "timestamp": stamp(now),
    }


def facts(view: ServiceView, last: InstanceView | None) -> Facts:
    """What the server of a job would say of itself."""
    return Facts(
        job_id=view.id,
        model_type=view.spec.labels.get("tao.network-arch", ""),
        port=view.port or 0,
        last_request_at=view.last_request_at or (last.ready_at if last else 0.0) or 0.0,
        idle_timeout_s=view.spec.idle_timeout,
        instance=last.id if last else "",
    )


def progress(view: ServiceView, last: InstanceView | None) -> Progress:
    """How far a job is that is not over. A start that is tried again is on its way, not an error."""
    said = last.progress if last else None
    if any(instance.state is InstanceState.READY for instance in view.instances):
        share = said.share if said and view.spec.batch else None
        return Progress(
            Stage.READY, said.message if said and said.message else "Model is ready", share=share, at=_at(said)
        )
    if last is None or last.state in FAILED_TO_COME or (said and said.stage is Stage.ERROR):
        return Progress(message=f"Starting again: {view.reason}" if view.reason else WAIT, at=view.created_at)
    if said is not None and said.stage is not Stage.READY:
        return said
    loading = last.state in (InstanceState.LOADING, InstanceState.READY)
    if loading:
        return Progress(Stage.LOADING, "Model is loading, please wait", at=last.created_at)
    return Progress(message=WAIT, at=last.created_at)


def date(at: float) -> str:
    """`2026-01-31T12:00:00.000Z`, the 24 characters that its schemas allow."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:23] + "Z"


def _at(said: Progress | None) -> float:
    return said.at if said else 0.0


def _farewell(view: ServiceView) -> str:
    return "It ended after a time without requests" if view.reason == ENDED_IDLE else "It is over"
