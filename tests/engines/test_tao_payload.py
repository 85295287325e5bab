"""What TAO's containers are told, field by field as their contract has it; and what is never among it."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport import engines
from modelport.domain.facts import Adapter, ModelFacts
from modelport.domain.launch import PORT, SERVICE, Labels, Launch
from modelport.domain.spec import Spec
from modelport.engines.tao_container import container_argv
from modelport.errors import ModelportError
from tests.engines.cases import facts, plan
from tests.fakes.cosmos_rl import program

HUB = "nvidia/Cosmos-Reason1-7B"
JOB = "7c1f0a52-5a0e-4d0e-9a51-0a4b3f0d9a11"
JOB_ENGINES = ("cosmos-rl", "tao-dataservices")


def launched(engine: str, about: ModelFacts | None = None, **fields: Any) -> Launch:
    """Its launch on a machine that has not the program, for GPUs elsewhere."""
    wanted = {"model": HUB, "name": "vlm", "engine": engine, "accelerators": "H100:1", **fields}
    return engines.load(engine).launch(about or facts(HUB), plan(), Spec(**wanted))


def told(launch: Launch, flag: str, inside: bool = False) -> dict[str, Any]:
    argv = tuple(shlex.split(launch.container_argv[2])) if inside else launch.argv
    raw = argv[argv.index(flag) + 1]
    assert raw == json.dumps(json.loads(raw), separators=(",", ":")), "compact"
    return json.loads(raw)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("engine", JOB_ENGINES)
def test_a_job_has_its_id_its_specs_and_its_network_and_nothing_else(engine: str, inside: bool) -> None:
    job = told(launched(engine), "--job", inside)
    assert job == {
        "job_id": SERVICE,
        "specs": {"model_path": f"hf_model://{HUB}", "trust_remote_code": False},
        "neural_network_name": engine,
    }


@pytest.mark.parametrize("engine", JOB_ENGINES)
@pytest.mark.parametrize(
    ("platform", "backend"),
    [
        ("process", "local-docker"),
        ("docker", "local-docker"),
        ("brev", "local-docker"),
        ("kubernetes", "local-k8s"),
        ("slurm", "slurm"),
        ("lepton", "lepton"),
    ],
)
def test_the_environment_says_where_it_runs_and_that_no_cloud_is_there(
    engine: str, platform: str, backend: str
) -> None:
    launch = launched(engine, platform=platform)
    expected = {"TAO_EXECUTION_BACKEND": backend, "TAO_API_JOB_ID": SERVICE, "CLOUD_BASED": "False"}
    assert told(launch, "--docker_env_vars") == told(launch, "--docker_env_vars", inside=True) == expected
    assert launch.env == expected


def test_the_job_s_id_is_the_service_s_wherever_it_stands() -> None:
    bound = launched("cosmos-rl").bind(Labels(JOB, "i", "o"), "127.0.0.1", 18700, 60)
    assert told(bound, "--job")["job_id"] == told(bound, "--job", inside=True)["job_id"] == JOB
    assert told(bound, "--docker_env_vars")["TAO_API_JOB_ID"] == bound.env["TAO_API_JOB_ID"] == JOB
    assert SERVICE not in str(bound)
    assert "18700" in bound.argv and "18700" not in bound.container_argv[2]


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ("cosmos-rl", "cosmos-rl-inference-microservice --job {job} --docker_env_vars {env}"),
        (
            "tao-dataservices",
            "python -m nvidia_tao_core.microservices.handlers.huggingface_inference_microservice_server --port 8080 "
            "--job {job} --docker_env_vars {env}",
        ),
    ],
)
def test_the_line_in_the_container_is_the_contract_s(engine: str, line: str) -> None:
    launch = launched(engine)
    job, env = (launch.argv[launch.argv.index(flag) + 1] for flag in ("--job", "--docker_env_vars"))
    expected = line.format(job=shlex.quote(job), env=shlex.quote(env))
    assert launch.container_argv == ("/bin/bash", "-c", f"umask 0 && {expected}")
    assert PORT in launch.argv and launch.health_path == "/api/v1/health/readiness"


def test_a_container_s_own_clock_follows_the_service_s() -> None:
    for wanted, flags in (
        (1800, ""),
        (90, "--idle_timeout_minutes 2"),
        (3600, "--idle_timeout_minutes 60"),
        (0, "--disable_auto_deletion"),
    ):
        launch = launched("cosmos-rl", idle_timeout=wanted)
        assert launch.container_argv[2].endswith(flags) and launch.container_argv[2].count(" --") == 2 + bool(flags)
        assert launch.argv[-1] == "--disable_auto_deletion", "as a process it is ended by Modelport alone"


def test_a_secret_is_handed_over_by_reference_and_is_in_no_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    for engine in JOB_ENGINES:
        plain = launched(engine, env={"WANDB_API_KEY": "env:MY_KEY", "WANDB_PROJECT": "p", "NCCL_DEBUG": "INFO"})
        assert plain.secret_env == {"HF_TOKEN": "env:HF_TOKEN", "WANDB_API_KEY": "env:MY_KEY"}
        vars_ = told(plain, "--docker_env_vars")
        assert vars_["WANDB_PROJECT"] == "p" and not {"HF_TOKEN", "WANDB_API_KEY", "NCCL_DEBUG"} & set(vars_)
        assert plain.env["NCCL_DEBUG"] == "INFO"
        assert "hf_verysecret" not in str(plain)
        assert launched(engine, env={"HF_TOKEN": "file:/keys/hf"}).secret_env == {"HF_TOKEN": "file:/keys/hf"}
        assert launched(engine, facts("/models/m")).secret_env == {}


def test_what_follows_from_the_job_may_be_said_again_and_not_otherwise() -> None:
    ours = {"TAO_EXECUTION_BACKEND": "local-docker", "TAO_API_JOB_ID": SERVICE, "CLOUD_BASED": "False"}
    assert told(launched("cosmos-rl", env=ours), "--docker_env_vars") == ours
    for name in ours:
        with pytest.raises(ModelportError, match=f"env holds {name}, which follows from the platform"):
            launched("cosmos-rl", env={name: "True"})


def test_what_is_said_by_reference_is_a_secret_whatever_its_name() -> None:
    launch = launched("cosmos-rl", facts("/models/m"), env={"WANDB_ENTITY": "env:WHO"})
    assert launch.secret_env == {"WANDB_ENTITY": "env:WHO"} and "WANDB_ENTITY" not in str(launch.argv)


@pytest.mark.parametrize("name", ["TAO_LOGGING_SERVER_URL", "TAO_CLOUD_TYPE", "TAO_CLOUD_BUCKET"])
def test_what_would_make_a_container_report_is_refused(name: str) -> None:
    for engine in engines.NAMED:
        with pytest.raises(ModelportError, match=f"env holds {name}"):
            launched(engine, facts("/models/m"), platform="docker", env={name: "x"})


def test_a_model_is_named_as_containers_name_it() -> None:
    for path, named in ((HUB, f"hf_model://{HUB}"), ("/models/m", "/models/m")):
        assert told(launched("cosmos-rl", facts(path)), "--job")["specs"]["model_path"] == named
    for path in ("s3://b/m", "gs://b/m", "az://b/m", "aws://b/m"):
        for engine in engines.NAMED:
            with pytest.raises(ModelportError, match="is in an object store, which TAO's containers do not read"):
                engines.choose(engine, facts(path))
    with pytest.raises(ModelportError, match="names a revision"):
        launched("cosmos-rl", facts(HUB, source=f"{HUB}@main"))


def test_an_adapter_is_given_with_its_base() -> None:
    tuned = facts("/models/base", adapter=Adapter("/models/lora", 16, 1000))
    assert told(launched("cosmos-rl", tuned), "--job")["specs"] == {
        "model_path": "/models/lora",
        "enable_lora": True,
        "base_model_path": "/models/base",
        "trust_remote_code": False,
    }
    far = told(launched("cosmos-rl", facts(HUB, adapter=Adapter("org/lora", 16, 1000))), "--job")["specs"]
    assert (far["model_path"], far["base_model_path"]) == ("hf_model://org/lora", f"hf_model://{HUB}")


def test_options_of_the_model_are_specs_and_others_are_refused() -> None:
    given = {"torch_dtype": "bfloat16", "device_map": "auto", "use_flash_attention_2": True, "trust_remote_code": True}
    launch = launched("cosmos-rl", options={**given, "image": "registry/own:1"})
    assert told(launch, "--job")["specs"] == {"model_path": f"hf_model://{HUB}", **given}
    assert launch.image == "registry/own:1" and any("trust_remote_code runs" in note for note in launch.notes)
    assert told(launched("cosmos-rl", dtype="float16"), "--job")["specs"]["torch_dtype"] == "float16"
    for name in (
        "custom_pipeline_loader",
        "custom_inference_fn",
        "results_dir",
        "cloud_metadata",
        "job_id",
    ):
        with pytest.raises(ModelportError, match=f"cosmos-rl has no option '{name}'"):
            launched("cosmos-rl", options={name: "x"})


def test_the_image_is_the_release_s_or_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {"cosmos-rl": "7.0.0-cosmos-rl", "tao-dataservices": "7.0.0-data-services"}
    for engine, tag in tags.items():
        assert launched(engine).image == f"nvcr.io/nvidia/tao/tao-toolkit:{tag}"
    monkeypatch.setenv("IMAGE_COSMOS_RL", "registry/other:2")
    assert launched("cosmos-rl").image == "registry/other:2"
    assert launched("cosmos-rl", options={"image": "registry/own:1"}).image == "registry/own:1"
    with pytest.raises(ModelportError, match="no container image"):
        launched("cosmos-rl", options={"image": "--privileged"})


def test_named_engines_are_never_chosen_and_refuse_what_they_cannot_serve(tmp_path: Path) -> None:
    assert engines.choose("auto", facts()).name not in engines.NAMED
    assert engines.choose("cosmos-rl", facts()).name == "cosmos-rl"
    for field, value in (
        ("quantization", "fp8"),
        ("kv_cache_dtype", "fp8"),
        ("data_parallel", 2),
        ("task", "embed"),
        ("workspace", "w"),
    ):
        fields: dict[str, Any] = {field: value}
        with pytest.raises(ModelportError, match=f"cosmos-rl cannot be told {field}"):
            launched("cosmos-rl", **fields)
    for arg in ("--job", "--docker_env_vars", "--port=1", "--idle-timeout_minutes", "--disable_auto_deletion"):
        with pytest.raises(ModelportError, match="not passed on to cosmos-rl"):
            launched("cosmos-rl", engine_args=(arg,))
    with pytest.raises(ModelportError, match="serves safetensors and PyTorch checkpoints"):
        engines.choose("cosmos-rl", facts("/models/m.gguf", format="gguf"))


def test_what_is_not_installed_is_said_and_what_is_on_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for engine in JOB_ENGINES:
        with pytest.raises(ModelportError, match=f"{engine} is not installed here: .* is in NVIDIA's image"):
            launched(engine, accelerators=None)
    file = program(tmp_path)
    launch = launched("cosmos-rl", accelerators=None)
    assert launch.argv[0] == str(file) and engines.load("cosmos-rl").installed() == str(file)
    assert any("listens on every address" in note for note in launch.notes)


def test_the_package_is_found_in_the_environment_of_the_python_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent))
    assert engines.load("tao-dataservices").installed() == ""
    (tmp_path / "lib/python3.11/site-packages/nvidia_tao_core").mkdir(parents=True)
    assert engines.load("tao-dataservices").installed() == f"nvidia_tao_core in {python}"
    assert launched("tao-dataservices", accelerators=None).argv[:2] == (str(python), "-m")


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1), min_size=1))
def test_the_shell_reads_back_the_words_that_were_put_in(words: list[str]) -> None:
    bash, flag, line = container_argv(*words)
    assert (bash, flag) == ("/bin/bash", "-c")
    assert shlex.split(line.removeprefix("umask 0 && ")) == words
