"""Plan: numbers and reasons, no argv. Whether a model fits, on what, and with how much room."""

from dataclasses import dataclass
from typing import Literal

from modelport.domain.units import show_bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One share of the memory need, in bytes, as an interval around the best guess."""

    name: str
    low_bytes: int
    bytes: int
    high_bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """Memory a model can be put into. `free_bytes` is what nothing else uses right now."""

    kind: Literal["cpu", "gpu"]
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How one replica would run on one device. Bytes and tokens; `context_tokens` is per request."""

    device: Device
    task: Literal["generate", "embed"]
    parts: tuple[Part, ...]
    context_tokens: int
    parallel: int
    fits: bool
    reasons: tuple[str, ...]
    """Why it does not fit and what would, or what was decided and why: one sentence each."""

    @property
    def need_bytes(self) -> int:
        """The best guess of what one replica takes."""
        return sum(part.bytes for part in self.parts)

    @property
    def high_bytes(self) -> int:
        """The upper end of the interval: what must be free."""
        return sum(part.high_bytes for part in self.parts)

    def sentence(self) -> str:
        """The verdict in words."""
        verb = "fits" if self.fits else "does not fit"
        return (
            f"It {verb}: needs about {show_bytes(self.need_bytes)} (at most {show_bytes(self.high_bytes)}) of "
            f"{show_bytes(self.device.free_bytes)} free on {self.device.name}."
        )
