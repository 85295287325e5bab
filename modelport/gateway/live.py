"""Live: the requests that are under way, as they stand."""

from collections.abc import Iterable

from modelport.domain.live import LiveState, LiveView
from modelport.gateway.account import Account
from modelport.gateway.request import Request

OURS = "/modelport/"
"""Requests to control are no use of a model; this very one is among them."""


def live_views(requests: Iterable[Request], now: float) -> list[LiveView]:
    """The oldest first. `now` is by `request.perf`."""
    found = [_view(request, now) for request in requests if not request.route.startswith(OURS)]
    return sorted(found, key=lambda view: -view.age_s)


def _view(request: Request, now: float) -> LiveView:
    account: Account | None = request.account
    key = request.key
    return LiveView(
        id=request.id,
        age_s=round(now - request.started, 3),
        state=_state(request, account),
        route=request.route,
        key=key.id,
        team=key.team,
        service=request.service,
        model=request.model[:256],
        instance=request.instance_id,
        stream=request.stream,
        tokens=_tokens(account),
        first_byte_s=None if request.first_byte_s is None else round(request.first_byte_s, 3),
    )


def _state(request: Request, account: Account | None) -> LiveState:
    if account is None:
        return "arriving" if request.hold_until is None else "held"
    if (passage := account.passage) is not None:
        return "streaming" if passage.connection.status and request.begun else "sent"
    if account.queue is None:
        return "queued"
    return "held"


def _tokens(account: Account | None) -> int:
    if account is None or account.passage is None:
        return 0
    said = account.passage.usage
    return account.passage.events if said is None else said.output
