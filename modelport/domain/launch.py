"""Launch: one engine process to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

HOST = "{host}"
PORT = "{port}"
SERVICE = "{modelport-service}"
"""Stands for the Service's id, anywhere in an argument or a variable: TAO's payloads hold it."""
ENGINE_KEY = "engine-key"
"""The secret every platform makes anew for each instance: the key that only the gateway and control know."""

FROM_ENVIRONMENT = "env:"
"""`env:NAME` refers to a variable of the launcher's own environment; where it is not set, the engine gets none."""
FROM_FILE = "file:/"
"""`file:/path` refers to a file's text, on the machine where the engine runs; without it nothing is started."""
SECRET_MARK = "{engine-key}"  # noqa: S105 (the mark, not the key)


@dataclass(frozen=True, slots=True)
class Labels:
    """What marks a resource as ours, in every platform's own terms (`modelport.service`, …)."""

    service: str
    """The Service's id."""
    instance: str
    owner: str
    """The installation (its state directory's id), so that two on one machine leave each other alone."""


@dataclass(frozen=True, slots=True)
class Launch:
    """An engine process to be: what to run, with which environment, and how to see that it is ready.

    An engine makes it from a Plan with HOST and PORT as arguments of their own in `argv`; `bind` puts the real ones
    in. `secret_env` maps environment names to references (`engine-key`, `env:HF_TOKEN`, `file:/path`), never to values:
    the platform resolves them where it runs.
    """

    argv: tuple[str, ...]
    health_path: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    secret_env: Mapping[str, str] = field(default_factory=dict[str, str])
    secret_files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Files that the platform writes, 0600, into the engine's working directory before it starts: name to text, in
    which SECRET_MARK stands for the key. For engines that take no key by environment."""
    image: str = ""
    """The container image that holds this engine in the version that `argv` was made for; empty where there is none."""
    container_argv: tuple[str, ...] = ()
    """The command inside `image`, where it is another than `argv`: with the port and the paths of a container."""
    notes: tuple[str, ...] = ()
    """What the engine decided by itself, and why: one sentence each."""
    routes: tuple[str, ...] = ()
    """`METHOD /path` of the engine that clients may reach through the generic proxy."""
    progress_path: str | None = None
    """Where a ready engine that works by itself, on a batch, tells how far it is."""
    metrics_path: str | None = None
    grace_s: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    lease_s: float = 600.0
    """Seconds the engine goes on when nobody renews its lease."""
    labels: Labels | None = None
    host: str = ""
    port: int = 0

    def bind(self, labels: Labels, host: str, port: int, lease_s: float) -> "Launch":
        """The same launch for one instance at one address, its marks replaced."""
        marks = {HOST: host, PORT: str(port)}
        argv = tuple(marks.get(arg, arg).replace(SERVICE, labels.service) for arg in self.argv)
        env = {name: text.replace(SERVICE, labels.service) for name, text in self.env.items()}
        inside = tuple(arg.replace(SERVICE, labels.service) for arg in self.container_argv)
        return replace(
            self, argv=argv, container_argv=inside, env=env, labels=labels, host=host, port=port, lease_s=lease_s
        )
