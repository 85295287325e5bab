"""Usage: what requests took, summed up by who asked and for what."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from modelport.domain.service import View
from modelport.domain.units import seconds
from modelport.errors import ModelportError

Group = Literal["key", "team", "user", "service", "model", "route", "day"]
Filter = Annotated[str, Field(max_length=256)]
Moment = Annotated[float, Field(ge=0, lt=1e10)]


class UsageQuery(BaseModel):
    """Which requests, and what their sums are by. An empty filter takes all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Annotated[tuple[Group, ...], Field(max_length=7)] = ("service", "key")
    """None of them is one sum of all. Days are those of UTC."""
    since: Moment | None = None
    """In seconds since 1970, as `until`, which is not among them."""
    until: Moment | None = None
    key: Filter = ""
    """A key's id."""
    team: Filter = ""
    user: Filter = ""
    service: Filter = ""
    """A service's name."""
    model: Filter = ""

    @field_validator("by")
    @classmethod
    def _once(cls, value: tuple[Group, ...]) -> tuple[Group, ...]:
        return tuple(dict.fromkeys(value))


class UsageView(View):
    """Sums over requests that have the groups' values in common; a group that was not asked for is empty.

    Latencies are of requests that went well, each percentile the smallest value that so many of them do not exceed.
    """

    day: str = ""
    team: str = ""
    user: str = ""
    key: str = ""
    service: str = ""
    model: str = ""
    route: str = ""
    requests: int
    failed: int
    """Those with a status of 400 or above."""
    estimated: int = 0
    """Those whose engine did not say what they took."""
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    """Part of the input."""
    reasoning_tokens: int = 0
    """Part of the output."""
    audio_seconds: float = 0
    characters: int = 0
    images: int = 0
    gpu_seconds: float = 0
    cost: float = 0
    """By the prices that were in force when each request was made."""
    cost_per_1k: float | None = None
    """Of a thousand tokens as paid, input and output together; None without tokens."""
    gpu_cost_per_1k: float | None = None
    """Of a thousand tokens as measured: what the services' GPUs cost by the hour now, times what the requests took of
    them. None where no service has such a price."""
    total_p50_s: float | None = None
    total_p95_s: float | None = None
    total_p99_s: float | None = None
    first_byte_p50_s: float | None = None
    first_byte_p95_s: float | None = None
    first_byte_p99_s: float | None = None
    queue_p50_s: float | None = None
    queue_p95_s: float | None = None
    queue_p99_s: float | None = None


def moment(text: str, now: float) -> float:
    """A point in time, in seconds since 1970: `7d` before `now`, a date or a time such as `2026-11-01` or
    `2026-11-01T12:30` (UTC unless it says its offset), or the seconds themselves. Raises ModelportError."""
    text = text.strip()
    if text.replace(".", "", 1).isdecimal() and text.isascii():
        return float(text)
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        return max(0.0, now - seconds(text))
    except ModelportError:
        raise ModelportError(
            f"{text[:40]!r} is no point in time: write how long ago, like 7d or 12h, or a date like 2026-11-01."
        ) from None


def as_csv(rows: Sequence[UsageView]) -> str:
    """A header and a line a row, RFC 4180. Text that a spreadsheet would take for a formula gets a ' in front: a
    model's name comes from whoever asked for it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(UsageView.model_fields)
    for row in rows:
        writer.writerow(_cell(value) for value in row.model_dump().values())
    return out.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
