"""Workspaces: buckets, as TAO's clients make and list them; their credentials come by reference only."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from modelport.domain.spec import REFERENCE
from modelport.domain.verbs import Verbs
from modelport.domain.workspace import Workspace
from modelport.errors import NOT_FOUND, ModelportError, nearest
from modelport.tao.errors import first_problem
from modelport.tao.ids import Body, By, Org, WorkspaceId

router = APIRouter()
CLOUDS = {"aws": "s3", "seaweedfs": "s3", "azure": "az", "gcp": "gs"}
"""TAO's `cloud_type` and ours. `gcp` is not one of TAO's."""
TYPES = {"s3": "aws", "az": "azure", "gs": "gcp"}
NO_BUCKET = {
    "huggingface": "a Hugging Face token is not a workspace's: start with docker_env_vars HF_TOKEN=env:HF_TOKEN",
    "slurm": "Modelport does not run jobs of TAO's on Slurm",
    "lepton": "Modelport does not run jobs of TAO's on Lepton",
    "self_hosted": "name the storage itself: seaweedfs with its endpoint_url",
}
PLACES = {
    "cloud_bucket_name": "bucket",
    "cloud_region": "region",
    "endpoint_url": "endpoint",
    "account_name": "account",
}
SECRETS = {"access_key": "access_key_ref", "secret_key": "secret_key_ref", "credentials": "credentials_ref"}
DUPLICATE = (
    "A workspace with the same cloud configuration already exists. Returning existing workspace. "
    "To create a new workspace anyway, set 'force_create': true in the request body."
)


@router.get("/v1/orgs/{org}/workspaces")
@router.get("/v2/orgs/{org}/workspaces")
def list_all(by: By, org: Org, name: str | None = None, cloud_type: str | None = None) -> dict[str, Any]:
    found = [workspace_rsp(one) for one in by.list_workspaces()]
    wanted = {"name": name, "cloud_type": cloud_type}
    return {"workspaces": [w for w in found if all(v is None or w[k] == v for k, v in wanted.items())]}


@router.post("/v1/orgs/{org}/workspaces")
@router.post("/v2/orgs/{org}/workspaces")
def create(by: By, org: Org, body: Body) -> JSONResponse:
    """201; or 200 and the workspace that has the same bucket and credentials already."""
    wanted = workspace(body)
    known = by.list_workspaces()
    same = [one for one in known if _details(one) == _details(wanted)]
    if same and not body.get("force_create"):
        return JSONResponse({**workspace_rsp(same[0]), "_duplicate": True, "_message": DUPLICATE})
    if any(one.name == wanted.name and _details(one) != _details(wanted) for one in known):
        raise ModelportError(
            f"A workspace {wanted.name!r} exists with other details: take another name, or delete that one.",
            param="name",
        )
    return JSONResponse(workspace_rsp(by.put_workspace(wanted)), 201)


@router.get("/v1/orgs/{org}/workspaces/{workspace}")
@router.get("/v2/orgs/{org}/workspaces/{workspace}")
def get_one(by: By, org: Org, workspace: WorkspaceId) -> dict[str, Any]:
    return workspace_rsp(_known(by, workspace))


@router.delete("/v1/orgs/{org}/workspaces/{workspace}")
@router.delete("/v2/orgs/{org}/workspaces/{workspace}")
def delete(by: By, org: Org, workspace: WorkspaceId) -> dict[str, Any]:
    gone = by.delete_workspace(_known(by, workspace).id)
    return {**workspace_rsp(gone), "message": f"Workspace {gone.id} deleted"}


def workspace(body: dict[str, Any]) -> Workspace:
    """What a body makes. Raises ModelportError (400), which never repeats a secret."""
    cloud = str(body.get("cloud_type") or "")
    if cloud not in CLOUDS:
        why = NO_BUCKET.get(cloud) or f"it is one of {', '.join(CLOUDS)}{nearest(cloud, CLOUDS)}"
        raise ModelportError(f"The cloud_type {cloud[:80]!r} is not possible: {why.rstrip('.')}.", param="cloud_type")
    details: Any = body.get("cloud_specific_details") or {}
    if not isinstance(details, dict):
        raise ModelportError("cloud_specific_details must be a JSON object.", param="cloud_specific_details")
    given: dict[str, Any] = {"name": body.get("name"), "cloud": CLOUDS[cloud]}
    for key, ours in SECRETS.items():
        if details.get(key):
            given[ours] = _reference(key, details[key])
    given |= {ours: details[key] for key, ours in PLACES.items() if details.get(key) is not None}
    try:
        return Workspace.model_validate(given)
    except ValidationError as error:
        raise _in_their_words(first_problem(error)) from None


def workspace_rsp(found: Workspace) -> dict[str, Any]:
    """A workspace as TAO's WorkspaceRsp has it. Where its secrets are is not told."""
    places = {key: getattr(found, ours) for key, ours in PLACES.items() if getattr(found, ours)}
    cloud = TYPES[found.cloud]
    return {
        "id": found.id,
        "name": found.name,
        "cloud_type": cloud,
        "shared": True,
        "cloud_specific_details": {"cloud_type": cloud, **places},
    }


def _reference(key: str, value: object) -> str:
    if not isinstance(value, str) or not REFERENCE.fullmatch(value):
        raise ModelportError(
            f"{key} is a secret, of which only the place may be sent: set it where Modelport runs and give "
            f"env:NAME of that variable, or file:/path of a file there.",
            param=key,
        )
    return value


def _in_their_words(error: ModelportError) -> ModelportError:
    theirs = {ours: key for key, ours in PLACES.items()}
    if error.param in theirs:
        return ModelportError(error.message.replace(f"'{error.param}'", f"'{theirs[error.param]}'"), error.kind)
    return error


def _details(found: Workspace) -> dict[str, Any]:
    return found.model_dump(exclude={"id", "name"})


def _known(by: Verbs, workspace_id: str) -> Workspace:
    for found in by.list_workspaces():
        if found.id == workspace_id:
            return found
    raise ModelportError(f"Workspace {workspace_id} not found.", NOT_FOUND)
