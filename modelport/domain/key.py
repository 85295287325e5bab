"""Key: what one may do, as its owner asks for it. CLI, REST and client all make this one object."""

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from modelport.domain.limits import NO_LIMITS, Limits
from modelport.domain.units import Duration

Scope = Literal["infer", "operate", "admin"]
"""`infer` uses models. `operate` starts, stops and looks after services, their logs too. `admin` may do everything,
and alone makes keys, teams, budgets and aliases."""
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")


def _label(value: str) -> str:
    if value and not LABEL.fullmatch(value):
        raise ValueError("it is 1 to 64 of letters, digits and . _ @ -, with a letter or digit at both ends")
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value.strip(), strict=False))
    except ValueError:
        raise ValueError("it is an address or a network such as 10.0.0.0/8 or 2001:db8::/32") from None


def _route(value: str) -> str:
    if not value.startswith("/") or "*" in value.removesuffix("*"):
        raise ValueError("a route is a path such as /v1/embeddings, or the beginning of some: /v1/audio/*")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("a name is printable")
    return value


Label = Annotated[str, AfterValidator(_label)]


class KeySpec(BaseModel):
    """A key to be made. Empty lists are no restriction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_printable), Field(max_length=200)] = ""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=3)] = ("infer",)
    models: Annotated[tuple[Annotated[str, Field(max_length=256)], ...], Field(max_length=1000)] = ()
    """What it may use: services by name, or another name such as an alias's, by which it must be asked for then."""
    routes: Annotated[tuple[Annotated[str, AfterValidator(_route)], ...], Field(max_length=100)] = ()
    """Paths it may use, like `/v1/embeddings` or `/v1/audio/*`."""
    addresses: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(max_length=100)] = ()
    """Networks that it may be used from."""
    team: Label = ""
    user: Label = ""
    limits: Limits = NO_LIMITS
    expires_in_s: Annotated[Duration, Field(gt=0)] | None = None
    log_bodies: bool = False
    """Whether its requests and answers are kept, redacted and cut, for as long as `bodies_keep` says."""
