"""Price: what a service's use costs, as its owner sets it. Money is in one currency: the one all prices are in."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from modelport.domain.amounts import Amounts

Money = Annotated[float, Field(ge=0, le=1e6)]
NANO = 10**9


class Price(BaseModel):
    """Every part that is set is added up. Tokens and characters are priced by the million, as providers do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Money = 0
    """A million input tokens that were not cached."""
    cached: Money | None = None
    """A million cached input tokens; as `input` where not given."""
    output: Money = 0
    """A million output tokens, reasoning among them."""
    request: Money = 0
    audio_minute: Money = 0
    characters: Money = 0
    """A million characters of speech input."""
    image: Money = 0
    gpu_hour: Money = 0
    """One GPU of ours for an hour, times what a request takes of it; on a machine without GPUs, a replica for an
    hour."""

    def nano(self, used: Amounts) -> int:
        """What `used` costs, in billionths, rounded up. `used.gpu_ms` is the request's share of its replica."""
        cached = self.input if self.cached is None else self.cached
        total = (
            max(0, used.input_tokens - used.cached_tokens) * self.input * 1000
            + used.cached_tokens * cached * 1000
            + used.output_tokens * self.output * 1000
            + used.requests * self.request * NANO
            + used.audio_ms * self.audio_minute * NANO / 60_000
            + used.characters * self.characters * 1000
            + used.images * self.image * NANO
            + used.gpu_ms * self.gpu_hour * NANO / 3_600_000
        )
        return math.ceil(round(total, 3))
