"""Service: a Spec with an id, a wanted state, instances and one stable name; and the views of it that users see."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from modelport.domain.plan import Change, Offer, Part, Span, Split, Verdict
from modelport.domain.progress import Progress
from modelport.domain.spec import Spec
from modelport.domain.states import InstanceState, ServiceState

ENDED_IDLE = "it was stopped because nobody used it"
"""The reason of a job that ended so."""
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
    """What its process takes of the machine's memory right now."""
    on_gpu: bool = False
    """Whether it was planned on GPUs, whose memory is not its process's."""
    measured_bytes: int | None = None
    """What it took of one device when it became ready: by the engine's own words where it has GPUs."""
    kv_tokens: int | None = None
    """Tokens its cache holds, as the engine said when it started; None where it does not say."""
    progress: Progress | None = None
    """What the engine itself last said of its start, where it says such things."""
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
    planned_kv_tokens: int | None = None
    """The best guess of what one engine's cache holds; None where the engine's cache is as large as it is told."""
    last_request_at: float | None = None
    created_at: float = 0.0
    instances: tuple[InstanceView, ...] = ()


class PlanView(View):
    """A plan in numbers, as `plan` and REST show it. Memory is of one device, the fullest."""

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
    """Empty where the engine cannot be told how (`unlaunchable` says why). Never a secret."""
    verdict: Verdict = "fits"
    accelerators: str = ""
    """`NAME:COUNT` as asked for; empty for what the machine has."""
    devices: int = 1
    split: Split = Split()
    intervals: tuple[Part, ...] = ()
    """`parts` with what each takes at least and at most."""
    budget_bytes: int = 0
    """What the engine may use of one device."""
    kv_tokens: Span | None = None
    max_context: int = 0
    max_parallel: int = 0
    changes: tuple[Change, ...] = ()
    quantization: str = ""
    memory_fraction: float = 0.0
    offer: Offer | None = None
    """A price, and an estimate of what a million tokens cost."""
    ready_s: Span | None = None
    extrapolated: str = ""
    env: tuple[str, ...] = ()
    """Names of the environment variables that the engine gets; secrets are among them, their values nowhere."""
    container: tuple[str, ...] = ()
    """The `docker run` that would start it; empty where the engine has no image or the platform no containers."""
    image: str = ""
    """The container image with the engine in the version that `argv` is for."""
    installed: str = ""
    """What of the engine the planning machine has; empty when nothing."""
    unlaunchable: str = ""


class InfoView(View):
    """What a control process says of itself."""

    version: str
    gateway_url: str
    pid: int
    gateways: int
