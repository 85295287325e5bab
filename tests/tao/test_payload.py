"""What a TAO service is told: model path, specs, environment; and the Spec that all of it makes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.launch import SERVICE
from modelport.errors import ModelportError
from modelport.tao import arch as archs
from modelport.tao import payload, platforms
from modelport.tao.wanted import Wanted, order

RL, PREDICT, DATA = (archs.find(name) for name in archs.ARCHS)
PROCESS = platforms.find("process")


@pytest.mark.parametrize(
    ("arch", "path", "source", "hub"),
    [
        ("cosmos-rl", "hf_model://nvidia/Cosmos-Reason1-7B", "nvidia/Cosmos-Reason1-7B", True),
        ("cosmos-rl", "nvidia/Cosmos-Reason1-7B", "nvidia/Cosmos-Reason1-7B", True),
        ("tao-dataservices", "nvidia/Cosmos-Reason1-7B@main", "nvidia/Cosmos-Reason1-7B@main", True),
        ("cosmos-predict2.5", "hf_model://nvidia/Cosmos-Predict2.5-2B", "nvidia/Cosmos-Predict2.5-2B", True),
        ("cosmos-predict2.5", "/models/checkpoint", "/models/checkpoint", False),
        ("tao-dataservices", " /models/a.gguf ", "/models/a.gguf", False),
    ],
)
def test_a_model_path_is_a_repository_or_absolute(arch: str, path: str, source: str, hub: bool) -> None:
    assert payload.model(archs.find(arch), path) == payload.Model(source, hub)


@pytest.mark.parametrize(
    ("arch", "path", "sentence"),
    [
        *(("cosmos-rl", f"{scheme}://bucket/model", "is in cloud storage") for scheme in ("s3", "gs", "az", "cs", "aws")),
        ("cosmos-rl", "S3://bucket/model", "is in cloud storage"),
        ("cosmos-rl", "hf://nvidia/x", "hf:// is not known; write hf_model://nvidia/x"),
        ("cosmos-rl", "https://host/x", "Unsupported model_path scheme 'https'"),
        ("cosmos-predict2.5", "nvidia/Cosmos-Predict2.5-2B", "Unsupported model_path scheme"),
        ("cosmos-rl", "models/a/b", "is relative"),
        ("cosmos-rl", "./model", "is relative"),
        ("cosmos-rl", "hf_model://nvidia", "is no repository of the Hub"),
        ("cosmos-rl", "hf_model:///etc/passwd", "is no repository of the Hub"),
        ("cosmos-rl", "", "A model path is needed"),
        *(
            ("cosmos-rl", path, "names no model yet")
            for path in ("<model_path>", "/path/to/model", "hf_model://<org>/<model>", "your-org/your-model", "{model}",
                         "hf_model://org/model", "/models/...")
        ),
    ],
)  # fmt: skip
def test_any_other_model_path_is_refused_with_what_it_may_be(arch: str, path: str, sentence: str) -> None:
    with pytest.raises(ModelportError) as error:
        payload.model(archs.find(arch), path)
    assert sentence in error.value.message and "A model path is hf_model://" in error.value.message


@given(st.text(max_size=60))
def test_whatever_the_path_it_is_a_model_or_one_sentence(path: str) -> None:
    for arch in (RL, PREDICT, DATA):
        try:
            found = payload.model(arch, path)
        except ModelportError as error:
            assert error.param == "model_path"
        else:
            assert found.hub or found.source.startswith("/")


@pytest.mark.parametrize(
    ("platform", "backend"),
    [
        ("local-docker", "local-docker"),
        ("docker", "local-docker"),
        ("brev", "local-docker"),
        ("lepton", "lepton"),
        ("slurm", "slurm"),
        ("kubernetes", "local-k8s"),
        ("k8s", "local-k8s"),
        ("process", "local-docker"),
    ],
)
def test_the_backend_follows_from_the_platform(platform: str, backend: str) -> None:
    found = payload.environment(RL, platforms.find(platform), payload.Model("/m", False), {})
    assert found == {"TAO_EXECUTION_BACKEND": backend, "TAO_API_JOB_ID": SERVICE, "CLOUD_BASED": "False"}


def test_cosmos_predict_gets_nothing_but_the_hubs_token() -> None:
    local, hub = payload.Model("/m", False), payload.Model("nvidia/x", True)
    assert payload.environment(PREDICT, PROCESS, local, {}) == {}
    assert payload.environment(PREDICT, PROCESS, hub, {}) == {"HF_TOKEN": "env:HF_TOKEN"}
    assert payload.environment(PREDICT, PROCESS, hub, {}, "file:/run/token") == {"HF_TOKEN": "file:/run/token"}


@pytest.mark.parametrize(
    "name",
    ["TAO_LOGGING_SERVER_URL", "TAO_ADMIN_KEY", "CLOUD_BASED", "TAO_API_JOB_ID", "LD_PRELOAD", "TAO_CLOUD_X", "PATH"],
)
def test_a_variable_that_a_service_may_not_have_is_refused(name: str) -> None:
    with pytest.raises(ModelportError, match=name):
        payload.environment(RL, PROCESS, payload.Model("/m", False), {name: "x"})


@pytest.mark.parametrize("name", payload.SECRETS)
def test_a_secret_is_given_by_its_place_and_its_value_is_never_repeated(name: str) -> None:
    with pytest.raises(ModelportError) as error:
        payload.environment(RL, PROCESS, payload.Model("/m", False), {name: "hunter2-hunter2"})
    assert "hunter2" not in error.value.message and name in error.value.message
    found = payload.environment(RL, PROCESS, payload.Model("/m", False), {name: f"env:{name}"})
    assert found[name] == f"env:{name}"


def test_the_token_itself_instead_of_its_place_is_refused_without_repeating_it() -> None:
    with pytest.raises(ModelportError) as error:
        payload.environment(RL, PROCESS, payload.Model("a/b", True), {}, "hf_abcdefghijklmnop")
    assert "hf_abc" not in error.value.message


@pytest.mark.parametrize(
    "name",
    ["cloud_metadata", "results_dir", "TAO_CLOUD_BUCKET", "hf_token", "job_id", "model_path", "custom_inference_fn",
     "custom_pipeline_loader_encoded"],
)  # fmt: skip
def test_a_spec_that_a_job_must_not_have_is_refused(name: str) -> None:
    with pytest.raises(ModelportError, match=f"The spec {name} cannot be given"):
        payload.specs({name: "x"})
    assert payload.specs({"torch_dtype": "bfloat16"}) == {"torch_dtype": "bfloat16"}


def test_a_start_is_a_job_with_a_port_of_the_range_and_labels() -> None:
    spec = order(Wanted("cosmos-predict2.5", "/models/x", platform="process"), {}).spec
    assert (spec.job, spec.port, spec.auth, spec.engine, spec.idle_timeout) == (True, "8080-8199", "key", "auto", 1800)
    assert spec.labels == {"tao.network-arch": "cosmos-predict2.5", "tao.platform": "process", "tao.skill": "1"}
    head, _, tail = spec.name.rpartition("-")
    assert head == "cosmos-predict2-5" and len(tail) == 8 and int(tail, 16) >= 0
    assert order(Wanted("cosmos-predict2.5", "/models/x"), {}).spec.name != spec.name


def test_taos_own_container_gets_its_image_and_is_held_to_what_it_can(tmp_path: Path) -> None:
    spec = order(Wanted("cosmos-rl", "/m", engine="cosmos-rl", options={"torch_dtype": "bfloat16"}), {}).spec
    assert spec.options == {"torch_dtype": "bfloat16", "image": "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-rl"}
    assert order(Wanted("cosmos-rl", "/m"), {}).spec.options == {}
    with pytest.raises(ModelportError, match="The engine cosmos-rl serves cosmos-rl, not tao-dataservices"):
        order(Wanted("tao-dataservices", "/m", engine="cosmos-rl"), {})
    file = tmp_path / "model.gguf"
    file.write_bytes(b"x")
    with pytest.raises(ModelportError, match="takes the model path for a directory"):
        order(Wanted("tao-dataservices", str(file), engine="tao-dataservices"), {})
    hub = Wanted("cosmos-predict2.5", "hf_model://nvidia/Cosmos-Predict2.5-2B", engine="cosmos-predict2.5")
    with pytest.raises(ModelportError, match="model_key=…; its keys are 2B/pre-trained"):
        order(hub, {})


@pytest.mark.parametrize(("gpus", "fields"), [("1", (None, None)), ("4", (4, None)), ("H100:2", (None, "H100:2"))])
def test_gpus_are_a_number_or_a_kind_and_a_number(gpus: str, fields: tuple[object, object]) -> None:
    spec = order(Wanted("cosmos-rl", "/m", gpus=gpus), {}).spec
    assert (spec.tensor_parallel, spec.accelerators) == fields


@pytest.mark.parametrize("gpus", ["0", "-1", "two", "1.5", "H100:0"])
def test_fewer_gpus_than_one_are_refused(gpus: str) -> None:
    with pytest.raises(ModelportError, match="at least 1"):
        order(Wanted("cosmos-rl", "/m", gpus=gpus), {})


def test_an_architecture_without_a_command_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(ModelportError, match="no inference service for the architecture 'dino'; there is cosmos-rl"):
        order(Wanted("dino", "/m"), {})
    with pytest.raises(ModelportError, match="'nowhere' is not known; there is process, local-docker"):
        order(Wanted("cosmos-rl", "/m", platform="nowhere"), {})


def test_platforms_are_told_what_they_need() -> None:
    slurm = Wanted("cosmos-rl", "/m", platform="cluster", on={"partition": "batch"})
    with pytest.raises(ModelportError, match="slurm needs account: give it by --on account=…, or set SLURM_ACCOUNT"):
        order(slurm, {})
    labels = order(slurm, {"SLURM_ACCOUNT": "team-7"}).spec.labels
    assert (labels["tao.partition"], labels["tao.account"]) == ("batch", "team-7")
    with pytest.raises(ModelportError, match="lepton needs resource_shape"):
        order(Wanted("cosmos-rl", "/m", platform="lepton"), {})
    with pytest.raises(ModelportError, match="is a private image"):
        order(Wanted("cosmos-rl", "/m", platform="kubernetes"), {})
    kubernetes = order(Wanted("cosmos-rl", "/m", platform="k8s", image="registry.test/a:1"), {}).spec
    assert kubernetes.labels["tao.namespace"] == "default" and kubernetes.platform == "kubernetes"
    with pytest.raises(ModelportError, match="process takes no partition"):
        order(Wanted("cosmos-rl", "/m", on={"partition": "x"}), {})
    with pytest.raises(ModelportError, match="which is no name"):
        order(Wanted("cosmos-rl", "/m", platform="slurm", on={"partition": "x; y", "account": "z"}), {})


def test_no_spec_holds_a_secret_whatever_the_environment_has() -> None:
    secret = {name: f"s3cret-{name}" for name in payload.SECRETS}
    spec = order(Wanted("cosmos-rl", "hf_model://nvidia/x"), secret).spec
    assert "s3cret" not in json.dumps(spec.model_dump(mode="json"))
    assert spec.env["HF_TOKEN"] == "env:HF_TOKEN"
