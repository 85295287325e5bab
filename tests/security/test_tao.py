"""What a key that looks after services may not do through TAO's API: read secrets, files or networks of the machine."""

from collections.abc import Iterator

import httpx
import pytest

from modelport.domain.key import KeySpec
from tests.harness import ROOT, Serving, short_directory

DIGITS = str(ROOT / "examples" / "models" / "digits")


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        with Serving(directory) as running:
            yield running


@pytest.fixture(scope="module")
def operator(serving: Serving) -> Iterator[httpx.Client]:
    key = serving.client.create_key(KeySpec(scopes=("infer", "operate"))).secret
    with httpx.Client(base_url=serving.url, headers={"authorization": f"Bearer {key}"}, timeout=30) as http:
        yield http


def test_workspaces_are_made_and_removed_by_admins_only(serving: Serving, operator: httpx.Client) -> None:
    details = {"cloud_bucket_name": "b-b", "endpoint_url": "http://127.0.0.1:9",
               "access_key": f"file:{serving.state_dir}/admin.key", "secret_key": "env:HOME"}  # fmt: skip
    body = {"name": "w", "cloud_type": "seaweedfs", "cloud_specific_details": details}
    for version in ("v1", "v2"):
        answer = operator.post(f"/api/{version}/orgs/acme/workspaces", json=body)
        assert answer.status_code == 403 and "admin" in answer.json()["error_desc"]
    admin = {"authorization": f"Bearer {serving.admin_key}"}
    made = operator.post("/api/v2/orgs/acme/workspaces", json=body, headers=admin)
    assert made.status_code == 201, made.text
    assert operator.delete(f"/api/v2/orgs/acme/workspaces/{made.json()['id']}").status_code == 403
    assert str(serving.state_dir) not in made.text


@pytest.mark.parametrize("place", ["/tmp/x", "/tmp/x://y", "file:///etc", "foo://../..", "relative/dir", "s3:///etc"])
def test_a_batch_reads_and_writes_no_directory_of_the_machine(operator: httpx.Client, place: str) -> None:
    for folder, results in ((place, "s3://b-b/out"), ("s3://b-b/in", place)):
        specs = {"model_path": DIGITS, "results_dir": results}
        body = {"action": "inference", "inference_dataset_uri": folder, "specs": specs}
        answer = operator.post("/api/v2/orgs/acme/jobs", json=body)
        assert answer.status_code in (400, 403), (place, answer.text)


@pytest.mark.parametrize(
    "more",
    [
        {"docker_env_vars": {"HF_TOKEN": "file:/etc/passwd"}},
        {"docker_env_vars": {"HF_TOKEN": "env:HOME"}},
        {"docker_env_vars": {"LD_PRELOAD": "/tmp/x.so"}},
        {"docker_env_vars": {"PYTHONPATH": "/tmp"}},
        {"custom_pipeline_loader": "def load_pipeline(name): ..."},
        {"hf_model": "../../etc/passwd"},
        {"hf_model": "hf_model:///etc"},
    ],
)
def test_a_start_sets_no_foreign_variable_and_runs_no_code(operator: httpx.Client, more: dict[str, object]) -> None:
    body = {"network_arch": "x", "model_path": DIGITS, **more}
    for path in ("/api/v2/orgs/acme/inference_microservices:start",
                 "/api/v1/orgs/acme/experiments/6f1d0b5e-0c39-4d52-9a3e-0d8c3b1f5a11/inference_microservice/start"):  # fmt: skip
        answer = operator.post(path, json=body)
        assert answer.status_code in (400, 403, 404), answer.text
        assert "root:" not in answer.text


def test_a_secret_is_no_option_and_no_part_of_a_batchs_question(serving: Serving, operator: httpx.Client) -> None:
    admin = {"authorization": f"Bearer {serving.admin_key}"}
    spec = {"model": DIGITS, "name": "x", "options": {"access_key": "s3cr3tvalue"}}
    answer = operator.post("/modelport/v1/services", json=spec, headers=admin)
    assert answer.status_code == 400 and "s3cr3tvalue" not in answer.text
    batch = {"input": "/in", "results": "/out", "request": {"api_token": "s3cr3tvalue"}}
    answer = operator.post("/modelport/v1/services", json={**spec, "options": {}, "job": True, "batch": batch},
                           headers=admin)  # fmt: skip
    assert answer.status_code == 400 and "s3cr3tvalue" not in answer.text


def test_a_reference_that_leads_nowhere_is_said(serving: Serving, operator: httpx.Client) -> None:
    admin = {"authorization": f"Bearer {serving.admin_key}"}
    spec = {"model": DIGITS, "name": "x", "env": {"WANDB_API_KEY": "env:NOBODY_SET_THIS"}}
    answer = operator.post("/modelport/v1/services", json=spec, headers=admin)
    assert answer.status_code == 400 and "NOBODY_SET_THIS" in answer.text
