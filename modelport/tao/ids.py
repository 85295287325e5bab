"""The names in TAO's paths: organisations and UUIDs, checked with the words of its servers."""

import re
import uuid
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request

from modelport.domain.verbs import Verbs
from modelport.errors import ModelportError

ORG = re.compile(r"[A-Za-z0-9_-]{1,255}")


async def verbs(request: Request) -> Verbs:
    """Verbs in the caller's name. Raises ModelportError (403)."""
    return request.app.state.acting(request)


async def org_name(org: str) -> str:
    """The organisation of a path. Raises ModelportError (400)."""
    if not ORG.fullmatch(org):
        raise ModelportError("The organisation's name in the path may have letters, digits, '-' and '_'.")
    return org


async def experiment_id(experiment: str) -> str:
    return as_uuid(experiment, "Experiment")


async def job_id(job: str) -> str:
    return as_uuid(job, "Job")


async def workspace_id(workspace: str) -> str:
    return as_uuid(workspace, "Workspace")


def as_uuid(text: str, what: str) -> str:
    """The UUID as our store writes it. Raises ModelportError (400) with the documented sentence."""
    try:
        found = str(uuid.UUID(text))
    except ValueError:
        found = ""
    if found != text.lower():
        raise ModelportError(f"{what} ID passed is not a valid UUID")
    return found


async def json_object(request: Request) -> dict[str, Any]:
    """The body, whatever content type it claims to be: the published client names none at its login. Empty is `{}`.
    Raises ModelportError (400)."""
    text = await request.body()
    try:
        found: Any = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        raise ModelportError("The request's body is not JSON that can be read.") from None
    if not isinstance(found, dict):
        raise ModelportError("The request's body must be a JSON object.")
    return found


By = Annotated[Verbs, Depends(verbs)]
Org = Annotated[str, Depends(org_name)]
ExperimentId = Annotated[str, Depends(experiment_id)]
JobId = Annotated[str, Depends(job_id)]
WorkspaceId = Annotated[str, Depends(workspace_id)]
Body = Annotated[dict[str, Any], Depends(json_object)]
