"""Price: what a service's use costs, as its owner sets it. Money is in one currency: the one all prices are in."""

import math
from typing import Annotated

import msgspec
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
        return rates(self).nano(used)


class Rates(msgspec.Struct, frozen=True):
    """A price in billionths for each step, in the order of Amounts; parts that cost nothing are left out."""

    parts: tuple[tuple[str, float], ...]
    cached: float
    """What a cached input token costs beyond an uncached one: less than 0 where it is cheaper."""
    dearest_cached: float
    """The same for a bound: 0 where it is cheaper, since nothing may be cached."""

    def nano(self, used: Amounts) -> int:
        """What `used` costs, rounded up."""
        total = used.cached_tokens * self.cached if self.cached else 0.0
        for name, rate in self.parts:
            total += getattr(used, name) * rate
        return math.ceil(round(total, 3)) if total else 0

    def dearest(self, bound: Amounts) -> int:
        """What no more than `bound` costs at most."""
        total = bound.cached_tokens * self.dearest_cached
        for name, rate in self.parts:
            total += getattr(bound, name) * rate
        return math.ceil(round(total, 3)) if total else 0


def rates(price: Price) -> Rates:
    """A price made ready for many requests."""
    each = {
        "input_tokens": price.input * 1000,
        "output_tokens": price.output * 1000,
        "requests": price.request * NANO,
        "audio_ms": price.audio_minute * NANO / 60_000,
        "characters": price.characters * 1000,
        "images": price.image * NANO,
        "gpu_ms": price.gpu_hour * NANO / 3_600_000,
    }
    cached = 0.0 if price.cached is None else (price.cached - price.input) * 1000
    return Rates(tuple((name, rate) for name, rate in each.items() if rate), cached, max(0.0, cached))
