"""The documentation's examples, replayed with their bodies as they stand; what is answered is compared key by key."""

import uuid
from typing import Any

import pytest

from modelport.domain.progress import Progress, Stage
from modelport.domain.service import ENDED_IDLE
from tests.tao.world import EXPERIMENT, ORG, Tao

TRAIN_JOB = "0b0a5b43-8c7f-4f83-a1cd-7d6a5a0f3b62"
BASE = f"/v1/orgs/{ORG}/experiments/{EXPERIMENT}"


@pytest.fixture
def trained(tao: Tao) -> Tao:
    """A finished training is known, as the walk-through assumes."""
    body = {"id": TRAIN_JOB, "network_arch": "cosmos-rl", "checkpoints": [{"path": "smollm2", "epoch": 3}]}
    tao.done("POST", f"/v2/orgs/{ORG}/experiments", body, 201)
    return tao


def started(tao: Tao) -> str:
    return tao.done("POST", f"{BASE}/inference_microservice/start", {"parent_id": TRAIN_JOB})["job_id"]


def documented(answer: dict[str, Any], example: dict[str, Any]) -> None:
    """Every key of the example is there, with its type; and with its value, where that is a word."""
    for key, value in example.items():
        assert key in answer, key
        if value is None or isinstance(value, bool) or key in ("status", "message", "pod_status"):
            assert answer[key] == value, key
        else:
            assert type(answer[key]) is type(value), key


def test_start_answers_as_documented_and_with_the_codes_extras(trained: Tao) -> None:
    answer = trained.done("POST", f"{BASE}/inference_microservice/start", {"parent_id": TRAIN_JOB})
    documented(answer, {"job_id": "uuid", "status": "pending", "message": "Inference microservice starting"})
    assert uuid.UUID(answer["job_id"]) and answer["id"] == answer["job_id"]
    assert answer["detail"] == f"Inference Microservice started with job_id: {answer['job_id']}"


def test_status_of_a_ready_model_answers_as_documented(trained: Tao) -> None:
    job = started(trained)
    trained.move(job, "ready")
    name = trained.instance(job, "ready", Progress(Stage.READY, "Model is ready"))
    answer = trained.done("GET", f"{BASE}/jobs/{job}/inference_microservice/status")
    documented(
        answer,
        {
            "job_id": "inference-microservice-job-id",
            "model_loaded": True,
            "model_loading": False,
            "server_initializing": False,
            "initialization_error": None,
            "model_load_error": None,
            "status": "healthy",
            "pod_name": "statefulset-pod-name",
            "pod_status": "Running",
        },
    )
    assert answer["pod_name"] == name
    extras = {"id", "model_state", "server_port", "last_request_time", "idle_time_minutes", "idle_timeout_minutes",
              "auto_deletion_enabled", "health_monitor_active", "progress", "timestamp"}  # fmt: skip
    assert extras <= set(answer)


def test_the_walk_through_polls_until_the_model_is_loaded(trained: Tao) -> None:
    """Step 2 of the documentation's workflow: what its shell script prints, at each state."""

    def said(job: str) -> str:
        answer = trained.done("GET", f"{BASE}/jobs/{job}/inference_microservice/status")
        if answer["initialization_error"] is not None:
            return "initialization error"
        if answer["model_load_error"] is not None:
            return "model load error"
        if answer["model_loaded"] is True:
            return "ready"
        if answer["server_initializing"] is True:
            return "initializing"
        return "loading" if answer["model_loading"] is True else "waiting"

    job = started(trained)
    seen = [said(job)]
    trained.move(job, "planning")
    seen.append(said(job))
    trained.move(job, "starting")
    for state, progress in (
        ("launching", None),
        ("initializing", Progress(Stage.DOWNLOADING, "Downloading model", share=0.4)),
        ("loading", Progress(Stage.LOADING, "Loading model")),
    ):
        trained.instance(job, state, progress)
        seen.append(said(job))
    trained.move(job, "ready")
    trained.instance(job, "ready")
    seen.append(said(job))
    assert seen == ["initializing"] * 4 + ["loading", "ready"]


@pytest.mark.parametrize(
    ("reason", "field", "error"),
    [
        ("Model failed to load: CUDA out of memory", "model_load_error", "CUDA out of memory"),
        (
            "Server initialization failed: network timeout downloading model files",
            "initialization_error",
            "network timeout downloading model files",
        ),
    ],
)
def test_a_failed_start_shows_the_documented_error(trained: Tao, reason: str, field: str, error: str) -> None:
    job = started(trained)
    trained.instance(job, "failed")
    trained.move(job, "failed", reason)
    answer = trained.done("GET", f"{BASE}/jobs/{job}/inference_microservice/status")
    assert (answer["status"], answer[field], answer["model_loaded"]) == ("Error", error, False)
    other = {"model_load_error", "initialization_error"} - {field}
    assert answer[other.pop()] is None and answer["pod_status"] == "Failed"
    assert answer["progress"]["message"] == reason


def test_stop_answers_as_documented_twice_and_the_id_is_gone_for_good(trained: Tao) -> None:
    job = started(trained)
    stopped = {
        "status": "stopped",
        "message": "Inference microservice stopped successfully",
        "job_id": "inference-microservice-job-id",
    }
    for _ in range(2):
        answer = trained.done("POST", f"{BASE}/jobs/{job}/inference_microservice/stop")
        documented(answer, stopped)
        assert answer["auto_deletion"] is False and answer["reason"] == "" and answer["id"] == job
    assert trained.view(job).desired == "stopped"
    answer = trained.done("GET", f"{BASE}/jobs/{job}/inference_microservice/status")
    assert (answer["status"], answer["model_loaded"]) == ("Done", False)
    assert answer["message"] == "Inference microservice has been done"


def test_a_job_that_ended_for_being_idle_says_so(trained: Tao) -> None:
    job = started(trained)
    trained.move(job, "stopped", ENDED_IDLE, "stopped")
    answer = trained.done("GET", f"/v2/orgs/{ORG}/inference_microservices/{job}:status")
    assert (answer["status"], answer["auto_deletion"], answer["reason"]) == ("Done", True, ENDED_IDLE)


def test_a_start_that_is_tried_again_is_no_error_yet(trained: Tao) -> None:
    job = started(trained)
    trained.move(job, "starting", "it ended with exit code 1")
    trained.instance(job, "failed", Progress(Stage.ERROR, error="x", failed_in="load"))
    answer = trained.done("GET", f"/v2/orgs/{ORG}/inference_microservices/{job}:status")
    assert (answer["status"], answer["server_initializing"]) == ("healthy", True)
    assert answer["model_load_error"] is None and "exit code 1" in answer["progress"]["message"]


def test_both_versions_see_one_job_and_another_organisation_none(trained: Tao) -> None:
    job = started(trained)
    assert trained.done("GET", f"/v2/orgs/{ORG}/inference_microservices/{job}:status")["job_id"] == job
    assert trained.done("GET", f"/v2/orgs/{ORG}/inference_microservices/{job.upper()}:status")["job_id"] == job
    for path in (
        f"/v2/orgs/other/inference_microservices/{job}:status",
        f"/v1/orgs/other/experiments/{EXPERIMENT}/jobs/{job}/inference_microservice/status",
        f"/v2/orgs/{ORG}/inference_microservices/{TRAIN_JOB}:status",
    ):
        assert "not found" in trained.refused("GET", path, status=404)
    listed = trained.done("GET", f"/v2/orgs/{ORG}/inference_microservices")["inference_microservices"]
    assert [(one["id"], one["parent_id"]) for one in listed] == [(job, TRAIN_JOB)]
    assert trained.done("GET", "/v2/orgs/other/inference_microservices") == {"inference_microservices": []}


def test_v2_stops_by_delete_as_the_client_does_and_by_post_as_the_guide_says(trained: Tao) -> None:
    for method in ("DELETE", "POST"):
        job = trained.start()
        assert trained.done(method, f"/v2/orgs/{ORG}/inference_microservices/{job}:stop")["status"] == "stopped"
        assert trained.view(job).desired == "stopped"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (f"/v1/orgs/{ORG}/experiments/your-experiment-id/jobs/{TRAIN_JOB}/inference_microservice/status",
         "Experiment ID passed is not a valid UUID"),
        (f"/v1/orgs/{ORG}/experiments/{EXPERIMENT}/jobs/none/inference_microservice/status",
         "Job ID passed is not a valid UUID"),
        (f"/v2/orgs/{ORG}/inference_microservices/none:status", "Job ID passed is not a valid UUID"),
        (f"/v2/orgs/{ORG}/inference_microservices/{'1' * 32}:status", "Job ID passed is not a valid UUID"),
        (f"/v2/orgs/a.b/inference_microservices/{TRAIN_JOB}:status", "The organisation's name in the path may have"),
        (f"/v2/orgs/{'a' * 256}/inference_microservices", "The organisation's name in the path may have"),
    ],
)  # fmt: skip
def test_ids_that_are_none_are_400_with_the_servers_words(tao: Tao, path: str, sentence: str) -> None:
    assert tao.refused("GET", path).startswith(sentence)


def test_odd_paths_and_methods_are_answered_in_the_same_shape(tao: Tao) -> None:
    assert "no such route" in tao.refused("GET", f"/v2/orgs/{ORG}/datasets", status=404)
    assert "no such route" in tao.refused("GET", "/v3/login", status=404)
    assert "method" in tao.refused("PUT", f"/v2/orgs/{ORG}/inference_microservices:start", status=405)
    assert "JSON" in tao.refused("POST", f"/v2/orgs/{ORG}/inference_microservices:start", [1])
    broken = tao.ask("POST", f"/v2/orgs/{ORG}/inference_microservices:start", content=b"{" * 100_000)
    assert broken.status_code == 400 and "JSON" in broken.json()["error_desc"]
