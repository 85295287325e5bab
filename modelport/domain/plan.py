"""Plan: numbers and reasons, no argv. Whether a model fits, on what, how it is split, and with how much room."""

from dataclasses import dataclass
from typing import Literal

from modelport.domain.facts import Task
from modelport.domain.gpu import Gpu
from modelport.domain.units import show_bytes

Verdict = Literal["fits", "too_close", "does_not_fit"]
"""`too_close`: the interval of the estimate holds both answers."""


@dataclass(frozen=True, slots=True)
class Part:
    """One share of the memory need, in bytes, as an interval around the best guess."""

    name: str
    low_bytes: int
    bytes: int
    high_bytes: int

    def scaled(self, factor: float) -> "Part":
        """The part, so many times as large."""
        return Part(self.name, *(int(size * factor) for size in (self.low_bytes, self.bytes, self.high_bytes)))


@dataclass(frozen=True, slots=True)
class Device:
    """Memory a model can be put into. `free_bytes` is what nothing else uses right now."""

    kind: Literal["cpu", "gpu"]
    name: str
    total_bytes: int
    free_bytes: int
    gpu: Gpu | None = None
    """What is known of this kind of GPU; None for a CPU and for kinds that the table lacks."""


@dataclass(frozen=True, slots=True)
class Span:
    """A number that is not known exactly."""

    low: float
    guess: float
    high: float


@dataclass(frozen=True, slots=True)
class Split:
    """How one replica is spread over GPUs. The product of tensor, pipeline and data is the GPUs it uses."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    """Copies of the model inside one engine, each with requests of its own."""
    expert: int = 1
    """GPUs that share out whole experts: 1, or tensor x data."""

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True)
class Offer:
    """GPUs at a price."""

    gpu: str
    count: int
    cloud: str
    usd_per_hour: float
    """For all of them, on demand."""
    as_of: str
    """The day the price was read, YYYY-MM-DD."""
    usd_per_million_tokens: float | None = None
    """An estimate (see planner/cost.py), at full load; None where bandwidth is not known."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to change so that the model fits, and what it then costs (None: no price known)."""

    sentence: str
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How one replica would run. Bytes and tokens; `parts` and `free_bytes` are of one device, the fullest."""

    device: Device
    task: Task
    parts: tuple[Part, ...]
    """What has to be there: with the cache of `parallel` requests of `context_tokens` each."""
    context_tokens: int
    parallel: int
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it does not fit, or what was decided and why: one sentence each."""
    budget_bytes: int = 0
    """What the engine may use of one device; 0 is what is free on it."""
    devices: int = 1
    """How many there are of `device`, used or not."""
    split: Split = Split()
    changes: tuple[Change, ...] = ()
    """Where it does not fit: what would make it fit, cheapest first."""
    kv_tokens: Span | None = None
    """Tokens of all requests that one engine's cache can hold."""
    max_context: int = 0
    """The longest context at `parallel` requests; 0 where none fits."""
    max_parallel: int = 0
    """The most requests of `context_tokens` each."""
    quantization: str = ""
    """What the engine is told to quantize weights to as it loads them; empty for as they are stored."""
    memory_fraction: float = 0.0
    """The share of a device that the engine may use; 0 where it has no such setting."""
    offer: Offer | None = None
    """The cheapest known price of these devices."""
    ready_s: Span | None = None
    """Seconds from start to ready."""
    refused: str = ""
    """Why the engine would refuse it whatever the memory; empty where it would not."""
    extrapolated: str = ""
    """Empty, or what makes this plan reach beyond what was measured."""

    @property
    def fits(self) -> bool:
        """Whether it may be started: it fits, or only the engine itself can say."""
        return self.verdict != "does_not_fit"

    @property
    def need_bytes(self) -> int:
        """The best guess of what one replica takes of one device."""
        return sum(part.bytes for part in self.parts)

    @property
    def high_bytes(self) -> int:
        """The upper end of the interval: what must be free."""
        return sum(part.high_bytes for part in self.parts)

    @property
    def room_bytes(self) -> int:
        """What there is for it on one device."""
        return self.budget_bytes or self.device.free_bytes

    def sentence(self) -> str:
        """The verdict in words."""
        if self.refused:
            return f"It cannot run: {self.refused}"
        where = f"{self.split.gpus} x {self.device.name}" if self.devices > 1 else self.device.name
        each = " each" if self.split.gpus > 1 else ""
        verb = {"fits": "fits", "too_close": "may just fit (too close to say)", "does_not_fit": "does not fit"}
        what = "free" if not self.budget_bytes else "usable"
        return (
            f"It {verb[self.verdict]}: needs about {show_bytes(self.need_bytes)} (at most "
            f"{show_bytes(self.high_bytes)}){each} of {show_bytes(self.room_bytes)} {what} on {where}."
        )
