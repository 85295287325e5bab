"""DockerRun: the `docker run` of one engine in its container. Made from values alone; nothing is run.

The options are those of NVIDIA's TAO skill (docker reference of service.yaml, and the skill of platform local-docker):
the container has the job's name, its own port 8080 at a port of the host, a network by name, and /dev/shm in memory.
A secret is handed on by its name only: the `docker` that runs this takes its value from its own environment, where
whoever runs it has put what `Launch.secret_env` refers to.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelport.domain.launch import Launch
from modelport.errors import ModelportError

NETWORK = "tao_default"
NETWORK_VARIABLE = "DOCKER_NETWORK"
CONTAINER_PORT = 8080
ALL_GPUS = -1
SHARED_MEMORY = {"tmpfs": ("--tmpfs", "/dev/shm"), "host": ("--ipc=host",)}  # noqa: S108 (in the container)
"""How a container gets memory that its processes share; anything else is a size for --shm-size, like `8g`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SIZE = re.compile(r"[1-9][0-9]{0,8}[bkmgBKMG]?")


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host that the container reads at `inside`."""

    host: str
    inside: str
    writable: bool = False


def docker_run(
    launch: Launch,
    name: str,
    host_port: int,
    *,
    gpus: int = 1,
    network: str = NETWORK,
    mounts: tuple[Mount, ...] = (),
    tegra: bool = False,
    shared_memory: str = "tmpfs",
    remove: bool = False,
) -> tuple[str, ...]:
    """The command, as argv. `gpus` is how many, 0 for none, ALL_GPUS for all; `tegra` gives them in a Jetson's way,
    whose Docker knows no --gpus. `remove`: the container goes when its program ends. Raises ModelportError for an
    engine without an image, and for names, ports and paths that Docker would refuse."""
    command = launch.container_argv or launch.argv
    if not launch.image:
        raise ModelportError("This engine has no container image, so there is no `docker run` for it.", param="engine")
    for what, given in (("name", name), ("network", network)):
        if not _NAME.fullmatch(given):
            raise ModelportError(f"{given[:80]!r} cannot be the {what} of a container: letters, digits, '_', '.', '-'.")
    if not 1 <= host_port <= 65535:
        raise ModelportError(f"The port {host_port} cannot be: it is 1 to 65535.", param="port")
    return (
        *("docker", "run", "--detach", "--name", name),
        *(("--rm",) if remove else ()),
        *("--network", network, "-p", f"{host_port}:{CONTAINER_PORT}"),
        *_shared(shared_memory),
        *_gpus(gpus, tegra),
        *(word for mount in mounts for word in ("--volume", _volume(mount))),
        *(word for variable in sorted(launch.secret_env) for word in ("-e", variable)),
        *(word for variable, text in launch.env.items() for word in ("-e", f"{variable}={text}")),
        launch.image,
        *command,
    )


def network_of(environ: Mapping[str, str]) -> str:
    """The network that an environment names, else TAO's default."""
    return environ.get(NETWORK_VARIABLE, "").strip() or NETWORK


def _shared(memory: str) -> tuple[str, ...]:
    if memory in SHARED_MEMORY:
        return SHARED_MEMORY[memory]
    if not _SIZE.fullmatch(memory):
        raise ModelportError(
            f"{memory[:40]!r} is no shared memory: write {', '.join(SHARED_MEMORY)} or a size like 8g."
        )
    return (f"--shm-size={memory}",)


def _gpus(count: int, tegra: bool) -> tuple[str, ...]:
    if count == 0:
        return ()
    if tegra:
        devices = "all" if count == ALL_GPUS else ",".join(map(str, range(count)))
        capabilities = "NVIDIA_DRIVER_CAPABILITIES=all"
        return ("--runtime", "nvidia", "-e", capabilities, "-e", f"NVIDIA_VISIBLE_DEVICES={devices}")
    return ("--gpus", "all" if count == ALL_GPUS else str(count))


def _volume(mount: Mount) -> str:
    """Docker's `host:inside:ro`, which has no way to write a colon."""
    for path in (mount.host, mount.inside):
        if not path.startswith("/") or ":" in path or not path.isprintable():
            raise ModelportError(
                f"{path[:200]!r} cannot be mounted: it is an absolute path without ':'.", param="model"
            )
    return f"{mount.host}:{mount.inside}" + ("" if mount.writable else ":ro")
