"""Limits: how much at a time. A key, a team and a service may each have some; the tightest holds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from modelport.domain.units import Duration

Count = Annotated[int, Field(ge=1, le=10**9)]


class Limits(BaseModel):
    """None is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Count | None = None
    """In any 60 seconds, not by the clock's minutes."""
    tokens_per_minute: Count | None = None
    """Input and output; a request counts with its worst case until it is settled."""
    in_flight: Count | None = None
    """Requests at work at once. Of a service: how many its engines are given; more wait in its queue."""
    queue: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Requests that may wait for a full service; 0 is none."""
    queue_timeout: Duration | None = None
    """Seconds a request may wait there."""
    max_tokens: Count | None = None
    """The largest output that may be asked for."""
    default_max_tokens: Count | None = None
    """Put into requests that give no maximum themselves."""
    max_input_bytes: Count | None = None
    """The largest request body."""
    deadline: Annotated[Duration, Field(gt=0)] | None = None
    """Seconds a request may take, the wait in the queue among them; then it is cut off."""
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    """Who is taken first from a full service's queue: higher numbers, whole classes at a time."""
    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """This key's share of a full service beside others of its priority."""


NO_LIMITS = Limits()
