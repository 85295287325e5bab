"""State: what a model server knows of itself: its Progress, its name, when it was last asked.

`progress` is written by the model's thread and read by the server's: it is replaced whole. All else belongs to the
server's thread.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace

from modelport.domain.answers import Facts
from modelport.domain.progress import Progress, Stage

log = logging.getLogger("modelport.runtime")

DOWNLOAD, LOAD = "Download the model's files", "Load the model"


@dataclass(slots=True)
class State:
    """Times: `_at` in seconds since the epoch, `_s` on the monotonic clock."""

    name: str
    job_id: str
    port: int
    idle_timeout_s: float
    instance: str
    shown_idle_s: float = 0.0
    """What answers say instead, where whoever started it ends it for being idle."""
    model_type: str = ""
    progress: Progress = field(default_factory=lambda: Progress(at=time.time(), remaining_steps=(LOAD,)))
    draining: bool = False
    active: int = 0
    """Requests under way."""
    quiet: asyncio.Event = field(default_factory=lambda: _set(asyncio.Event()))
    """Whether none is."""
    last_request_at: float = 0.0
    quiet_since_s: float = field(default_factory=time.monotonic)
    created_at: float = field(default_factory=time.time)

    @property
    def ready(self) -> bool:
        return self.progress.stage is Stage.READY

    @property
    def facts(self) -> Facts:
        return Facts(
            job_id=self.job_id,
            model_type=self.model_type,
            port=self.port,
            last_request_at=self.last_request_at,
            idle_timeout_s=self.shown_idle_s or self.idle_timeout_s,
            instance=self.instance,
        )

    def move(self, stage: Stage, message: str, *remaining_steps: str) -> None:
        """Into a stage, with a sentence for clients."""
        self.progress = Progress(stage, message, remaining_steps, at=time.time())
        log.info("%s: %s", stage, message)

    def tell(self, message: str, share: float | None) -> None:
        """Within the stage: a Told, as handlers and downloads get it."""
        share = None if share is None else min(1.0, max(0.0, share))
        self.progress = replace(self.progress, message=message, share=share, at=time.time())

    def fail(self, sentence: str, *, again: bool) -> None:
        """For good: the sentence is for clients."""
        early = self.progress.initializing
        self.progress = Progress(
            Stage.ERROR,
            error=sentence,
            failed_in="initialization" if early else "load",
            again=again,
            at=time.time(),
        )
        log.error("%s", self.progress.sentence)

    def began(self) -> None:
        """A request came."""
        self.active += 1
        self.quiet.clear()
        self.last_request_at = time.time()

    def ended(self) -> None:
        """It was answered, well or not."""
        self.active -= 1
        if not self.active:
            self.quiet.set()
        self.last_request_at = time.time()
        self.quiet_since_s = time.monotonic()


def _set(event: asyncio.Event) -> asyncio.Event:
    event.set()
    return event
