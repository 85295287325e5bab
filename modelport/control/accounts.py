"""Accounts: the Verbs on keys, teams, budgets, aliases, usage, workspaces and experiments, on the store alone.

They need no running control."""

import copy
import hmac
import time
from collections.abc import Mapping
from math import isfinite
from typing import Any, Self

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from modelport import storage
from modelport.control.caller import LOCAL, Caller
from modelport.control.known import cloud_env
from modelport.control.recount import by_todays_prices, journals, view
from modelport.domain.account import AuditView, BudgetView, KeyView, RecountView, TeamView
from modelport.domain.alias import Alias
from modelport.domain.amounts import natural, steps
from modelport.domain.budget import COUNTABLE, Budget, began
from modelport.domain.experiment import Experiment
from modelport.domain.key import KeySpec, Label
from modelport.domain.limits import Limits
from modelport.domain.usage import UsageQuery, UsageView
from modelport.domain.workspace import Workspace
from modelport.errors import FORBIDDEN, INVALID, UNAUTHORIZED, ModelportError, nearest
from modelport.store import (
    Store,
    aliases,
    audit,
    budgets,
    experiments,
    keys,
    leases,
    services,
    teams,
    usage,
    workspaces,
)
from modelport.store.leases import Standing
from modelport.store.recount import apply_difference, recount

OLD_S = 86400.0
"""A key that was revoked so long ago is not listed any more, unless it is asked for."""
_LABEL: TypeAdapter[str] = TypeAdapter(Label)


class StoreAccounts:
    """Implements Accounts and Records, for one caller. Changes and their audit are one transaction."""

    def __init__(self, store: Store, caller: Caller = LOCAL) -> None:
        self.store = store
        self.caller = caller

    def by(self, caller: Caller) -> Self:
        """The same, for who asks."""
        other = copy.copy(self)
        other.caller = caller
        return other

    def create_key(self, spec: KeySpec) -> KeyView:
        now = time.time()
        with self.store.write() as tx:
            made = keys.create(tx, self.store.pepper, spec, now)
            self._record(tx, now, "key.create", f"key:{made.id}", spec.model_dump(mode="json", exclude_defaults=True))
            known = _service_names(tx)
        notes = [_no_service(name, known) for name in spec.models if name not in known]
        return made.model_copy(update={"notes": tuple(notes)})

    def rotate_key(self, key: str, overlap_s: float) -> KeyView:
        now = time.time()
        with self.store.write() as tx:
            rotated = keys.rotate(tx, self.store.pepper, key, overlap_s, now)
            self._record(tx, now, "key.rotate", f"key:{rotated.id}", {"overlap_s": overlap_s})
        return rotated

    def check_key(self, secret: str) -> KeyView:
        with self.store.read() as tx:
            return _key_of(tx, self.store.pepper, secret, time.time())

    def list_keys(self, *, old: bool = False) -> list[KeyView]:
        with self.store.read() as tx:
            return keys.views(tx, 0.0 if old else time.time() - OLD_S)

    def revoke_key(self, key: str) -> KeyView:
        now = time.time()
        with self.store.write() as tx:
            ended = keys.revoke(tx, key, now)
            self._record(tx, now, "key.revoke", f"key:{ended.id}")
        return ended

    def set_team(self, team: str, limits: Limits) -> TeamView:
        _check_label(team)
        now = time.time()
        with self.store.write() as tx:
            made = teams.put(tx, team, limits, now)
            self._record(tx, now, "team.set", f"team:{team}", limits.model_dump(mode="json", exclude_defaults=True))
        return made

    def list_teams(self) -> list[TeamView]:
        with self.store.read() as tx:
            return teams.views(tx)

    def delete_team(self, team: str) -> TeamView:
        now = time.time()
        with self.store.write() as tx:
            gone = teams.delete(tx, team)
            self._record(tx, now, "team.delete", f"team:{team}")
        return gone

    def set_budget(self, budget: Budget) -> BudgetView:
        now = time.time()
        with self.store.write() as tx:
            budget, notes = _subject(tx, budget)
            cap = budgets.put(tx, budget, now)
            detail = {"budget_id": cap.id, **budget.model_dump(mode="json", exclude={"subject"})}
            self._record(tx, now, "budget.set", cap.subject, detail)
            return _standing(tx, cap.id, now, notes)

    def list_budgets(self) -> list[BudgetView]:
        with self.store.read() as tx:
            found = [_budget_view(one) for one in leases.standings(tx, time.time())]
        return sorted(found, key=lambda budget: (budget.subject, budget.unit, budget.period))

    def delete_budget(self, budget: str) -> BudgetView:
        now = time.time()
        with self.store.write() as tx:
            gone = _standing(tx, budgets.find(tx, budget).id, now)
            budgets.delete(tx, gone.id)
            detail = {"budget_id": gone.id, "unit": gone.unit, "cap": gone.cap, "period": gone.period}
            self._record(tx, now, "budget.delete", gone.subject, detail)
        return gone

    def override_budget(self, budget: str, extra: float, reason: str) -> BudgetView:
        now = time.time()
        with self.store.write() as tx:
            cap = budgets.find(tx, budget)
            period = began(cap.period, now)
            before = next((s.balance.extra for s in leases.standings(tx, now) if s.cap.id == cap.id), 0)
            if not isfinite(extra) or not abs(extra) < 1e12 or cap.cap + before + steps(cap.unit, extra) >= COUNTABLE:
                raise ModelportError(f"An override of {extra:g} {cap.unit} is more than can be counted.", param="extra")
            added = steps(cap.unit, extra)
            leases.override(tx, cap.id, period, added, actor=self.caller.actor, reason=reason.strip(), now=now)
            return _standing(tx, cap.id, now)

    def recount_budget(self, budget: str, at: float | None, *, reprice: bool, apply: bool) -> RecountView:
        now = time.time()
        with self.store.read() as tx:
            cap = budgets.find(tx, budget)
            price = by_todays_prices(tx, cap) if reprice else None
            difference = recount(tx, journals(self.store.directory), cap, now if at is None else at, price)
        if apply:
            with self.store.write() as tx:
                changed = apply_difference(tx, difference)
                detail = {
                    "budget_id": cap.id,
                    "began": difference.began,
                    "changed": natural(cap.unit, changed),
                    "reprice": reprice,
                }
                self._record(tx, now, "budget.recount", cap.subject, detail)
        return view(difference, apply)

    def put_alias(self, alias: Alias) -> Alias:
        now = time.time()
        with self.store.write() as tx:
            aliases.put(tx, alias, now)
            self._record(tx, now, "alias.set", f"alias:{alias.name}", alias.model_dump(mode="json"))
        return alias

    def list_aliases(self) -> list[Alias]:
        with self.store.read() as tx:
            return aliases.all_aliases(tx)

    def delete_alias(self, alias: str) -> Alias:
        now = time.time()
        with self.store.write() as tx:
            gone = aliases.delete(tx, alias)
            self._record(tx, now, "alias.delete", f"alias:{alias}")
        return gone

    def put_workspace(self, workspace: Workspace) -> Workspace:
        self._admin("make workspaces, which hold where secrets are")
        now = time.time()
        with self.store.write() as tx:
            made = workspaces.put(tx, workspace, now)
            detail = made.model_dump(mode="json", exclude_defaults=True)
            self._record(tx, now, "workspace.set", f"workspace:{made.name}", detail)
        return made

    def _admin(self, what: str) -> None:
        """Raises ModelportError (403) for a caller who is no admin: foreign surfaces let others through to here."""
        if not self.caller.may("admin"):
            raise ModelportError(f"Only an admin key may {what}.", FORBIDDEN)

    def list_workspaces(self) -> list[Workspace]:
        with self.store.read() as tx:
            return workspaces.all_workspaces(tx)

    def check_workspace(self, workspace: str) -> Workspace:
        self._admin("use a workspace's credentials")
        with self.store.read() as tx:
            found = workspaces.find(tx, workspace)
        storage.reach(found.uri(), cloud_env(found))
        return found

    def delete_workspace(self, workspace: str) -> Workspace:
        self._admin("remove workspaces")
        now = time.time()
        with self.store.write() as tx:
            gone = workspaces.delete(tx, workspace)
            self._record(tx, now, "workspace.delete", f"workspace:{gone.name}")
        return gone

    def put_experiment(self, experiment: Experiment) -> Experiment:
        now = time.time()
        with self.store.write() as tx:
            made = experiments.put(tx, experiment, now)
            detail = {"status": made.status, "network_arch": made.network_arch, "checkpoints": len(made.checkpoints)}
            self._record(tx, now, "experiment.set", f"experiment:{made.id}", detail)
        return made

    def list_experiments(self) -> list[Experiment]:
        with self.store.read() as tx:
            return experiments.all_experiments(tx)

    def delete_experiment(self, experiment: str) -> Experiment:
        now = time.time()
        with self.store.write() as tx:
            gone = experiments.delete(tx, experiment)
            self._record(tx, now, "experiment.delete", f"experiment:{gone.id}")
        return gone

    def audit(self, count: int) -> list[AuditView]:
        with self.store.read() as tx:
            return audit.latest(tx, count)

    def usage(self, query: UsageQuery) -> list[UsageView]:
        who = self.caller
        only = {} if who.may("admin") else {"user": who.user} if who.user else {"key": who.key}
        with self.store.read() as tx:
            return usage.report(tx, query, only)

    def _record(
        self, tx: sa.Connection, now: float, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        audit.record(tx, now, self.caller.actor, action, subject, detail or {})


def _key_of(tx: sa.Connection, pepper: bytes, secret: str, now: float) -> KeyView:
    """The key that a whole secret is. Raises ModelportError (401), for each reason in the same words."""
    refused = ModelportError("This is no API key of this Modelport, or it is over.", UNAUTHORIZED)
    if len(secret) <= keys.PREFIX_LENGTH or not secret.isascii():
        raise refused
    prefix, digest = secret[: keys.PREFIX_LENGTH], keys.digest(pepper, secret)
    try:
        row = keys.find(tx, prefix)
    except ModelportError:
        raise refused from None
    current = prefix == row["prefix"]
    kept = row["digest"] if current else row["old_digest"] or ""
    until = row["expires_at"] if current else min(row["old_until"] or 0.0, row["expires_at"] or float("inf"))
    over = row["revoked_at"] is not None or (until is not None and until <= now)
    if not hmac.compare_digest(digest.hex(), kept) or over:
        raise refused
    return KeyView.model_validate(row)


def _standing(tx: sa.Connection, budget: str, now: float, notes: tuple[str, ...] = ()) -> BudgetView:
    return next(_budget_view(one, notes) for one in leases.standings(tx, now) if one.cap.id == budget)


def _budget_view(standing: Standing, notes: tuple[str, ...] = ()) -> BudgetView:
    cap, balance = standing.cap, standing.balance
    allowed = cap.cap + balance.extra
    return BudgetView(
        id=cap.id,
        subject=cap.subject,
        unit=cap.unit,
        cap=natural(cap.unit, cap.cap),
        period=cap.period,
        soft=cap.soft,
        hard=cap.hard,
        extra=natural(cap.unit, balance.extra),
        spent=natural(cap.unit, balance.spent),
        leased=natural(cap.unit, balance.leased),
        remaining=natural(cap.unit, standing.remaining),
        state="spent" if balance.spent >= allowed else "warning" if balance.spent >= cap.soft * allowed else "open",
        resets_at=standing.ends,
        notes=notes,
    )


def _service_names(tx: sa.Connection) -> set[str]:
    return {service.name for service in services.all_services(tx) if service.desired != "removed"}


def _no_service(name: str, known: set[str]) -> str:
    return f"There is no service {name!r} yet.{nearest(name, known)}"


def _check_label(name: str) -> None:
    """Raises ModelportError for what cannot be a team's name."""
    try:
        if _LABEL.validate_python(name):
            return
        problem = "it is empty"
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    raise ModelportError(f"{name[:80]!r} cannot be a team's name: {problem}.", INVALID, param="team")


def _subject(tx: sa.Connection, budget: Budget) -> tuple[Budget, tuple[str, ...]]:
    """The budget with its key's id, which may be given by prefix; and a note where the subject does not exist yet.
    Raises ModelportError (404) for a key that does not exist: none will ever have its id."""
    kind, _, name = budget.subject.partition(":")
    if kind == "key":
        return budget.model_copy(update={"subject": f"key:{keys.find(tx, name)['id']}"}), ()
    known = _service_names(tx) if kind == "service" else {team.name for team in teams.views(tx)}
    if name in known:
        return budget, ()
    note = _no_service(name, known) if kind == "service" else f"No key is of team {name!r} yet.{nearest(name, known)}"
    return budget, (note,)
