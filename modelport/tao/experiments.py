"""Experiments: finished trainings, made known so that their models can be served. (Upstream makes them by training.)"""

import uuid
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from modelport.domain.experiment import Experiment
from modelport.domain.verbs import Verbs
from modelport.errors import NOT_FOUND, ModelportError
from modelport.tao.errors import first_problem
from modelport.tao.ids import Body, By, ExperimentId, Org, as_uuid
from modelport.tao.parents import registered, workspace

router = APIRouter()
KEYS = ("name", "network_arch", "status", "checkpoints")


@router.post("/v1/orgs/{org}/experiments")
@router.post("/v2/orgs/{org}/experiments")
def create(by: By, org: Org, body: Body) -> JSONResponse:
    """Register one: `checkpoints`, or the one `model_path`."""
    return JSONResponse(experiment_rsp(by.put_experiment(experiment(by, body, org))), 201)


@router.get("/v1/orgs/{org}/experiments")
@router.get("/v2/orgs/{org}/experiments")
def list_all(by: By, org: Org) -> dict[str, Any]:
    return {"experiments": [experiment_rsp(found) for found in by.list_experiments() if found.org in ("", org)]}


@router.get("/v1/orgs/{org}/experiments/{experiment}")
@router.get("/v2/orgs/{org}/experiments/{experiment}")
def get_one(by: By, org: Org, experiment: ExperimentId) -> dict[str, Any]:
    return experiment_rsp(_known(by, org, experiment))


@router.delete("/v1/orgs/{org}/experiments/{experiment}")
@router.delete("/v2/orgs/{org}/experiments/{experiment}")
def delete(by: By, org: Org, experiment: ExperimentId) -> dict[str, Any]:
    return experiment_rsp(by.delete_experiment(_known(by, org, experiment).id))


def experiment(verbs: Verbs, body: dict[str, Any], org: str) -> Experiment:
    """What a body registers. Raises ModelportError (400, 404). Keys that are about training say nothing here."""
    given = {key: body[key] for key in KEYS if body.get(key) is not None}
    if "checkpoints" not in given and body.get("model_path"):
        given["checkpoints"] = [{"path": body["model_path"]}]
    wanted: Any = body.get("id") or str(uuid.uuid4())
    given |= {"id": as_uuid(str(wanted), "Experiment"), "org": org}
    if body.get("workspace"):
        given["workspace"] = workspace(verbs, str(body["workspace"])).name
    try:
        made = Experiment.model_validate(given)
    except ValidationError as error:
        raise first_problem(error) from None
    if any(known.id == made.id and known.org not in ("", org) for known in verbs.list_experiments()):
        raise ModelportError(f"Experiment {made.id} cannot be registered: its id is taken.", param="id")
    return made


def experiment_rsp(found: Experiment) -> dict[str, Any]:
    """An experiment as TAO names its fields, with its checkpoints."""
    return found.model_dump(mode="json", exclude={"org"})


def _known(by: Verbs, org: str, experiment: str) -> Experiment:
    found = registered(by, org, experiment)
    if found is None:
        raise ModelportError(f"Experiment {experiment} not found.", NOT_FOUND)
    return found
