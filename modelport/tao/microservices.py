"""Inference microservices: start, status, stop and list. A job is a Service; its id is the Service's."""

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from modelport.domain.answers import stamp
from modelport.domain.service import ServiceView
from modelport.domain.verbs import Verbs
from modelport.errors import NOT_FOUND, ModelportError
from modelport.tao.ids import Body, By, ExperimentId, JobId, Org
from modelport.tao.start import start_spec
from modelport.tao.status import date, status, word

ORG_LABEL = "tao.org"
V1 = "/v1/orgs/{org}/experiments/{experiment}"
V2 = "/v2/orgs/{org}/inference_microservices"
router = APIRouter()


@router.post(f"{V1}/inference_microservice/start")
async def start_v1(by: By, org: Org, experiment: ExperimentId, body: Body, request: Request) -> JSONResponse:
    made = await request.app.state.lookups(lambda: by.start(start_spec(by, body, org, experiment)))
    return JSONResponse(_started(made))


@router.post(f"{V2}:start")
async def start_v2(by: By, org: Org, body: Body, request: Request) -> JSONResponse:
    made = await request.app.state.lookups(lambda: by.start(start_spec(by, body, org)))
    return JSONResponse(_started(made), 201)


@router.get(f"{V1}/jobs/{{job}}/inference_microservice/status")
def status_v1(by: By, org: Org, experiment: ExperimentId, job: JobId) -> dict[str, Any]:
    return status(find(by, org, job))


@router.get(f"{V2}/{{job}}:status")
def status_v2(by: By, org: Org, job: JobId) -> dict[str, Any]:
    return status(find(by, org, job))


@router.post(f"{V1}/jobs/{{job}}/inference_microservice/stop")
def stop_v1(by: By, org: Org, experiment: ExperimentId, job: JobId) -> dict[str, Any]:
    return _stopped(by, find(by, org, job))


@router.api_route(f"{V2}/{{job}}:stop", methods=["DELETE", "POST"])
def stop_v2(by: By, org: Org, job: JobId) -> dict[str, Any]:
    return _stopped(by, find(by, org, job))


@router.get(V2)
def list_v2(by: By, org: Org) -> dict[str, Any]:
    """Ours: upstream has no list."""
    found = [view for view in by.list() if of_org(view, org) and view.spec.batch is None]
    return {"inference_microservices": [_listed(view) for view in sorted(found, key=_age)]}


def find(by: Verbs, org: str, job: str) -> ServiceView:
    """The organisation's job of that id, over or not. Raises ModelportError (404)."""
    try:
        view = by.status(job)
    except ModelportError as error:
        if error.kind.status != NOT_FOUND.status:
            raise
        view = None
    if view is None or view.id != job or view.desired == "removed" or not of_org(view, org):
        raise ModelportError(f"Job {job} not found.", NOT_FOUND)
    return view


def of_org(view: ServiceView, org: str) -> bool:
    """Whether it is a job that this organisation started."""
    return view.spec.job and view.spec.labels.get(ORG_LABEL) == org


def _started(view: ServiceView) -> dict[str, Any]:
    image = view.spec.labels.get("tao.docker-image")
    return {
        "job_id": view.id,
        "id": view.id,
        "status": "pending",
        "message": "Inference microservice starting",
        "detail": f"Inference Microservice started with job_id: {view.id}",
        "name": view.name,
        "created_on": date(view.created_at),
        **({"docker_image": image} if image else {}),
    }


def _stopped(by: Verbs, view: ServiceView) -> dict[str, Any]:
    if view.desired == "running":
        by.stop(view.id)
    return {
        "status": "stopped",
        "message": "Inference microservice stopped successfully",
        "job_id": view.id,
        "id": view.id,
        "detail": f"Inference microservice for job {view.id} stopped successfully",
        "timestamp": stamp(time.time()),
        "auto_deletion": False,
        "reason": "",
    }


def _listed(view: ServiceView) -> dict[str, Any]:
    labels = view.spec.labels
    return {
        "job_id": view.id,
        "id": view.id,
        "name": view.name,
        "status": word(view),
        "network_arch": labels.get("tao.network-arch"),
        "parent_id": labels.get("tao.parent"),
        "created_on": date(view.created_at),
        "message": view.reason,
    }


def _age(view: ServiceView) -> float:
    return -view.created_at
