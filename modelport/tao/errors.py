"""ErrorRsp: an error as TAO's clients read it, with the fields of its servers beside the documented ones."""

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import ValidationError

from modelport.domain import answers
from modelport.errors import ModelportError


def error_rsp(error: ModelportError, status: int | None = None) -> JSONResponse:
    """The answer that an error is."""
    status = status or error.kind.status
    retry = error.retry_after()
    return JSONResponse(answers.error_rsp(error.message, status), status, {"retry-after": retry} if retry else None)


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
