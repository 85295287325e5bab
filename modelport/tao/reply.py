"""Reply: asking a service, as any of its clients would, and what its answer means."""

import base64
import binascii
import ssl
from dataclasses import dataclass
from typing import Any, cast

import httpx

from modelport.errors import ENGINE_FAULT, ENGINE_TIMEOUT, INVALID, NOT_FOUND, NOT_READY, Kind, ModelportError
from modelport.tao import readiness
from modelport.tao.readiness import Look, Verdict

LEAST_TIMEOUT_S = 300.0
"""A service of this kind may think for minutes; the skill's clients wait at least so long."""
PROBE_TIMEOUT_S = 5.0
VIDEO = "data:video/mp4;base64,"

Verify = bool | ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: object
    """Its JSON; None where it is none."""

    @property
    def too_early(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.status in (202, 503) and readiness.read(self.status, self.body).verdict is not Verdict.FAILED


def post(url: str, key: str, body: dict[str, Any], *, timeout_s: float, verify: Verify = True) -> Reply:
    """One request to a service's base URL. Raises ModelportError where nobody answers, or not in time."""
    try:
        answer = httpx.post(
            f"{url}/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_s, connect=10),
            trust_env=False,
            verify=verify,
        )
    except httpx.ReadTimeout:
        raise ModelportError(f"The service did not answer within {timeout_s:g} s.", ENGINE_TIMEOUT) from None
    except httpx.ConnectError:
        return Reply(503, None)  # its port may not be open yet: whether it comes is for the readiness to say
    except httpx.HTTPError as error:
        raise ModelportError(f"The service did not answer ({type(error).__name__}); try again.", ENGINE_FAULT) from None
    return Reply(answer.status_code, _json(answer))


def probe(url: str, key: str, verify: Verify = True) -> Look:
    """What the health route says; `unknown` where nobody answers."""
    try:
        answer = httpx.get(
            f"{url.removesuffix('/v1')}/api/v1/health/readiness",
            headers={"authorization": f"Bearer {key}"},
            timeout=PROBE_TIMEOUT_S,
            trust_env=False,
            verify=verify,
        )
    except httpx.HTTPError:
        return Look(Verdict.UNKNOWN)
    # An engine without this route is no refusal of the key: then the request itself will tell.
    return Look(Verdict.UNKNOWN) if answer.status_code == 403 else readiness.read(answer.status_code, _json(answer))


def text(reply: Reply, job_id: str) -> str:
    """The answer's content. Raises ModelportError, with what to do about it, for every reply that is not 200."""
    if reply.status == 200:
        return _content(reply.body)
    look = readiness.read(reply.status, reply.body)
    message = (look.message or f"status {reply.status}").rstrip(".")
    if reply.status in (202, 503):
        if look.verdict is Verdict.FAILED:
            raise readiness.failed(job_id, message)
        raise ModelportError(f"job_id={job_id} is not ready yet: {message}. Try again a little later.", NOT_READY)
    if reply.status == 400:
        raise ModelportError(f"job_id={job_id} refused the request: {message}.", INVALID)
    if reply.status >= 500:
        raise ModelportError(
            f"job_id={job_id} could not answer: {message}. `modelport tao logs {job_id}` shows its output.",
            ENGINE_FAULT,
        )
    if reply.status == 404 and "no such route" in message:
        raise ModelportError(
            f"job_id={job_id} does not chat: its model answers POST /api/v1/inference (docs/runtime.md), for pictures "
            'with {"images": ["data:…"]}.',
            NOT_FOUND,
        )
    raise ModelportError(
        f"job_id={job_id} answered with status {reply.status}: {message}.",
        Kind(reply.status, "service_error", "service_error"),
    )


def video(content: str) -> bytes | None:
    """The video that an answer is; None for one that is text. Raises ModelportError for one that is damaged."""
    if not content.startswith(VIDEO):
        return None
    try:
        return base64.b64decode(content[len(VIDEO) :], validate=True)
    except binascii.Error:
        raise ModelportError("The service's video is damaged: it is not base64.", ENGINE_FAULT) from None


def _content(body: object) -> str:
    try:
        found = cast(Any, body)["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ModelportError("The service's answer is no chat completion.", ENGINE_FAULT) from None
    return found if isinstance(found, str) else str(found)


def _json(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return None
