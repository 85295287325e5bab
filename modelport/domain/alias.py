"""Alias: another name that clients may use as `model`, for one service or for several that share its requests."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

HEADER = re.compile(r"[A-Za-z0-9-]{1,64}: ?[\x21-\x7e](?:[\x20-\x7e]{0,180}[\x21-\x7e])?")


def _header(value: str) -> str:
    if value and not HEADER.fullmatch(value):
        raise ValueError("a header is `name: value`")
    return value


def _printable(value: str) -> str:
    if value != value.strip() or not value.isprintable():
        raise ValueError("a name is printable, without spaces at its ends")
    return value


class Target(BaseModel):
    """One service behind an alias."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: Annotated[str, Field(min_length=1, max_length=63)]
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Its share of the requests beside the others'; 0 takes only requests that ask for it by header."""
    header: Annotated[str, AfterValidator(_header)] = ""
    """`name: value`; a request with this header goes here whatever the weights are."""


class Alias(BaseModel):
    """A name and what it stands for. With `sticky`, requests of one session (`x-session-id`, else the key) stay at the
    service that the first of them was given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=256)]
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=16)]
    sticky: bool = False

    @model_validator(mode="after")
    def _reachable(self) -> "Alias":
        if all(target.weight == 0 for target in self.targets):
            raise ValueError("at least one target needs a weight above 0")
        return self
