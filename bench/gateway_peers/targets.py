"""Targets: what is measured: how each is started, on PORT in front of the stub at STUB_PORT."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import toolbox
from .world import world

PORT, STUB_PORT = 18080, 19000
"""Also written in the peers' configuration files."""
PEERS_KEY = "sk-bench-0123456789abcdef"
CONF = Path(__file__).parent / "conf"
OURS, OURS_TWO, ROUTER = "modelport", "modelport×2", "sglang-router"


@dataclass(frozen=True)
class Started:
    """A target's command line and environment, and the key that it takes."""

    command: list[object]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    key: str = PEERS_KEY


@dataclass(frozen=True)
class Target:
    """What a name stands for. `slow` ones get fewer streamed events; `package` names its entry in the toolbox."""

    name: str
    package: str = ""
    slow: bool = False
    processes: int = 1
    """Of ours: gateways on one listening socket."""


TARGETS = (
    Target(OURS),
    Target(OURS_TWO, "postgresql", processes=2),
    Target("nginx", "nginx"),
    Target("haproxy", "haproxy"),
    Target(ROUTER, "sglang-router"),
    Target("fastapi+httpx", "fastapi-httpx", slow=True),
    Target("litellm", "litellm", slow=True),
)


@contextmanager
def prepared(target: Target) -> Iterator[Started]:
    """All that stands before the target's process can be started."""
    if target.name in (OURS, OURS_TWO):
        with world(STUB_PORT, target.processes) as ours:
            yield Started(list(ours.command(PORT)), ours.environment(), ours.key)
    else:
        toolbox.RUN.mkdir(parents=True, exist_ok=True)
        yield _peer(target.name)


def _peer(name: str) -> Started:
    stub = f"http://127.0.0.1:{STUB_PORT}"
    if name == "nginx":
        return Started(["nginx", "-p", toolbox.RUN, "-c", CONF / "nginx.conf"])
    if name == "haproxy":
        return Started(["haproxy", "-f", CONF / "haproxy.cfg"])
    if name == ROUTER:
        return Started(
            [toolbox.script("sglang-router", "sglang-router"), "launch", "--worker-urls", stub, "--host", "127.0.0.1",
             "--port", PORT, "--policy", "round_robin", "--prometheus-port", 29001, "--log-level", "error"]
        )  # fmt: skip
    if name == "litellm":
        env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION",
               "NO_DOCS": "True"}  # fmt: skip
        return Started(
            [toolbox.script("litellm", "litellm"), "--config", CONF / "litellm.yaml", "--host", "127.0.0.1", "--port",
             PORT, "--num_workers", 1], os.environ | env,
        )  # fmt: skip
    env = {"BENCH_STUB": stub, "BENCH_LOG": str(toolbox.RUN / "fastapi.log"), "PYTHONDONTWRITEBYTECODE": "1"}
    return Started(
        [toolbox.script("fastapi-httpx", "uvicorn"), "fastapi_httpx:app", "--app-dir", CONF, "--port", PORT, "--loop",
         "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning", "--backlog", 4096],
        os.environ | env,
    )  # fmt: skip
