"""Jobs: the routes on any job of an organisation, and on one-time batch inference."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from modelport.domain.answers import shown
from modelport.domain.service import ServiceView
from modelport.domain.verbs import Verbs
from modelport.tao.batch import batch_spec
from modelport.tao.ids import Body, By, ExperimentId, JobId, Org
from modelport.tao.microservices import find, of_org
from modelport.tao.status import date, progress, word

V1 = "/v1/orgs/{org}/experiments/{experiment}/jobs"
V2 = "/v2/orgs/{org}/jobs"
LOG_LINES = 1000
router = APIRouter()


@router.post(V1)
async def create_v1(by: By, org: Org, experiment: ExperimentId, body: Body, request: Request) -> JSONResponse:
    made = await request.app.state.lookups(lambda: by.start(batch_spec(by, body, org, experiment)))
    return JSONResponse(made.id)  # v1 answers with the id alone


@router.post(V2)
async def create_v2(by: By, org: Org, body: Body, request: Request) -> JSONResponse:
    made = await request.app.state.lookups(lambda: by.start(batch_spec(by, body, org)))
    return JSONResponse(job_rsp(made), 201)


@router.get(V1)
def list_v1(by: By, org: Org, experiment: ExperimentId) -> list[dict[str, Any]]:
    return [job for job in _jobs(by, org) if job["experiment_id"] == experiment]


@router.get(V2)
def list_v2(by: By, org: Org) -> dict[str, Any]:
    return {"jobs": _jobs(by, org)}


@router.get(f"{V1}/{{job}}/logs")
def logs_v1(by: By, org: Org, experiment: ExperimentId, job: JobId) -> PlainTextResponse:
    return _logs(by, org, job)


@router.get(f"{V2}/{{job}}:logs")
def logs_v2(by: By, org: Org, job: JobId) -> PlainTextResponse:
    return _logs(by, org, job)


@router.post(f"{V1}/{{job}}:cancel")
def cancel_v1(by: By, org: Org, experiment: ExperimentId, job: JobId) -> dict[str, Any]:
    return _cancel(by, org, job)


@router.post(f"{V2}/{{job}}:cancel")
def cancel_v2(by: By, org: Org, job: JobId) -> dict[str, Any]:
    return _cancel(by, org, job)


@router.get(f"{V1}/{{job}}")
def get_v1(by: By, org: Org, experiment: ExperimentId, job: JobId) -> dict[str, Any]:
    return job_rsp(find(by, org, job))


@router.get("/v1/orgs/{org}/jobs/{job}")
@router.get(f"{V2}/{{job}}")
def get_v2(by: By, org: Org, job: JobId) -> dict[str, Any]:
    return job_rsp(find(by, org, job))


@router.delete(f"{V1}/{{job}}")
def delete_v1(by: By, org: Org, experiment: ExperimentId, job: JobId) -> dict[str, Any]:
    return _delete(by, org, job)


@router.delete(f"{V2}/{{job}}")
def delete_v2(by: By, org: Org, job: JobId) -> dict[str, Any]:
    return _delete(by, org, job)


def job_rsp(view: ServiceView) -> dict[str, Any]:
    """A job as TAO's JobRsp has it, as far as inference has those fields, with its progress."""
    labels, over = view.spec.labels, word(view)
    last = view.instances[-1] if view.instances else None
    now = shown(progress(view, last)) if over in ("Pending", "Running") else None
    said = now["message"] if now else view.reason
    at = datetime.fromtimestamp(last.created_at if last else view.created_at, UTC)
    detail = {"date": at.strftime("%m/%d/%Y"), "time": at.strftime("%H:%M:%S"), "message": said, "status": over.upper()}
    return {
        "id": view.id,
        "job_id": view.id,
        "experiment_id": labels.get("tao.experiment", view.id),
        "parent_id": labels.get("tao.parent"),
        "kind": labels.get("tao.kind", "experiment"),
        "action": labels.get("tao.action"),
        "name": labels.get("tao.name", view.name),
        "network_arch": labels.get("tao.network-arch"),
        "status": over,
        "created_on": date(view.created_at),
        "last_modified": date(last.created_at if last else view.created_at),
        "num_gpu": int(labels.get("tao.num-gpus", "1")),
        "results_dir": view.spec.batch.results if view.spec.batch else None,
        "job_details": {view.id: {"detailed_status": detail, "message": said}},
        "progress": now,
    }


def _jobs(by: Verbs, org: str) -> list[dict[str, Any]]:
    found = [view for view in by.list() if of_org(view, org)]
    return [job_rsp(view) for view in sorted(found, key=lambda view: -view.created_at)]


def _logs(by: Verbs, org: str, job: str) -> PlainTextResponse:
    lines = by.logs(find(by, org, job).id, LOG_LINES, False)
    return PlainTextResponse("".join(f"{line}\n" for line in lines))


def _cancel(by: Verbs, org: str, job: str) -> dict[str, Any]:
    view = find(by, org, job)
    if view.desired == "running":
        by.stop(view.id)
    return {"message": f"Job {view.id} canceled"}


def _delete(by: Verbs, org: str, job: str) -> dict[str, Any]:
    view = find(by, org, job)
    return job_rsp(by.remove(view.id))
