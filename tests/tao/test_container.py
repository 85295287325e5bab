"""The skill with a server that behaves as TAO's own container does: a real process, started by a real Modelport."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modelport.errors import ModelportError
from modelport.tao import skill
from tests.catalog.write_safetensors import llama_directory
from tests.fakes.cosmos_rl import program
from tests.harness import Serving, short_directory, until

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        program(directory.parent / "bin")
        running = Serving(directory)
        running.environment["PATH"] = f"{directory.parent / 'bin'}:{running.environment['PATH']}"
        running.environment["HOME"] = str(directory.parent)
        running.environment["HF_TOKEN"] = "hf_verysecret"
        with running:
            yield running


def wanted(serving: Serving, name: str) -> skill.Wanted:
    folder = llama_directory(serving.state_dir.parent / name)
    options = {"torch_dtype": "bfloat16"}
    return skill.Wanted("cosmos-rl", str(folder), engine="cosmos-rl", options=options, hf_token_ref="env:HF_TOKEN")


def test_a_request_that_comes_while_it_loads_waits_and_is_answered(serving: Serving, tmp_path: Path) -> None:
    gate = serving.state_dir.parent / "loading"
    gate.mkdir()
    picture = tmp_path / "pixel.png"
    picture.write_bytes(PIXEL)
    made = skill.start(serving.client, wanted(serving, "vlm"), {})
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        if "loading" in line:
            (gate / "go").touch()

    answer = skill.request(
        serving.client,
        serving.admin_key,
        "What is this?",
        images=[str(picture)],
        defaults=True,
        say=hear,
        environ={},
    )
    assert "characters for" in answer.text and (gate / "go").exists()
    assert said[0] == f"Sending to job_id={made.id} arch=cosmos-rl url=http://localhost:{made.port}"
    assert len(said) > 1
    engine = next(pid for pids in serving.engines().values() for pid in pids)
    argv = psutil.Process(engine).cmdline()
    job = json.loads(argv[argv.index("--job") + 1])
    environment = json.loads(argv[argv.index("--docker_env_vars") + 1])
    assert (job["job_id"], job["neural_network_name"]) == (made.id, "cosmos-rl")
    assert job["specs"]["torch_dtype"] == "bfloat16" and not {"cloud_metadata", "results_dir"} & set(job["specs"])
    told = {"TAO_EXECUTION_BACKEND": "local-docker", "TAO_API_JOB_ID": made.id, "CLOUD_BASED": "False"}
    assert environment == told and "hf_verysecret" not in " ".join(argv)
    skill.stop(serving.client)


def test_a_model_that_cannot_be_loaded_ends_the_waiting_with_the_server_s_reason(serving: Serving) -> None:
    made = skill.start(serving.client, wanted(serving, "broken"), {})
    with pytest.raises(ModelportError) as error:
        skill.wait(serving.client, made.id, serving.admin_key, interval_s=0.2, timeout_s=60)
    assert f"job_id={made.id} cannot be used: Model failed to load: no weights" in error.value.message
    assert f"`modelport tao logs {made.id}`" in error.value.message
    skill.stop(serving.client, made.id)
    until(lambda: not serving.client.list(), what="it is gone")


def test_its_docker_run_can_be_seen_without_starting_it(serving: Serving) -> None:
    order, plan = skill.plan(serving.client, wanted(serving, "shown"), {})
    assert order.image.uri == plan.image == "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-rl"
    assert plan.argv[0] == "cosmos-rl-inference-microservice" or plan.argv[0].endswith(
        "/cosmos-rl-inference-microservice"
    )
    assert serving.client.list() == []
