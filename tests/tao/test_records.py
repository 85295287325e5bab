"""Workspaces, experiments and batch jobs, as the SDK asks for them."""

import uuid
from typing import Any

import pytest

from modelport.domain.instance import Exit
from modelport.domain.progress import Progress, Stage
from modelport.domain.workspace import Workspace
from tests.tao.world import EXPERIMENT, ORG, Tao

WORKSPACES = f"/v2/orgs/{ORG}/workspaces"
JOBS = f"/v2/orgs/{ORG}/jobs"
AWS = {
    "cloud_type": "aws",
    "access_key": "env:AWS_ACCESS_KEY_ID",
    "secret_key": "file:/etc/modelport/secret",
    "cloud_region": "us-west-2",
    "cloud_bucket_name": "my-bucket",
}
BATCH = {"kind": "experiment", "action": "inference", "name": "Run 1", "network_arch": "classification_pyt"}


def made(tao: Tao, name: str = "ws", cloud: str = "aws", **details: Any) -> Any:
    body = {"name": name, "cloud_type": cloud, "cloud_specific_details": {**AWS, **details}}
    return tao.done("POST", WORKSPACES, body, 201)


def kept_as(tao: Tao, name: str) -> Workspace:
    return next(found for found in tao.control.list_workspaces() if found.name == name)


def test_a_workspace_is_made_listed_asked_for_and_deleted(tao: Tao) -> None:
    assert tao.ask("GET", f"{WORKSPACES}?limit=1").json() == {"workspaces": []}  # the SDK's is_authenticated
    one = made(tao)
    assert uuid.UUID(one["id"]) and (one["name"], one["cloud_type"]) == ("ws", "aws")
    kept = kept_as(tao, "ws")
    assert (kept.cloud, kept.bucket, kept.region) == ("s3", "my-bucket", "us-west-2")
    assert (kept.access_key_ref, kept.secret_key_ref) == (AWS["access_key"], AWS["secret_key"])
    assert tao.done("GET", f"{WORKSPACES}/{one['id']}") == one
    assert tao.done("GET", WORKSPACES.replace("v2", "v1")) == {"workspaces": [one]}
    assert tao.done("GET", f"{WORKSPACES}?name=other") == {"workspaces": []}
    assert tao.done("DELETE", f"{WORKSPACES}/{one['id']}")["id"] == one["id"]
    assert tao.refused("GET", f"{WORKSPACES}/{one['id']}", status=404).startswith("Workspace")
    assert tao.refused("GET", f"{WORKSPACES}/ws") == "Workspace ID passed is not a valid UUID"


def test_where_a_secret_is_stays_with_the_server(tao: Tao) -> None:
    assert "secret" not in str(made(tao)) and "AWS_ACCESS_KEY_ID" not in tao.ask("GET", WORKSPACES).text


def test_the_same_bucket_again_is_the_same_workspace_unless_forced(tao: Tao) -> None:
    one = made(tao)
    body = {"name": "again", "cloud_type": "aws", "cloud_specific_details": AWS}
    again = tao.done("POST", WORKSPACES, body)
    assert again["id"] == one["id"] and again["_duplicate"] is True and "force_create" in again["_message"]
    assert tao.done("POST", WORKSPACES, {**body, "force_create": True}, 201)["id"] != one["id"]
    other = {**body, "name": "ws", "cloud_specific_details": {**AWS, "cloud_bucket_name": "other"}}
    assert "exists with other details" in tao.refused("POST", WORKSPACES, other)


@pytest.mark.parametrize("key", ["access_key", "secret_key"])
def test_a_secret_itself_is_refused_with_the_way_to_name_its_place(tao: Tao, key: str) -> None:
    details = {**AWS, key: "AKIAIOSFODNN7EXAMPLE"}
    said = tao.refused("POST", WORKSPACES, {"name": "ws", "cloud_type": "aws", "cloud_specific_details": details})
    assert said.startswith(f"{key} is a secret") and "env:NAME" in said and "AKIA" not in said


def test_azure_google_and_seaweed_are_buckets_too(tao: Tao) -> None:
    azure = made(tao, "az", "azure", account_name="acct")
    weed = made(tao, "weed", "seaweedfs", endpoint_url="http://127.0.0.1:8333")
    google = made(tao, "g", "gcp", credentials="env:GOOGLE")
    assert [one["cloud_type"] for one in (azure, weed, google)] == ["azure", "aws", "gcp"]
    assert kept_as(tao, "az").account == "acct"
    assert weed["cloud_specific_details"]["endpoint_url"] == "http://127.0.0.1:8333"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"cloud_type": "huggingface"}, "HF_TOKEN=env:HF_TOKEN"),
        ({"cloud_type": "slurm"}, "Slurm"),
        ({"cloud_type": "awz"}, "aws"),
        ({"cloud_type": "aws", "cloud_specific_details": []}, "lacks 'cloud_bucket_name'"),
        ({"cloud_type": "aws", "cloud_specific_details": {"cloud_bucket_name": "a/b"}}, "cloud_bucket_name"),
        ({"cloud_type": "aws", "cloud_specific_details": "x"}, "JSON object"),
        ({"cloud_type": "aws", "cloud_specific_details": {"cloud_bucket_name": "bb", "endpoint_url": "ftp://x"}},
         "endpoint_url"),
    ],
)  # fmt: skip
def test_other_workspaces_are_refused_with_what_is_wrong(tao: Tao, body: dict[str, Any], word: str) -> None:
    assert word in tao.refused("POST", WORKSPACES, {"name": "ws", **body})


# Experiments


def test_an_experiment_is_registered_by_a_path_alone_listed_and_deleted(tao: Tao) -> None:
    path = f"/v2/orgs/{ORG}/experiments"
    one = tao.done("POST", path, {"name": "mine", "model_path": "s3://b/model.onnx", "network_arch": "dino"}, 201)
    assert uuid.UUID(one["id"]) and one["status"] == "Done"
    assert one["checkpoints"] == [{"path": "s3://b/model.onnx", "epoch": 0, "score": None}]
    assert tao.done("GET", path) == {"experiments": [one]} == tao.done("GET", path.replace("v2", "v1"))
    assert tao.done("GET", f"{path}/{one['id']}") == one
    other = path.replace(ORG, "other")
    assert tao.done("GET", other) == {"experiments": []}
    assert tao.refused("DELETE", f"{other}/{one['id']}", status=404)
    assert "taken" in tao.refused("POST", other, {"id": one["id"], "model_path": "x"})
    assert tao.done("DELETE", f"{path}/{one['id']}") == one
    assert tao.refused("GET", f"{path}/{one['id']}", status=404)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "at least one checkpoint"),
        ({"id": "7", "model_path": "m"}, "Experiment ID passed is not a valid UUID"),
        ({"model_path": "m", "status": "Finished"}, "'status'"),
        ({"checkpoints": [{"epoch": 1}]}, "'checkpoints'"),
        ({"checkpoints": "m"}, "'checkpoints'"),
    ],
)
def test_an_experiment_without_a_model_or_with_odd_fields_is_refused(tao: Tao, body: Any, word: str) -> None:
    assert word in tao.refused("POST", f"/v2/orgs/{ORG}/experiments", body)


# Batch jobs


def batch(tao: Tao, **more: Any) -> str:
    body = {
        **BATCH,
        "specs": {"model_path": "smollm2", "results_dir": "/data/out", "prompt": "What is this?"},
        "inference_dataset_uri": "/data/in",
        **more,
    }
    return tao.done("POST", JOBS, body, 201)["id"]


def test_a_batch_is_a_job_over_a_folder_with_what_each_request_says(tao: Tao) -> None:
    spec = tao.view(batch(tao)).spec
    assert spec.job and spec.batch is not None and spec.idle_timeout == 0
    assert (spec.batch.input, spec.batch.results) == ("/data/in", "/data/out")
    assert spec.batch.request == {"prompt": "What is this?"} and spec.labels["tao.action"] == "inference"


def test_v1_answers_a_batch_with_its_id_alone(tao: Tao) -> None:
    path = f"/v1/orgs/{ORG}/experiments/{EXPERIMENT}/jobs"
    specs = {"model_path": "smollm2", "input": "aws://b/in", "results_dir": "aws://b/out"}
    job = tao.done("POST", path, {"action": "inference", "specs": specs})
    found = tao.done("GET", f"{path}/{job}")
    assert found["id"] == job and found["experiment_id"] == EXPERIMENT and found["results_dir"] == "s3://b/out"
    assert [one["id"] for one in tao.done("GET", path)] == [job]
    assert tao.done("GET", f"/v1/orgs/{ORG}/jobs/{job}")["id"] == job


def test_folders_of_a_batch_may_lie_in_the_workspace(tao: Tao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("BUCKET_SECRET", "secret")
    made(tao, secret_key="env:BUCKET_SECRET")
    job = batch(tao, workspace="ws", inference_dataset_uri="images/test", specs={"model_path": "smollm2"})
    spec = tao.view(job).spec
    assert spec.batch is not None and spec.batch.input == "s3://my-bucket/images/test"
    assert spec.batch.results == f"s3://my-bucket/results/{spec.name}"


@pytest.mark.parametrize(
    ("state", "reason", "desired", "exit_", "status"),
    [
        ("pending", "", "running", None, "Pending"),
        ("starting", "", "running", None, "Running"),
        ("ready", "", "running", None, "Running"),
        ("stopped", "", "stopped", Exit(code=0), "Done"),
        ("stopped", "", "stopped", Exit(code=0, cause="stopped"), "Canceled"),
        ("stopped", "", "stopped", Exit(signal=9, cause="stopped"), "Canceled"),
        ("failed", "none of the batch's files could be answered", "running", Exit(code=1), "Error"),
    ],
)
def test_a_batchs_status(tao: Tao, state: str, reason: str, desired: str, exit_: Exit | None, status: str) -> None:
    job = batch(tao)
    tao.move(job, state, reason, desired)
    tao.instance(job, "gone" if exit_ else "ready", Progress(Stage.READY, "37 of 120", share=0.31), exit_)
    found = tao.done("GET", f"{JOBS}/{job}")
    assert (found["status"], found["kind"], found["action"]) == (status, "experiment", "inference")
    assert (found["name"], len(found["created_on"])) == ("Run 1", 24)
    if state == "ready":
        assert found["progress"]["message"] == "37 of 120" and found["progress"]["details"] == {"share": 0.31}
    if status == "Error":
        assert found["job_details"][job]["message"] == reason


def test_a_batch_is_cancelled_and_deleted(tao: Tao) -> None:
    job = batch(tao)
    assert tao.done("POST", f"{JOBS}/{job}:cancel") == {"message": f"Job {job} canceled"}
    assert tao.view(job).desired == "stopped"
    assert tao.done("GET", JOBS)["jobs"][0]["id"] == job
    assert tao.done("DELETE", f"{JOBS}/{job}")["id"] == job
    assert tao.refused("GET", f"{JOBS}/{job}", status=404) == f"Job {job} not found."


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"action": "train"}, "trains none"),
        ({"action": None}, "trains none"),
        ({"specs": []}, "results_dir"),
        ({"specs": "x"}, "'specs'"),
        ({"specs": {"model_path": "smollm2", "request": [], "results_dir": "/o"}}, "specs.request"),
        ({"inference_dataset_uri": None}, "inference_dataset_uri"),
        ({"inference_dataset_uri": None, "inference_dataset": EXPERIMENT}, "keeps no datasets"),
        ({"specs": {"results_dir": "/o"}}, "Model path or hf_model is required"),
    ],
)
def test_other_jobs_are_refused_with_what_is_wrong(tao: Tao, more: dict[str, Any], word: str) -> None:
    body = {**BATCH, "specs": {"model_path": "smollm2"}, "model_path": None, "inference_dataset_uri": "/in", **more}
    if more.get("specs") == []:
        body["model_path"] = "smollm2"
    assert word in tao.refused("POST", JOBS, body)
