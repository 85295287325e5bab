"""Jobs: TAO's door to inference. A job's id is in the path; the runtime gets what the client sent.

A job that is not ready is not waited for: its caller is told 202 at once, and asks again.
"""

import re
import time
import uuid

from modelport.domain import answers
from modelport.domain.answers import RETRY_AFTER_S, Facts, chat, inference, liveness, readiness, status
from modelport.domain.progress import FAILED_INITIALIZATION, FAILED_LOAD, Progress, failed
from modelport.domain.states import ServiceState
from modelport.errors import INVALID, NOT_FOUND, Kind, ModelportError
from modelport.gateway.admit import Unknown
from modelport.gateway.request import Request, encode
from modelport.gateway.routes import Route
from modelport.gateway.surface import CHAT, INFERENCE

V1 = re.compile(
    r"/api/v1/orgs/(?P<org>[^/]*)/experiments/(?P<experiment>[^/]*)/jobs/(?P<job>[^/]*)/inference_microservice/inference"
)
V2 = re.compile(r"/api/v2/orgs/(?P<org>[^/]*)/inference_microservices/(?P<job>[^/:]*):inference")
ORG = re.compile(r"[A-Za-z0-9_-]{1,255}")
LOGINS = ("/api/v1/login", "/api/v2/login")
HEALTH = {"/api/v1/status": status, "/api/v1/health/liveness": liveness, "/api/v1/health/readiness": readiness}
ORG_LABEL = "tao.org"
OVER = (ServiceState.STOPPING, ServiceState.STOPPED)


class NotThere(ModelportError):
    """What TAO's routes say of a job without a ready engine: its own status and body, which are no error of ours."""

    def __init__(self, answer: tuple[int, dict[str, object]]) -> None:
        code, self.said = answer
        waiting = code == 202
        super().__init__("The job is not ready.", Kind(code, "service_unavailable", "not_ready"),
                         retry_after_s=RETRY_AFTER_S if waiting else None)  # fmt: skip

    def body(self, request_id: str | None = None) -> dict[str, object]:
        return {**self.said, "request_id": request_id} if request_id is not None else self.said


class NotThereYet(NotThere, Unknown):
    """By the last snapshot; the store may know of an engine by now."""


def is_inference(path: str) -> bool:
    """Whether a path of TAO's is for an engine and not for control."""
    return V1.fullmatch(path) is not None or V2.fullmatch(path) is not None


def job_of(path: str) -> tuple[str, str]:
    """Organisation and job id of an inference path. Raises ModelportError (400) for what is neither."""
    found = V1.fullmatch(path) or V2.fullmatch(path)
    if found is None or ORG.fullmatch(found["org"]) is None:
        raise ModelportError("The organisation's name in the path may have letters, digits, '-' and '_'.")
    for what, name in (("Experiment", found.groupdict().get("experiment")), ("Job", found["job"])):
        if name is not None and not _is_uuid(name):
            raise ModelportError(f"{what} ID passed is not a valid UUID")
    return found["org"], found["job"].lower()


def _is_uuid(text: str) -> bool:
    try:
        return len(text) <= 36 and str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def error_rsp(error: ModelportError, request_id: str) -> bytes:
    """An error as TAO's clients read it: ErrorRsp's fields, and those of its servers."""
    if isinstance(error, NotThere):
        return encode(error.body(request_id))
    return encode({**answers.error_rsp(error.message, error.kind.status), "request_id": request_id})


def is_over(route: Route) -> bool:
    """Whether it is a job that ended, or is told to, or never came to run."""
    routed = route.routed
    return routed.spec.job and (not routed.wanted or routed.state in OVER or routed.state is ServiceState.FAILED)


def _refuse_if_over(route: Route) -> None:
    routed = route.routed
    if routed.spec.job and (route.gone or not routed.wanted or routed.state in OVER):
        raise ModelportError(
            f"Job {routed.id} not found: it was stopped, and its id cannot be used again. Start a new one.", NOT_FOUND
        )


def refuse_unless_there(route: Route, path: str) -> None:
    """Raises ModelportError for a job without a ready engine: NotThere (202 or 503) while it starts or when it could
    not, 404 once it is over."""
    _refuse_if_over(route)
    routed = route.routed
    if not routed.spec.job or route.upstreams:
        return
    if routed.spec.batch is not None:
        raise ModelportError(f"Job {routed.id} works on a batch and takes no requests.", INVALID)
    if (answer := _instead(route, path)) is not None:
        raise NotThereYet(answer)


def starting_again(route: Route) -> NotThere | None:
    """The same for a job whose engine was lost between the snapshot and now."""
    answer = _instead(route, INFERENCE.path)
    return NotThere(answer) if answer is not None else None


def _instead(route: Route, path: str) -> tuple[int, dict[str, object]] | None:
    progress = _progress(route)
    if path == CHAT.path:
        return chat(progress)
    return inference(Facts(job_id=route.routed.id), progress, time.time())


def answer_health(request: Request, route: Route, path: str) -> bool:
    """Answer a health route of a job whose engine is not there to do so. Whether that was so. Raises ModelportError
    (404) for a job that is over."""
    if not route.routed.spec.job or path not in HEALTH:
        return False
    _refuse_if_over(route)
    if route.upstreams:
        return False
    code, body = HEALTH[path](Facts(job_id=route.routed.id), _progress(route), time.time())
    request.answer(code, encode(body))
    return True


def _progress(route: Route) -> Progress:
    routed = route.routed
    if routed.state is ServiceState.FAILED:
        # What a model server said of itself is fit for clients; other reasons may name paths of the machine.
        said = routed.reason.startswith((FAILED_LOAD, FAILED_INITIALIZATION))
        return failed(routed.reason if said else f"it could not be started; its owner sees why: {routed.name}")
    return route.routed.progress or Progress()
