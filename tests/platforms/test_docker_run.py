"""The `docker run` of TAO's containers, field by field as the contract lists them."""

import shlex
from dataclasses import replace

import pytest

from modelport import engines
from modelport.domain.launch import Labels, Launch
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.platforms.docker_run import ALL_GPUS, Mount, docker_run, network_of
from tests.engines.cases import facts, plan

JOB = "7c1f0a52-5a0e-4d0e-9a51-0a4b3f0d9a11"
IMAGE = "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-rl"
LAUNCH = (
    engines.load("cosmos-rl")
    .launch(
        facts("nvidia/Cosmos-Reason1-7B"),
        plan(),
        Spec(model="nvidia/Cosmos-Reason1-7B", name="vlm", accelerators="H100:1", platform="docker",
             env={"WANDB_API_KEY": "env:OTHER", "WANDB_PROJECT": "two words"}),
    )
    .bind(Labels(JOB, "i", "o"), "127.0.0.1", 8080, 60)
)  # fmt: skip

CONTRACT = {
    "detached": ("--detach",),
    "the container's name is the job's id, nothing else": ("--name", JOB),
    "the host's port to the container's 8080": ("-p", "8083:8080"),
    "TAO's network": ("--network", "tao_default"),
    "/dev/shm in memory": ("--tmpfs", "/dev/shm"),
    "so many GPUs": ("--gpus", "2"),
    "the backend": ("-e", "TAO_EXECUTION_BACKEND=local-docker"),
    "the job's id": ("-e", f"TAO_API_JOB_ID={JOB}"),
    "no cloud": ("-e", "CLOUD_BASED=False"),
    "a variable of the user's": ("-e", "WANDB_PROJECT=two words"),
    "the Hub's token, by name": ("-e", "HF_TOKEN"),
    "another secret, by name": ("-e", "WANDB_API_KEY"),
}


def holds(argv: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return any(argv[at : at + len(words)] == words for at in range(len(argv)))


def made(launch: Launch = LAUNCH, **options: object) -> tuple[str, ...]:
    return docker_run(launch, JOB, 8083, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", CONTRACT)
def test_it_has_what_the_contract_has(field: str) -> None:
    assert holds(made(gpus=2), CONTRACT[field])


def test_it_has_nothing_that_the_contract_has_not() -> None:
    argv = made(gpus=2)
    listed = sum(len(words) for words in CONTRACT.values())
    assert argv[:2] == ("docker", "run")
    assert argv[2 + listed : 2 + listed + 3] == (IMAGE, "/bin/bash", "-c") and len(argv) == 2 + listed + 4
    inner = shlex.split(argv[-1])
    assert inner[:4] == ["umask", "0", "&&", "cosmos-rl-inference-microservice"] and JOB in inner[5]


def test_a_jetson_gets_its_gpus_by_runtime_and_environment() -> None:
    argv = made(gpus=2, tegra=True)
    assert holds(argv, ("--runtime", "nvidia")) and "--gpus" not in argv
    assert holds(argv, ("-e", "NVIDIA_DRIVER_CAPABILITIES=all")) and holds(argv, ("-e", "NVIDIA_VISIBLE_DEVICES=0,1"))
    assert holds(made(gpus=ALL_GPUS, tegra=True), ("-e", "NVIDIA_VISIBLE_DEVICES=all"))


def test_gpus_may_be_all_or_none() -> None:
    assert holds(made(gpus=ALL_GPUS), ("--gpus", "all"))
    for tegra in (False, True):
        assert not {"--gpus", "--runtime"} & set(made(gpus=0, tegra=tegra))


def test_shared_memory_is_a_tmpfs_the_host_s_or_of_a_size() -> None:
    assert "--ipc=host" in made(shared_memory="host") and "--tmpfs" not in made(shared_memory="host")
    assert "--shm-size=8g" in made(shared_memory="8g") and "--tmpfs" not in made(shared_memory="8g")
    with pytest.raises(ModelportError, match="no shared memory"):
        made(shared_memory="8g --privileged")


def test_it_goes_when_it_ends_where_that_is_asked() -> None:
    assert "--rm" in made(remove=True) and "--rm" not in made()


def test_the_network_is_the_environment_s_or_tao_s() -> None:
    assert network_of({}) == network_of({"DOCKER_NETWORK": " "}) == "tao_default"
    assert holds(made(network=network_of({"DOCKER_NETWORK": "mine"})), ("--network", "mine"))


def test_a_model_of_the_host_is_mounted_to_be_read() -> None:
    mounts = (Mount("/models/my model", "/models/my model"), Mount("/out", "/results", writable=True))
    argv = made(mounts=mounts)
    assert holds(argv, ("--volume", "/models/my model:/models/my model:ro"))
    assert holds(argv, ("--volume", "/out:/results"))
    for path in ("models", "/a:/etc", "/a\n"):
        with pytest.raises(ModelportError, match="cannot be mounted"):
            made(mounts=(Mount(path, "/m"),))


def test_no_secret_s_value_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OTHER", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "very-secret")
    assert "very-secret" not in " ".join(made()) and "env:" not in " ".join(made())


def test_names_and_ports_that_docker_would_refuse_are_refused_before() -> None:
    for name in ("", "-x", "a b", "a/b", "{modelport-service}"):
        with pytest.raises(ModelportError, match="cannot be the name of a container"):
            docker_run(LAUNCH, name, 8080)
    with pytest.raises(ModelportError, match="cannot be the network"):
        made(network="--privileged")
    with pytest.raises(ModelportError, match="The port 0 cannot be"):
        docker_run(LAUNCH, JOB, 0)
    with pytest.raises(ModelportError, match="no container image"):
        made(replace(LAUNCH, image=""))
