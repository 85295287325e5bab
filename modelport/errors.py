"""The one error family: what was wrong, with which value, and what to do about it.

Every error that a user can cause is a ModelportError. Its message is one sentence (or two) fit to be shown as it is: on
stderr by the CLI, as `error.message` by REST and the gateway. It never holds a secret; a message that names a path is
for the owner of the machine, and the gateway replaces it before a client sees it (`public`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the error table: HTTP status, OpenAI's `type`, our `code`."""

    status: int
    type: str
    code: str


INVALID = Kind(400, "invalid_request_error", "invalid_request")
CANNOT_FIT = Kind(400, "invalid_request_error", "does_not_fit")
UNAUTHORIZED = Kind(401, "authentication_error", "invalid_api_key")
BUDGET_SPENT = Kind(402, "insufficient_quota", "budget_spent")
FORBIDDEN = Kind(403, "permission_error", "not_allowed")
NOT_FOUND = Kind(404, "not_found_error", "not_found")
MODEL_NOT_FOUND = Kind(404, "invalid_request_error", "model_not_found")
METHOD_NOT_ALLOWED = Kind(405, "invalid_request_error", "method_not_allowed")
TIMEOUT_BODY = Kind(408, "timeout_error", "request_timeout")
TOO_LARGE = Kind(413, "invalid_request_error", "request_too_large")
BUSY = Kind(429, "rate_limit_error", "queue_full")
QUEUE_TIMEOUT = Kind(429, "rate_limit_error", "queue_timeout")
RATE_LIMITED = Kind(429, "rate_limit_error", "rate_limit_exceeded")
BACKING_OFF = Kind(429, "rate_limit_error", "too_many_failures")
BAD_HOST = Kind(421, "invalid_request_error", "misdirected_request")
HEADERS_TOO_LARGE = Kind(431, "invalid_request_error", "headers_too_large")
INTERNAL = Kind(500, "server_error", "internal_error")
ENGINE_FAULT = Kind(502, "engine_error", "engine_fault")
NOT_READY = Kind(503, "service_unavailable", "not_ready")
SERVICE_FAILED = Kind(503, "service_unavailable", "service_failed")
SERVICE_STOPPED = Kind(503, "service_unavailable", "service_stopped")
ENGINE_TIMEOUT = Kind(504, "timeout_error", "engine_timeout")
DEADLINE = Kind(504, "timeout_error", "deadline_exceeded")


class ModelportError(Exception):
    """One sentence for the user, and the row of the table it belongs to.

    `retry_after_s` becomes a Retry-After header (whole seconds, never above 60: SDKs ignore longer ones).
    `param` names the field that was wrong, as OpenAI's errors do.
    """

    def __init__(
        self, message: str, kind: Kind = INVALID, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        """More headers for the answer: what is left of a limit, what a route allows."""

    def body(self, request_id: str | None = None) -> dict[str, object]:
        """The error in OpenAI's shape, ready to be encoded as JSON."""
        body: dict[str, object] = {
            "error": {"message": self.message, "type": self.kind.type, "code": self.kind.code, "param": self.param}
        }
        if request_id is not None:
            body["request_id"] = request_id
        return body

    def retry_after(self) -> str | None:
        """The Retry-After header's value: 1 to 60 whole seconds, or None."""
        if self.retry_after_s is None:
            return None
        return str(max(1, math.ceil(min(60.0, self.retry_after_s))))


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest known word, or an empty string: the hint at the end of a message."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
