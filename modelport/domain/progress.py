"""Progress: how far a model server is on its way to ready, as it says itself while its port is open already."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Stage(StrEnum):
    INITIALIZING = "initializing"  # the port is open, nothing is known of the model yet
    DOWNLOADING = "downloading"  # the model's files come
    LOADING = "loading"  # they are read into memory
    READY = "ready"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of a start. `reason` and `error_type` are the words that TAO's clients look for."""

    stage: Stage = Stage.INITIALIZING
    message: str = "Server is initializing, please wait"
    remaining_steps: tuple[str, ...] = ()
    share: float | None = None
    """Of this stage's work, 0 to 1; None where that is not known."""
    error: str = ""
    """In stage `error`: what went wrong, a sentence fit for clients."""
    failed_in: Literal["", "initialization", "load"] = ""
    again: bool = True
    """In stage `error`: whether another start may go better. A corrupt model stays corrupt."""
    at: float = 0.0
    """Seconds since the epoch."""

    @property
    def initializing(self) -> bool:
        return self.stage in (Stage.INITIALIZING, Stage.DOWNLOADING)

    @property
    def reason(self) -> str:
        """Readiness's word."""
        if self.stage is Stage.ERROR:
            return "initialization_failed" if self.failed_in == "initialization" else "model_load_failed"
        if self.stage is Stage.READY:
            return ""
        return "server_initializing" if self.initializing else "model_loading"

    @property
    def error_type(self) -> str:
        """Chat's word, in OpenAI's shape."""
        return _TYPES.get(self.reason, self.reason)

    @property
    def sentence(self) -> str:
        """What an error says with its documented beginning; else the message."""
        if self.stage is not Stage.ERROR:
            return self.message
        return f"{FAILED_INITIALIZATION if self.failed_in == 'initialization' else FAILED_LOAD}{self.error}"


def failed(reason: str) -> Progress:
    """The error that a failed service's reason tells of."""
    early = reason.startswith(FAILED_INITIALIZATION)
    error = reason.removeprefix(FAILED_INITIALIZATION).removeprefix(FAILED_LOAD)
    return Progress(Stage.ERROR, error=error, failed_in="initialization" if early else "load")


FAILED_INITIALIZATION = "Server initialization failed: "
FAILED_LOAD = "Model failed to load: "
_TYPES = {"initialization_failed": "initialization_error", "model_load_failed": "model_load_error"}
