"""Answers: what a model server says on each of TAO's routes in each state: numbers and bodies as NVIDIA's server has
them (nvidia-tao-core, base_inference_microservice_server.py), with the documented fields and the code's extras.

The runtime answers so for itself; the gateway answers so for a job whose engine is not there yet.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from modelport.domain.progress import FAILED_INITIALIZATION, FAILED_LOAD, Progress, Stage

Answer = tuple[int, dict[str, Any]]
"""HTTP status and body."""
INITIALIZING = "Server is initializing (downloading files, setting up), please wait"
LOADING = "Model is currently loading, please wait and try again"
ERROR_CODES = {400: 1, 401: 1, 403: 2, 404: 1}
"""ErrorRsp's `error_code`, by HTTP status; 3 for all others."""
LONGEST_ERROR = 1000
"""Characters of `error_desc` (nvidia-tao-core, ErrorRsp)."""
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server knows of itself beside its progress. Times in seconds since the epoch."""

    job_id: str
    model_type: str = ""
    port: int = 0
    last_request_at: float = 0.0
    idle_timeout_s: float = 0.0
    """0: never ended for being idle."""
    instance: str = ""
    """What the documentation calls the pod."""


def inference(facts: Facts, progress: Progress, now: float) -> Answer | None:
    """What POST /api/v1/inference says instead of a result; None when the model is ready."""
    if progress.stage is Stage.READY:
        return None
    body = {"job_id": facts.job_id, "timestamp": stamp(now)}
    if progress.stage is Stage.ERROR:
        return 503, {**body, "status": "error", "error": progress.sentence}
    if progress.initializing:
        return 202, {**body, "status": "initializing", "message": INITIALIZING}
    return 202, {**body, "status": "loading", "message": LOADING}


def chat(progress: Progress) -> Answer | None:
    """What POST /v1/chat/completions says instead of an answer; None when the model is ready."""
    if progress.stage is Stage.READY:
        return None
    status = 503 if progress.stage is Stage.ERROR else 202
    return status, {"error": {"type": progress.error_type, "message": progress.sentence}}


def readiness(facts: Facts, progress: Progress, now: float) -> Answer:
    """GET /api/v1/health/readiness: 200 or 503, with `reason` (as the server has it) and `error.type` (as clients
    look for it)."""
    common = {"job_id": facts.job_id, "timestamp": stamp(now)}
    if progress.stage is Stage.READY:
        return 200, {"status": "ready", "message": "Model is ready", "model_type": facts.model_type, **common}
    return 503, {
        "status": "not_ready",
        "reason": progress.reason,
        "message": progress.sentence,
        "error": {"type": progress.error_type, "message": progress.sentence},
        "retry": progress.again,
        "progress": shown(progress),
        **common,
    }


def liveness(facts: Facts, progress: Progress, now: float) -> Answer:
    """GET /api/v1/health/liveness: 200 for as long as the process answers."""
    return 200, {
        "status": "healthy",
        **flags(progress),
        "job_id": facts.job_id,
        "model_type": facts.model_type,
        **_idle(facts, progress, now),
        "progress": shown(progress),
        "timestamp": stamp(now),
    }


def status(facts: Facts, progress: Progress, now: float) -> Answer:
    """GET /api/v1/status: always 200."""
    failed = progress.stage is Stage.ERROR
    return 200, {
        "job_id": facts.job_id,
        **flags(progress),
        "status": "error" if failed else "healthy",
        "pod_name": facts.instance,
        "pod_status": "Failed" if failed else "Running",
        "model_state": {"loaded": progress.stage is Stage.READY, "model_type": facts.model_type},
        "server_port": facts.port,
        **_idle(facts, progress, now),
        "progress": shown(progress),
        "timestamp": stamp(now),
    }


def flags(progress: Progress) -> dict[str, Any]:
    """The five that clients poll."""
    failed = progress.error if progress.stage is Stage.ERROR else None
    early = progress.failed_in == "initialization"
    return {
        "model_loaded": progress.stage is Stage.READY,
        "model_loading": progress.stage is Stage.LOADING,
        "server_initializing": progress.initializing,
        "initialization_error": failed if early else None,
        "model_load_error": None if early else failed,
    }


def shown(progress: Progress) -> dict[str, Any]:
    """A Progress as JSON; `read` makes it a Progress again."""
    return {
        "stage": str(progress.stage),
        "message": progress.sentence,
        "remaining_steps": list(progress.remaining_steps),
        "details": {} if progress.share is None else {"share": round(progress.share, 3)},
        "timestamp": stamp(progress.at),
    }


def error_rsp(message: str, status: int) -> dict[str, Any]:
    """An error as TAO's clients read it: ErrorRsp's fields, and those of its servers."""
    sentence = message[:LONGEST_ERROR]
    code = ERROR_CODES.get(status, 3)
    return {"error_desc": sentence, "error_code": code, "status": "error", "error": sentence}


def stamp(at: float) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def _idle(facts: Facts, progress: Progress, now: float) -> dict[str, Any]:
    ready = progress.stage is Stage.READY
    idle_s = max(0.0, now - facts.last_request_at) if ready and facts.last_request_at else 0.0
    return {
        "last_request_time": stamp(facts.last_request_at) if facts.last_request_at else None,
        "idle_time_minutes": round(idle_s / 60, 2),
        "idle_timeout_minutes": round(facts.idle_timeout_s / 60, 2),
        "auto_deletion_enabled": facts.idle_timeout_s > 0,
        "health_monitor_active": ready and facts.idle_timeout_s > 0,
    }


def read(body: object) -> Progress | None:
    """The Progress in a readiness body that is not 200; None where it holds none. What is odd in it is left out."""
    given = _object(_object(body).get("progress"))
    if given.get("stage") not in set(Stage):
        return _plain(_object(body))
    stage = Stage(given["stage"])
    failed = stage is Stage.ERROR
    early = _object(body).get("reason") == "initialization_failed"
    sentence = str(given.get("message", ""))[:2000]
    steps: Any = given.get("remaining_steps")
    steps = cast(list[Any], steps) if isinstance(steps, list) else []
    share: Any = _object(given.get("details")).get("share")
    return Progress(
        stage=stage,
        message=sentence,
        remaining_steps=tuple(str(step)[:200] for step in steps[:20]),
        share=float(share) if isinstance(share, int | float) and 0 <= share <= 1 else None,
        error=sentence.removeprefix(FAILED_INITIALIZATION).removeprefix(FAILED_LOAD) if failed else "",
        failed_in=("initialization" if early else "load") if failed else "",
        again=_object(body).get("retry") is not False,
        at=_seconds(given.get("timestamp")),
    )


_REASONS = {
    "server_initializing": Stage.INITIALIZING,
    "model_loading": Stage.LOADING,
    "model_not_loaded": Stage.LOADING,
    "initialization_failed": Stage.ERROR,
    "model_load_failed": Stage.ERROR,
}


def _plain(body: dict[str, Any]) -> Progress | None:
    """What NVIDIA's own server says, which has `reason` and `message` alone. It does not try again by itself."""
    stage = _REASONS.get(str(body.get("reason")))
    if stage is None:
        return None
    sentence = str(body.get("message", ""))[:2000]
    failed = stage is Stage.ERROR
    early = body.get("reason") == "initialization_failed"
    return Progress(
        stage=stage,
        message=sentence,
        error=sentence.removeprefix(FAILED_INITIALIZATION).removeprefix(FAILED_LOAD) if failed else "",
        failed_in=("initialization" if early else "load") if failed else "",
        again=not failed,
    )


def _seconds(stamped: object) -> float:
    try:
        return datetime.fromisoformat(str(stamped)).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _object(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
