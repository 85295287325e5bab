"""Access: who asks, and which scope each route needs. The gateway says who asks and checks first; control checks again.

What comes over the unix socket itself is the owner's; what comes through the gateway says so in headers, which the
gateway takes away from clients' requests and sets itself.
"""

from typing import Annotated

from fastapi import Depends, Request

from modelport.control.caller import LOCAL, Caller, Needed
from modelport.domain.spec import CLOUD_PLACE, REFERENCE, Spec
from modelport.domain.variables import ALLOWED
from modelport.domain.variables import FORBIDDEN as NEVER
from modelport.errors import FORBIDDEN, ModelportError

PREFIX = "/modelport/v1"
HEADERS = ("x-modelport-key", "x-modelport-user", "x-modelport-team", "x-modelport-scopes")

NEEDED: dict[tuple[str, str], Needed] = {
    ("GET", "/info"): "admin",
    ("GET", "/openapi.json"): "admin",
    ("POST", "/plan"): "operate",
    ("POST", "/offers"): "operate",
    ("GET", "/services"): "operate",
    ("POST", "/services"): "operate",
    ("PUT", "/services"): "operate",
    ("GET", "/services/{service}"): "operate",
    ("DELETE", "/services/{service}"): "operate",
    ("POST", "/services/{service}/stop"): "operate",
    ("POST", "/services/{service}/restart"): "operate",
    ("POST", "/services/{service}/wake"): "operate",
    ("GET", "/services/{service}/logs"): "operate",
    ("GET", "/keys"): "admin",
    ("POST", "/keys"): "admin",
    ("POST", "/keys/check"): "admin",
    ("POST", "/keys/{key}/rotate"): "admin",
    ("DELETE", "/keys/{key}"): "admin",
    ("GET", "/teams"): "admin",
    ("PUT", "/teams/{team}"): "admin",
    ("DELETE", "/teams/{team}"): "admin",
    ("GET", "/budgets"): "admin",
    ("PUT", "/budgets"): "admin",
    ("DELETE", "/budgets/{budget}"): "admin",
    ("POST", "/budgets/{budget}/override"): "admin",
    ("POST", "/budgets/{budget}/recount"): "admin",
    ("GET", "/aliases"): "admin",
    ("PUT", "/aliases"): "admin",
    ("DELETE", "/aliases/{alias:path}"): "admin",
    ("GET", "/workspaces"): "admin",
    ("PUT", "/workspaces"): "admin",
    ("POST", "/workspaces/{workspace}/check"): "admin",
    ("DELETE", "/workspaces/{workspace}"): "admin",
    ("GET", "/experiments"): "operate",
    ("PUT", "/experiments"): "operate",
    ("DELETE", "/experiments/{experiment}"): "operate",
    ("GET", "/audit"): "admin",
    ("GET", "/usage"): "any",
}
"""By method and path below the prefix. A route that is not here is nobody's."""


def caller(request: Request) -> Caller:
    """Who asks. Headers that say it by half, or twice, are taken for a key without any scope."""
    given = {name: request.headers.getlist(name) for name in HEADERS}
    if not any(given.values()):
        return LOCAL
    key, user, team, scopes = (values[0] if len(values) == 1 else "" for values in given.values())
    if not key or any(len(values) > 1 for values in given.values()):
        return Caller(key="unknown", scopes=frozenset())
    return Caller(key, user, team, frozenset(scope.strip() for scope in scopes.split(",")))


def check(request: Request, who: Annotated[Caller, Depends(caller)]) -> None:
    """Every route depends on this. Raises ModelportError (403) for a key without the scope that the route needs."""
    needed = NEEDED.get((request.method, _below_prefix(request)))
    if needed is None:
        raise ModelportError("No key may use this route of the control API.", FORBIDDEN)
    if not who.may(needed):
        raise ModelportError(f"This API key may not do that; one with the scope `{needed}` is needed.", FORBIDDEN)


def _below_prefix(request: Request) -> str:
    path: str = getattr(request.scope["route"], "path", "")
    return path.removeprefix(PREFIX)


REACHING = ("image", "trust_remote_code", "any_address")
"""Options that choose what program runs, or where it listens."""
ADMINS = ("auth", "price", "limits", "failover", "allow_fields", "engine_args")
"""Fields of a Spec that say who may use a service and what that costs, or reach into its machine."""


def check_spec(who: Caller, spec: Spec, before: Spec | None) -> None:
    """Raises ModelportError (403) for a key that is not an admin's and changes what only admins decide. `before` is
    the Spec of the service of that name, where there is one."""
    if who.may("admin"):
        return
    before = before or Spec(model=spec.model, name=spec.name)
    for name in ADMINS:
        if getattr(spec, name) != getattr(before, name):
            raise ModelportError(f"Only an admin key may set `{name}` of a service.", FORBIDDEN, param=name)
    for name in REACHING:
        if spec.options.get(name) != before.options.get(name):
            raise ModelportError(f"Only an admin key may set the option `{name}`.", FORBIDDEN, param="options")
    for name, text in spec.env.items():
        if before.env.get(name) == text:
            continue
        if name not in ALLOWED or name in NEVER or (REFERENCE.fullmatch(text) and text not in ("", f"env:{name}")):
            raise ModelportError(f"Only an admin key may set the variable {name} so.", FORBIDDEN, param="env")
    for place in (spec.batch.input, spec.batch.results) if spec.batch else ():
        if not CLOUD_PLACE.fullmatch(place):
            raise ModelportError(
                "Only an admin key may have a batch read and write directories of this machine; give cloud URIs.",
                FORBIDDEN,
                param="batch",
            )
