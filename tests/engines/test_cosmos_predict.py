"""Cosmos-Predict2.5's command: told by options alone, its checkpoint by path or by a key that somebody gave."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from modelport import engines, planner
from modelport.domain.facts import Adapter, ModelFacts
from modelport.domain.launch import PORT, Launch
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from tests.engines.cases import facts, plan

HUB = "nvidia/Cosmos-Predict2.5-2B"
LOCAL = facts("/models/predict", format="pytorch")


def launched(about: ModelFacts = LOCAL, platform: str = "docker", **fields: Any) -> Launch:
    wanted = {"model": about.source, "name": "video", "accelerators": "H100:1", "platform": platform, **fields}
    return engines.load("cosmos-predict2.5").launch(about, plan(), Spec(**wanted))


def test_a_checkpoint_of_this_machine_is_given_by_its_path() -> None:
    launch = launched()
    assert launch.container_argv == (
        "/bin/bash",
        "-c",
        "umask 0 && cosmos_predict inference_microservice start --checkpoint-path /models/predict "
        "--output-dir /tmp/cosmos-predict2.5-output --port 8080",
    )
    assert launch.image == "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-predict"
    assert launch.env == {} and launch.secret_env == {}, "it takes no job, and no variables of one"


def test_a_model_of_the_hub_needs_the_key_under_which_the_program_knows_it() -> None:
    with pytest.raises(ModelportError, match=r"set options\.model_key, like 2B/pre-trained"):
        launched(facts(HUB))
    launch = launched(facts(HUB), options={"model_key": "2B/post-trained"})
    words = shlex.split(launch.container_argv[2])
    assert words[words.index("--model") + 1] == "2B/post-trained" and "--checkpoint-path" not in words
    assert launch.secret_env == {"HF_TOKEN": "env:HF_TOKEN"} and launch.env == {}
    for wrong in ("", " ", "--port"):
        with pytest.raises(ModelportError, match="model_key"):
            launched(facts(HUB), options={"model_key": wrong})
    with pytest.raises(ModelportError, match="leave one out"):
        launched(options={"model_key": "2B/pre-trained"})


def test_as_a_bare_process_it_wants_to_be_allowed_to_listen_everywhere() -> None:
    with pytest.raises(ModelportError, match=r"every address of this machine.*options\.any_address"):
        launched(platform="process")
    launch = launched(platform="process", options={"any_address": True})
    assert launch.argv[:3] == ("cosmos_predict", "inference_microservice", "start")
    assert launch.argv[launch.argv.index("--port") + 1] == PORT and "--host" not in launch.argv
    assert not [word for word in launch.argv if word.startswith("/tmp")]
    assert any("firewall" in note for note in launch.notes)


def test_a_container_s_own_clock_follows_the_service_s() -> None:
    assert "--idle-timeout-minutes" not in launched().container_argv[2]
    assert launched(idle_timeout=600).container_argv[2].endswith("--idle-timeout-minutes 10")
    assert launched(idle_timeout=0).container_argv[2].endswith("--idle-timeout-minutes 525600"), "it has no never"


def test_options_of_its_own_pass_save_those_that_would_undo_ours() -> None:
    own = ("--context-parallel-size", "2", "--disable-guardrails", "--offload-diffusion-model")
    assert launched(engine_args=own).container_argv[2].endswith(shlex.join(own))
    for arg in ("--port", "--model", "--checkpoint-path", "--output-dir", "--pid-file", "--idle-timeout-minutes"):
        with pytest.raises(ModelportError, match=r"not passed on to cosmos-predict2\.5"):
            launched(engine_args=(arg, "x"))


def test_it_serves_no_adapters_and_runs_on_gpus_alone() -> None:
    engine = engines.load("cosmos-predict2.5")
    assert engine.runs_on() == {"gpu"}
    with pytest.raises(ModelportError, match="no option 'device_map'"):
        launched(options={"device_map": "auto"})
    assert "LoRA" in engine.supports(facts("/models/base", adapter=Adapter("/models/lora", 16, 1000)))


def test_weights_that_only_it_can_read_are_known_by_their_size(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "ema.pt").write_bytes(b"x" * 5000)
    for engine in ("cosmos-predict2.5", "tao-dataservices"):
        found = engines.unread(engine, str(tmp_path))
        assert found and (found.weight_bytes, found.path, found.format) == (5000, str(tmp_path), "pytorch")
        assert "size of its files alone" in found.note
        hub = engines.unread(engine, f"hf_model://{HUB}")
        assert hub and (hub.path, hub.weight_bytes) == (HUB, 0) and "does not know what it takes" in hub.note
        for nowhere in (str(tmp_path / "none"), "s3://bucket/model", "none"):
            with pytest.raises(ModelportError, match=f"No model '{nowhere}' for {engine}"):
                engines.unread(engine, nowhere)
    for engine in ("cosmos-rl", "vllm", "auto"):
        assert engines.unread(engine, str(tmp_path)) is None


def test_such_weights_can_be_planned_and_launched(tmp_path: Path) -> None:
    (tmp_path / "ema.pt").write_bytes(b"x" * 5000)
    engine = engines.load("cosmos-predict2.5")
    found = engines.unread(engine.name, str(tmp_path))
    assert found
    spec = Spec(model=str(tmp_path), name="video", engine=engine.name, accelerators="H100:1", platform="docker")
    made = planner.plan(found, spec, planner.devices_of(planner.accelerators("H100:1")))
    assert made.fits
    assert f"--checkpoint-path {tmp_path}" in engine.launch(found, made, spec).container_argv[2]
