"""Budget: a cap on what a key, a team or a service may use, in all or in a period."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from modelport.domain.amounts import SCALE, Unit, steps
from modelport.domain.key import LABEL

Period = Literal["total", "day", "week", "month"]
COUNTABLE = 2**63
"""Steps: what the store's integers hold."""
SUBJECTS = ("key", "team", "service")


def _subject(value: str) -> str:
    kind, colon, name = value.partition(":")
    if kind not in SUBJECTS or not colon or not LABEL.fullmatch(name):
        raise ValueError("a budget is of key:ID, team:NAME or service:NAME")
    return value


Subject = Annotated[str, AfterValidator(_subject), Field(max_length=200)]


class Budget(BaseModel):
    """What may be used of one unit. A subject may have several budgets; each of them holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: Subject
    unit: Unit
    cap: Annotated[float, Field(ge=0, le=1e12)]
    """In natural terms: dollars, seconds, tokens."""
    period: Period = "total"
    """Days, weeks (from Monday) and months are those of UTC."""
    soft: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of the cap from which answers carry a warning."""
    hard: bool = True
    """Whether requests stop at the cap; else it only warns."""

    @model_validator(mode="after")
    def _countable(self) -> "Budget":
        if SCALE.get(self.unit, 1) == 1 and self.cap != int(self.cap):
            raise ValueError(f"a cap of {self.unit} is a whole number, not {self.cap:g}")
        if steps(self.unit, self.cap) >= COUNTABLE:
            raise ValueError(f"a cap of {self.cap:g} {self.unit} is more than can be counted")
        return self


def began(period: Period, at: float) -> int:
    """When the period that `at` lies in began, in seconds since 1970; 0 for `total`."""
    if period == "total":
        return 0
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    return int(day.timestamp())


def ends(period: Period, at: float) -> int | None:
    """When it ends; None for `total`."""
    if period == "total":
        return None
    start = datetime.fromtimestamp(began(period, at), UTC)
    days = {"day": 1, "week": 7, "month": 32}[period]
    end = start + timedelta(days=days)
    return int((end.replace(day=1) if period == "month" else end).timestamp())
