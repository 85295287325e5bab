"""Instance: one launched replica, with its platform's own handle; and what can be observed of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelport.domain.launch import Labels


@dataclass(frozen=True, slots=True)
class Instance:
    """Enough to find a launched replica again after a crash. Plain data, stored as JSON."""

    labels: Labels
    platform: str
    url: str
    """Where its engine listens, reachable from the gateway, e.g. `http://127.0.0.1:18700`."""
    key_ref: str
    """A reference to its random key: `file:/…`, mode 0600."""
    handle: Mapping[str, str] = field(default_factory=dict[str, str])
    """The platform's own terms (directory, container id, job id)."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How an engine ended. Exactly one of `code` and `signal` is set when it ended by itself or was killed."""

    code: int | None = None
    signal: int | None = None
    cause: str = ""
    """Who ended it, where that was not the engine: `stopped`, `lease expired`, `shim died`, `lost`."""
    tail: tuple[str, ...] = ()
    """Its last lines of output, at most 200."""
    at: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a platform sees of an instance now: it runs, it ended (`exit`), or neither: it was never launched."""

    running: bool
    exit: Exit | None = None
    pid: int | None = None
    """The engine's process id, where the platform has processes."""
    memory_bytes: int | None = None
    """What the engine takes right now (proportional set size), where the platform can tell."""
