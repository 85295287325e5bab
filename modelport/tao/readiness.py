"""Readiness: what a service's health route says, in either shape it is said in, and waiting until it is ready.

NVIDIA's server says `reason`, its skill looks for `error.type` (and so, against that server, never sees a failure and
waits out its time): both are read here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from modelport.domain.service import ServiceView
from modelport.domain.states import ServiceState
from modelport.errors import NOT_FOUND, NOT_READY, SERVICE_FAILED, ModelportError
from modelport.tao import registry

TIMEOUT_S = 600.0
INTERVAL_S = 10.0
LOOK_S = 0.5
"""How often control is asked, which costs a service nothing."""
RETRY = ("server_initializing", "model_loading", "model_not_ready", "model_not_loaded", "not_ready")
FATAL = (
    *("initialization_error", "model_load_error"),
    *("initialization_failed", "model_load_failed"),
    *("service_failed", "service_stopped"),
)
"""Words of `error.type`, `reason` and our own `error.code`."""


class Verdict(StrEnum):
    READY = "ready"
    WAIT = "wait"
    FAILED = "failed"
    UNKNOWN = "unknown"  # nobody answers there, or not about this


@dataclass(frozen=True, slots=True)
class Look:
    verdict: Verdict
    message: str = ""
    """What the service says of it."""


Probe = Callable[[], Look]


def read(status: int, body: object) -> Look:
    """What an answer means, of the health route or of a request that came too early."""
    if status == 200:
        return Look(Verdict.READY)
    if status == 401:
        return Look(Verdict.FAILED, "the key is not for this service")
    said = _object(body)
    error = _object(said.get("error"))
    words = [str(word) for word in (error.get("type"), error.get("code"), said.get("reason")) if word]
    message = str(error.get("message") or said.get("message") or "")[:2000]
    if status in (202, 503):
        if any(word in FATAL for word in words):
            return Look(Verdict.FAILED, message or words[0])
        if status == 202 or any(word in RETRY for word in words):
            return Look(Verdict.WAIT, message)
    return Look(Verdict.UNKNOWN, message)


def of_service(view: ServiceView) -> Look:
    """What control knows: that it ended, which its health route can tell nobody any more, or that it is there."""
    if view.state is ServiceState.FAILED or not registry.runs(view):
        return Look(Verdict.FAILED, view.reason or f"it is {view.state}")
    if view.state in (ServiceState.READY, ServiceState.DEGRADED):
        return Look(Verdict.READY)
    progress = next((one.progress for one in reversed(view.instances) if one.progress), None)
    return Look(Verdict.WAIT, progress.sentence if progress else view.reason or view.stage)


def wait(
    job_id: str,
    status: Callable[[], ServiceView],
    probe: Probe,
    *,
    timeout_s: float = TIMEOUT_S,
    interval_s: float = INTERVAL_S,
    say: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ServiceView:
    """Poll until a service is ready and return it. `say` hears each new thing that it says of itself. Its health route
    is asked every `interval_s`, and at once when control takes it for ready; an engine without such a route is ready
    when control says so. Raises ModelportError when it failed, ended, or was not ready in time."""
    began, next_probe, told = clock(), clock(), ""
    while True:
        view = _status(job_id, status)
        look = known = of_service(view)
        if known.verdict is not Verdict.FAILED and (known.verdict is Verdict.READY or clock() >= next_probe):
            next_probe = clock() + interval_s
            seen = probe()
            look = known if seen.verdict is Verdict.UNKNOWN else seen
        if look.verdict is Verdict.READY:
            return view
        if look.verdict is Verdict.FAILED:
            raise failed(job_id, look.message)
        if look.message and look.message != told:
            told = look.message
            say(told)
        if clock() - began > timeout_s:
            raise ModelportError(
                f"job_id={job_id} was not ready within {timeout_s:g} s ({told or view.stage}); it goes on: `modelport "
                f"tao status {job_id}` shows how far it is, `modelport tao logs {job_id}` its output.",
                NOT_READY,
            )
        sleep(min(LOOK_S, interval_s))


def failed(job_id: str, why: str) -> ModelportError:
    """The sentence for a service that will not be ready."""
    return ModelportError(
        f"job_id={job_id} cannot be used: {why.rstrip('.')}. `modelport tao logs {job_id}` shows its output.",
        SERVICE_FAILED,
    )


def _status(job_id: str, status: Callable[[], ServiceView]) -> ServiceView:
    try:
        return status()
    except ModelportError as error:
        if error.kind.status != NOT_FOUND.status:
            raise
        raise failed(job_id, "it was stopped") from None


def _object(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
