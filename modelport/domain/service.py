"""Service: a Spec with an id, a wanted state, instances and one stable name; and the views of it that users see."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from modelport.domain.spec import Spec
from modelport.domain.states import InstanceState, ServiceState

Desired = Literal["running", "stopped", "removed"]


class View(BaseModel):
    """What REST answers and the client reads: frozen, and tolerant of fields a newer server adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class InstanceView(View):
    """One replica as `status` shows it."""

    id: str
    state: InstanceState
    platform: str
    url: str
    created_at: float
    ready_at: float | None = None
    start_s: float | None = None
    """Seconds from launch to ready."""
    pid: int | None = None
    memory_bytes: int | None = None
    reason: str = ""
    exit: str = ""
    """How it ended: `exit code 1`, `signal 9 (SIGKILL)`, with who did it."""


class ServiceView(View):
    """One service as `ps` and `status` show it."""

    id: str
    name: str
    spec: Spec
    desired: Desired
    state: ServiceState
    reason: str = ""
    """In plain words, why it is where it is: empty when all is well."""
    stage: str = ""
    """What it is doing right now, for progress: `planning`, `loading`, …"""
    estimate_s: float | None = None
    """Seconds until ready, guessed from earlier starts; None where there were none."""
    url: str = ""
    """Where clients find it: the gateway's base URL ending in /v1, or its own port's."""
    port: int | None = None
    plan: str = ""
    planned_bytes: int | None = None
    last_request_at: float | None = None
    created_at: float = 0.0
    instances: tuple[InstanceView, ...] = ()


class PlanView(View):
    """A plan in numbers, as `start --dry-run` and REST show it."""

    model: str
    engine: str
    device: str
    fits: bool
    sentence: str
    reasons: tuple[str, ...]
    parts: dict[str, int]
    need_bytes: int
    high_bytes: int
    free_bytes: int
    context_tokens: int
    parallel: int
    argv: tuple[str, ...]


class KeyView(View):
    """A key as it may be shown: never the key itself, save once in `secret` when it was just made."""

    id: str
    prefix: str
    name: str
    scope: Literal["infer", "admin"]
    models: tuple[str, ...] = ()
    """Service names it may use; empty is all."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    secret: str | None = None


class UsageView(View):
    """Sums over requests of one service and key."""

    service: str
    key: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    failed: int


class InfoView(View):
    """What a control process says of itself."""

    version: str
    gateway_url: str
    pid: int
    gateways: int
