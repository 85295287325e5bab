"""Start: which Spec a body becomes, and which bodies are refused with which sentence."""

import re
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelport.domain.spec import NAME, Spec
from modelport.tao.environment import ALLOWED
from tests.tao.world import EXPERIMENT, ORG, Tao

V1 = f"/v1/orgs/{ORG}/experiments/{EXPERIMENT}/inference_microservice/start"
V2 = f"/v2/orgs/{ORG}/inference_microservices:start"


def spec(tao: Tao, **body: Any) -> Spec:
    return tao.view(tao.start(**body)).spec


def parent(tao: Tao, **fields: Any) -> str:
    body = {"network_arch": "classification_pyt", "checkpoints": [{"path": "smollm2"}], **fields}
    return tao.done("POST", f"/v2/orgs/{ORG}/experiments", body, 201)["id"]


def test_a_start_is_a_job_of_its_own_name_with_what_asked_for_it_in_labels(tao: Tao) -> None:
    made = spec(tao, network_arch="cosmos_rl", docker_image="nvcr.io/x:1", num_gpus=0, kind="experiment")
    assert made.job and re.fullmatch(r"cosmos-rl-[0-9a-f]{8}", made.name) and NAME.fullmatch(made.name)
    assert made.labels == {
        "tao.action": "inference_microservice",
        "tao.org": ORG,
        "tao.network-arch": "cosmos_rl",
        "tao.kind": "experiment",
        "tao.docker-image": "nvcr.io/x:1",
        "tao.num-gpus": "1",
    }
    assert (made.engine, made.task, made.idle_timeout, made.accelerators) == ("auto", "auto", 1800.0, None)
    assert spec(tao, network_arch="cosmos_rl").name != made.name


def test_the_docker_image_is_named_back(tao: Tao) -> None:
    body = {"model_path": "smollm2", "network_arch": "vila", "docker_image": "nvcr.io/x:1"}
    assert tao.done("POST", V2, body, 201)["docker_image"] == "nvcr.io/x:1"


def test_a_body_needs_no_content_type(tao: Tao) -> None:
    answer = tao.ask("POST", V2, content=b'{"model_path": "smollm2"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({}, 1800),
        ({"idle_timeout_minutes": 5}, 300),
        ({"idle_timeout_minutes": 0}, 0),
        ({"disable_auto_deletion": True}, 0),
        ({"disable_auto_deletion": True, "idle_timeout_minutes": 5}, 0),
    ],
)
def test_idle_auto_deletion_is_30_minutes_and_can_be_changed_or_switched_off(
    tao: Tao, body: dict[str, Any], seconds: float
) -> None:
    assert spec(tao, **body).idle_timeout == seconds


def test_a_hub_model_wins_over_a_path_and_has_no_network(tao: Tao) -> None:
    made = spec(tao, hf_model=" hf_model://smollm2 ", model_path="/nothing", network_arch="vila")
    assert made.model == "smollm2" and made.labels["tao.network-arch"] == "huggingface"
    assert made.name.startswith("huggingface-")


def test_settings_become_options_and_what_v2_does_not_know_is_dropped(tao: Tao) -> None:
    body = {
        "model_path": "smollm2",
        "torch_dtype": "auto",
        "device_map": "cpu",
        "enable_lora": True,
        "base_model_path": "hf_model://org/base",
        "image_size": 224,
        "nested": {"a": 1},
    }
    known = {"torch_dtype": "auto", "device_map": "cpu", "enable_lora": True, "base_model_path": "org/base"}
    made = tao.view(tao.done("POST", V2, body, 201)["id"]).spec
    assert made.options == known
    assert "nested" in tao.refused("POST", V1, body)
    del body["nested"]
    free = tao.view(tao.done("POST", V1, body)["id"]).spec
    assert free.options == {**known, "image_size": 224}
    assert free.labels["tao.experiment"] == EXPERIMENT


def test_gpus_are_asked_for_by_type_and_none_is_one(tao: Tao) -> None:
    sentence = tao.refused("POST", V2, {"model_path": "smollm2", "gpu_type": "h100", "num_gpus": 0})
    assert "H100" in sentence.upper()  # there are none here, and the planner says so


@pytest.mark.parametrize("key", ["custom_pipeline_loader", "custom_inference_fn"])
@pytest.mark.parametrize("path", [V1, V2])
def test_code_in_a_request_is_refused_with_the_reason(tao: Tao, path: str, key: str) -> None:
    sentence = tao.refused("POST", path, {"model_path": "smollm2", key: "def load_pipeline(): ..."})
    assert key in sentence and "runs no code" in sentence
    assert "runs no code" in tao.refused("POST", path, {"model_path": "smollm2", f"{key}_encoded": True})


@pytest.mark.parametrize("path", [V1, V2])
def test_without_a_model_the_documented_sentence_is_said(tao: Tao, path: str) -> None:
    for body in ({}, {"network_arch": "vila"}, {"hf_model": "  ", "model_path": ""}):
        assert tao.refused("POST", path, body) == "Model path or hf_model is required for Inference Microservice"


# Environment variables


def test_allowed_variables_are_set_and_secrets_by_reference_only(tao: Tao) -> None:
    env = {"HF_TOKEN": "env:HF_TOKEN", "WANDB_PROJECT": "p", "TAO_LOG_LEVEL": "DEBUG", "WANDB_ENTITY": None}
    made = spec(tao, docker_env_vars=env)
    assert made.env == {"HF_TOKEN": "env:HF_TOKEN", "WANDB_PROJECT": "p", "TAO_LOG_LEVEL": "DEBUG"}


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"HF_TOKN": "x"}, "docker_env_vars cannot set 'HF_TOKN'. Did you mean 'HF_TOKEN'?"),
        ({"LD_PRELOAD": "/tmp/x.so"}, "docker_env_vars cannot set 'LD_PRELOAD'."),
        ({"TAO_ADMIN_KEY": "env:X"}, "docker_env_vars cannot set TAO_ADMIN_KEY: it is the server's own."),
        ({"TAO_LOGGING_SERVER_URL": "http://x"}, "docker_env_vars cannot set TAO_LOGGING_SERVER_URL"),
        ({"HF_TOKEN": "hf_abcdefgh"}, "HF_TOKEN is a secret, of which only the place may be sent"),
        ({"TAO_USER_KEY": "abc"}, "TAO_USER_KEY is a secret, of which only the place may be sent"),
        ({"WANDB_PROJECT": "x" * 501}, "docker_env_vars: WANDB_PROJECT has more than 500 characters."),
    ],
)
def test_other_variables_are_refused(tao: Tao, env: dict[str, str], sentence: str) -> None:
    said = tao.refused("POST", V2, {"model_path": "smollm2", "docker_env_vars": env})
    assert said.startswith(sentence) and "hf_abcdefgh" not in said


@given(name=st.sampled_from(sorted(ALLOWED)), value=st.one_of(st.lists(st.just("s3cret")), st.just({"s3cret": 1})))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_refusal_repeats_what_was_sent_as_a_variable(tao: Tao, name: str, value: Any) -> None:
    said = tao.refused("POST", V2, {"model_path": "smollm2", "docker_env_vars": {name: value}})
    assert "s3cret" not in said


def test_a_secret_among_the_free_keys_of_v1_is_refused(tao: Tao) -> None:
    said = tao.refused("POST", V1, {"model_path": "smollm2", "hf_token": "hf_abcdefgh"})
    assert "docker_env_vars" in said and "hf_abcdefgh" not in said


# Parents


def test_a_parent_gives_model_and_network(tao: Tao) -> None:
    made = spec(tao, model_path=None, parent_job_id=parent(tao))
    assert made.model == "smollm2" and made.name.startswith("classification-pyt-")


def test_the_experiment_of_v1s_path_gives_the_network_where_the_body_does_not(tao: Tao) -> None:
    parent(tao, id=EXPERIMENT, network_arch="dino")
    job = tao.done("POST", V1, {"model_path": "smollm2"})["id"]
    assert tao.view(job).spec.labels["tao.network-arch"] == "dino"


def test_a_parent_must_be_done_and_known_to_this_organisation(tao: Tao) -> None:
    begin = "Cannot start inference microservice: parent job"
    running = parent(tao, status="Running", checkpoints=[])
    sentence = tao.refused("POST", V2, {"parent_job_id": running})
    assert sentence == f"{begin} {running} is not in 'Done' state (current status: Running)"
    assert tao.refused("POST", V1, {"parent_id": "train_job_id"}) == f"{begin} train_job_id not found"
    theirs = parent(tao)
    for path in (V1, V2):
        other = path.replace(ORG, "other")
        assert tao.refused("POST", other, {"parent_id": theirs}) == f"{begin} {theirs} not found"


def test_the_best_checkpoint_is_served_or_the_latest_or_one_of_an_epoch(tao: Tao) -> None:
    checkpoints = [
        {"path": "hf_model://org/one", "epoch": 1, "score": 0.9},
        {"path": "aws://bucket/two.onnx", "epoch": 2, "score": 0.4},
        {"path": "smollm2", "epoch": 3, "score": 0.5},
    ]
    trained = parent(tao, checkpoints=checkpoints)
    latest = spec(tao, model_path=None, parent_job_id=trained, checkpoint_choose_method="latest_model")
    assert latest.model == "smollm2"
    for epochs in ({f"from_epoch_number_{trained}": 3}, 3, "3"):
        body = {"checkpoint_choose_method": "from_epoch_number", "checkpoint_epoch_number": epochs}
        assert spec(tao, model_path=None, parent_job_id=trained, **body).model == "smollm2"
    body = {"parent_job_id": trained, "checkpoint_choose_method": "from_epoch_number"}
    assert "has no checkpoint of epoch 9; it has 1, 2, 3." in tao.refused(
        "POST", V2, {**body, "checkpoint_epoch_number": 9}
    )
    assert f"from_epoch_number_{trained}" in tao.refused("POST", V2, body)
    assert "best_model" in tao.refused("POST", V2, {**body, "checkpoint_choose_method": "worst"})


def test_a_workspace_is_taken_by_name_or_id_and_an_unknown_one_is_404(
    tao: Tao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "key")
    monkeypatch.setenv("B", "secret")
    details = {"cloud_bucket_name": "bucket", "access_key": "env:A", "secret_key": "env:B"}
    body = {"name": "Mine", "cloud_type": "aws", "cloud_specific_details": details}
    made = tao.done("POST", f"/v2/orgs/{ORG}/workspaces", body, 201)
    for wanted in ("Mine", made["id"]):
        assert spec(tao, workspace=wanted).workspace == "Mine"
    missing = {"model_path": "smollm2", "workspace": str(uuid.uuid4())}
    assert "Workspace" in tao.refused("POST", V2, missing, 404)


# Bodies of any kind

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**12) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["parent_job_id", "parent_id", "kind", "hf_model", "network_arch", "enable_lora", "torch_dtype", "docker_image",
     "gpu_type", "num_gpus", "workspace", "docker_env_vars", "checkpoint_choose_method", "checkpoint_epoch_number",
     "idle_timeout_minutes", "disable_auto_deletion", "other"]
)  # fmt: skip


@given(body=st.dictionaries(KEYS, JSON, max_size=5), path=st.sampled_from([V1, V2]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_is_answered_with_a_start_or_a_sentence(tao: Tao, body: dict[str, Any], path: str) -> None:
    body.pop("hf_model", None)  # any text is a Hub id, which the Hub would be asked for
    answer = tao.ask("POST", path, {**body, "model_path": "smollm2"})
    assert answer.status_code in (200, 201, 400, 404), answer.text
    if answer.status_code >= 400:
        assert answer.json()["error_desc"]
