"""ErrorRsp: an error as TAO's clients read it, with the fields of its servers beside the documented ones."""

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import ValidationError

from modelport.errors import ModelportError

CODES = {400: 1, 401: 1, 403: 2, 404: 1}
"""`error_code` by HTTP status; 3 for all others."""
LONGEST = 1000
"""Characters of `error_desc` (nvidia-tao-core, ErrorRsp)."""


def error_rsp(error: ModelportError, status: int | None = None) -> JSONResponse:
    """The answer that an error is."""
    status = status or error.kind.status
    sentence = error.message[:LONGEST]
    retry = error.retry_after()
    body = {"error_desc": sentence, "error_code": CODES.get(status, 3), "status": "error", "error": sentence}
    return JSONResponse(body, status, {"retry-after": retry} if retry else None)


def first_problem(error: ValidationError) -> ModelportError:
    """What is wrong with a body, in a sentence that repeats no value: it may be a secret."""
    found: Any = error.errors(include_url=False, include_input=False)[0]
    what = str(found["msg"]).removeprefix("Value error, ").rstrip(".")
    if not found["loc"]:
        return ModelportError(f"The request is wrong: {what[:1].lower()}{what[1:]}.")
    key = str(found["loc"][0])
    if found["type"] == "missing":
        return ModelportError(f"The request lacks {key!r}.", param=key)
    return ModelportError(f"The request's {key!r} is wrong: {what[:1].lower()}{what[1:]}.", param=key)
