"""Account: keys, teams and budgets as they may be shown, and the book of who changed what."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from modelport.domain.amounts import Unit
from modelport.domain.budget import Period
from modelport.domain.key import Scope
from modelport.domain.limits import NO_LIMITS, Limits
from modelport.domain.service import View


class KeyView(View):
    """A key as it may be shown: never the key itself, save once in `secret` when it was just made."""

    id: str
    prefix: str
    name: str
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] = ()
    """Service names it may use; empty is all."""
    routes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    team: str = ""
    user: str = ""
    limits: Limits = NO_LIMITS
    log_bodies: bool = False
    old_until: float | None = None
    """Until when the secret from before a rotation works too."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    secret: str | None = None
    notes: tuple[str, ...] = ()
    """What its maker may want to know: a service it is for that does not exist."""


class TeamView(View):
    """A team: one that was given limits, or that a key names."""

    name: str
    limits: Limits = NO_LIMITS
    keys: int = 0
    """Of it that are not revoked."""


class BudgetView(View):
    """A budget and where it stands in its period. Amounts are in natural terms: dollars, seconds, tokens."""

    id: str
    subject: str
    unit: Unit
    cap: float
    period: Period
    soft: float
    hard: bool
    extra: float = 0
    """What overrides added to the cap of this period."""
    spent: float = 0
    """Settled."""
    leased: float = 0
    """Held by gateways: reserved for requests that are under way, or soon to be used. It counts as spent."""
    remaining: float
    """What may still be leased."""
    state: Literal["open", "warning", "spent"] = "open"
    """`warning` from the soft share of what was settled, `spent` when nothing is left of it."""
    resets_at: float | None = None
    notes: tuple[str, ...] = ()
    """What its maker may want to know: a subject that does not exist."""


class RecountView(View):
    """What the journals say was used of a budget in a period, beside what the store said, in natural terms."""

    budget: str
    subject: str
    unit: Unit
    began: float | None = None
    counted: float
    stored: float
    settlements: int
    """Requests that were charged to it."""
    damaged: int = 0
    """Lines of the journals that cannot be read."""
    applied: bool = False
    """Whether the store says now what was counted."""


class AuditView(View):
    """One change of keys, teams, budgets or aliases."""

    id: int
    at: float
    actor: str
    """A key's id, or `local` for who works on this machine itself."""
    action: str
    """`key.create`, `budget.override`, …"""
    subject: str
    """`key:ID`, `team:NAME`, `service:NAME` or `alias:NAME`."""
    reason: str = ""
    detail: Mapping[str, Any] = Field(default_factory=dict)
    """What it was changed to. Never a secret."""
