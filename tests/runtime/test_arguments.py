"""Arguments: what a model server is told, TAO's payloads among it, and what it must not be told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ModelportError
from modelport.runtime import arguments
from modelport.runtime.job import job, literal, scalar, variables

JOB: dict[str, Any] = {
    "job_id": "0b2e6c9a-0000-4000-8000-000000000000",
    "specs": {
        "model_path": "hf_model://org/name",
        "torch_dtype": "bf16",
        "enable_lora": True,
        "max_memory": {"0": "4GiB"},
    },
    "neural_network_name": "cosmos-rl",
}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def read(*given: str, **environ: str) -> arguments.Arguments:
    return arguments.read(given, environ, "host")


def refused(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    with pytest.raises(SystemExit) as ended:
        read(*given)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_job_is_read_as_json_and_as_a_python_literal() -> None:
    for text in (json.dumps(JOB), repr(JOB)):
        found = read("--job", text)
        assert (found.model, found.job_id, found.name) == ("hf_model://org/name", JOB["job_id"], "name")
        assert found.options == {"torch_dtype": "bf16", "enable_lora": True, "max_memory": '{"0": "4GiB"}'}


def test_arguments_win_over_the_job() -> None:
    found = read("--job", json.dumps(JOB), "--model", "/m", "--option", "torch_dtype=float32", "--name", "mine")
    assert (found.model, found.name, found.options["torch_dtype"]) == ("/m", "mine", "float32")


def test_options_are_typed_as_json_has_them() -> None:
    found = read("/m", *(f"--option={text}" for text in ("a=1", "b=0.5", "c=true", "d=x=y", "e=[1]", "f=")))
    assert found.options == {"a": 1, "b": 0.5, "c": True, "d": "x=y", "e": "[1]", "f": ""}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "No model: give --model"),
        (["--job", "{"], "--job must be an object, written as JSON or as a Python literal."),
        (["--job", "__import__('os').system('true')"], "--job must be an object"),
        (["--job", '{"specs": {"hf_token": "hf_secret"}}'], "'hf_token': it is a secret; set HF_TOKEN"),
        (["--job", '{"cloud_metadata": {"key": "hf_secret"}, "specs": {}}'], "'cloud_metadata': it is a secret"),
        (["--job", '{"specs": {"model_path": 7}}'], "'model_path' must be a text"),
        (["/m", "--docker_env_vars", '{"HF_TOKEN": "hf_secret"}'], "--docker_env_vars must not hold HF_TOKEN"),
        (["/m", "--docker_env_vars", '{"TAO_ADMIN_KEY": "hf_secret"}'], "--docker_env_vars must not set TAO_ADMIN_KEY"),
        (["/m", "--docker_env_vars", '{"LD_PRELOAD": "hf_secret"}'], "--docker_env_vars may not set 'LD_PRELOAD'"),
        (["/m", "--docker_env_vars", '{"JOB_IDS": "1"}'], "Did you mean 'JOB_ID'?"),
        (["/m", "--option", "colour"], "--option must be KEY=VALUE, not 'colour'."),
        (["/m", "--batch", '{"input": "a"}'], "--batch needs 'input' and 'results'"),
        (["/m", "--batch", '{"input": "a", "result": "b"}'], "Did you mean 'results'?"),
        (["/m", "--port", "70000"], "--port must be 0 to 65535, not 70000."),
        (["/m", "--max-queue", "0"], "--max-queue must be above 0."),
        (["/m", "--idle_timeout_minutes", "-1"], "must not be below 0"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_secrets(
    capsys: pytest.CaptureFixture[str], given: list[str], sentence: str
) -> None:
    said = refused(capsys, *given)
    assert sentence in said
    assert said.count("\n") == 1
    assert "hf_secret" not in said


def test_environment_variables_of_tao_are_set_and_the_key_is_taken_out() -> None:
    environ = {"MODELPORT_ENGINE_KEY": "k"}
    payload = '{"TAO_API_JOB_ID": "4", "CLOUD_BASED": "False", "DEBUG_ENABLED": true}'
    found = arguments.read(["/m", "--docker_env_vars", payload], environ, "host")
    assert environ == {"TAO_API_JOB_ID": "4", "CLOUD_BASED": "False", "DEBUG_ENABLED": "true"}
    assert (found.key, found.idle_timeout_s) == ("k", 0)
    assert "'k'" not in repr(found)


def test_the_id_is_the_jobs_else_the_services_else_a_new_one() -> None:
    assert read("/m", MODELPORT_SERVICE="svc").job_id == "svc"
    assert read("/m", "--job", '{"job_id": "j"}', MODELPORT_SERVICE="svc").job_id == "j"
    assert len(read("/m").job_id) == 36


def test_idling_is_half_an_hour_unless_it_is_set() -> None:
    assert read("/m").idle_timeout_s == 1800
    assert read("/m", "--idle_timeout_minutes", "0.5").idle_timeout_s == 30
    assert read("/m", "--disable_auto_deletion").idle_timeout_s == 0


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback_is_known(host: str, local: bool) -> None:
    assert read("/m", "--host", host).on_loopback is local


@given(st.text(max_size=200))
def test_no_payload_breaks_the_parser(text: str) -> None:
    for parse in (job, variables, lambda text: literal(text, "--x")):
        try:
            parse(text)
        except ModelportError as error:
            assert len(error.message) < 300
    scalar(text)


@given(st.dictionaries(st.text(max_size=20), SCALARS | st.lists(SCALARS, max_size=3), max_size=5))
def test_any_object_is_a_job_or_a_sentence(specs: dict[str, Any]) -> None:
    try:
        found = job(json.dumps({"specs": specs}))
    except ModelportError:
        return
    assert all(isinstance(value, str | int | float | bool) for value in found.options.values())
