"""Live: one request that is under way, as `modelport top` shows it."""

from typing import Literal

import msgspec

LiveState = Literal["arriving", "queued", "held", "sent", "streaming"]
"""`arriving` until it was admitted; `queued` for a place at its service; `held` until an engine is there; `sent` until
its engine's first byte; `streaming` from then on."""


class LiveView(msgspec.Struct, frozen=True):
    """Times are in seconds."""

    id: str
    """As the request log has it."""
    age_s: float
    state: LiveState
    route: str
    key: str
    """The key's id."""
    team: str
    service: str
    """Empty until it is known."""
    model: str
    """As it was asked for."""
    instance: str
    stream: bool
    tokens: int
    """Of the answer so far: as its engine says, else by events. 0 for an answer that comes whole."""
    first_byte_s: float | None
