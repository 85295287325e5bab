"""Handler: what one kind of model does. A handler is one file and one line of the table in handlers.py.

The server around it (app, work, inputs) does all that is the same for every kind: states, routes, media, a bounded
queue, batches, deadlines, cancelling. A handler runs on one thread of its own: `load` once, then `run` again and again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from modelport.errors import INVALID, Kind, ModelportError

Route = Literal["inference", "chat", "embeddings"]
Told = Callable[[str, float | None], None]
"""What a load says on its way: a sentence, and the share that is done (0 to 1) where it is known."""


class LoadFailed(ModelportError):
    """A model that cannot be loaded. `again`: whether another try may go better."""

    def __init__(self, message: str, kind: Kind = INVALID, *, again: bool = False) -> None:
        super().__init__(message, kind)
        self.again = again


@dataclass(frozen=True, slots=True)
class Medium:
    """One picture, video or file of a request, as it came."""

    kind: Literal["image", "video", "file"]
    data: bytes
    name: str
    """As errors call it, and where it came from where a name says more: `images[2]`, `cat.png`. Never a local path."""
    content_type: str = ""


@dataclass(slots=True)
class Call:
    """One request. `messages` only where it came by chat: OpenAI's, in order, with each medium's place marked by
    `{"type": "image"}` or `{"type": "video"}` in the order of `media`."""

    route: Route
    body: Mapping[str, Any]
    """The fields that are no media, by TAO's names: chat's `max_tokens` is `max_new_tokens` here."""
    media: Sequence[Medium] = ()
    messages: Sequence[Mapping[str, Any]] = ()
    emit: Callable[[str], None] | None = None
    """Takes text as it is made, where the client streams."""
    stopped: Callable[[], bool] = lambda: False
    """Whether nobody waits any more: the client left, or its deadline is over."""


@dataclass(slots=True)
class Work:
    """A call that was checked and is ready to be run. `size` counts against the handler's `most`."""

    call: Call
    size: int = 1
    ready: Any = None
    """What the handler made of it: arrays, token ids."""


@dataclass(frozen=True, slots=True)
class Result:
    """An answer. `results` is TAO's; the rest is what OpenAI's shapes need."""

    results: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    finish_reason: Literal["stop", "length"] = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    vectors: Sequence[Sequence[float]] = ()


class Handler(Protocol):
    """Made with `Class(directory: Path, task: str, options: Mapping[str, str | int | float | bool])`, which reads no
    weights and raises ModelportError for an option it does not know (with the nearest one)."""

    model_type: str
    """As answers call it: `classification`, `detection`, `llm`, `vlm`, `embedding`."""
    routes: frozenset[Route]
    most: int
    """The largest sum of sizes that one `run` takes; 1 where batches are no gain."""

    def load(self, told: Told) -> None:
        """Read the model into memory. Raises LoadFailed with a sentence fit for clients: no path, no library's text."""
        ...

    def check(self, call: Call) -> Work:
        """Validate and prepare one call; any thread, several at a time. Raises ModelportError (400)."""
        ...

    def run(self, works: Sequence[Work]) -> "list[Result | ModelportError]":
        """One answer a work, in order; one that fails does not fail the others. On the handler's own thread."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
