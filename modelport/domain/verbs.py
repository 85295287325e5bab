"""Verbs: the one interface to what Modelport can do. control implements it, client implements it over HTTP."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from modelport.domain.account import AuditView, BudgetView, KeyView, RecountView, TeamView
from modelport.domain.alias import Alias
from modelport.domain.budget import Budget
from modelport.domain.experiment import Experiment
from modelport.domain.key import KeySpec
from modelport.domain.limits import Limits
from modelport.domain.service import InfoView, PlanView, ServiceView
from modelport.domain.spec import Spec
from modelport.domain.usage import UsageQuery, UsageView
from modelport.domain.workspace import Workspace


class Accounts(Protocol):
    """The verbs on who may use what, and on what was used. The store implements them too, so that a key can be revoked
    while control is down. Every change is in force at the gateways within a second, and in the audit for ever."""

    def create_key(self, spec: KeySpec) -> KeyView:
        """A new key; `secret` is set in this answer only, and in that of `rotate_key`."""
        ...

    def rotate_key(self, key: str, overlap_s: float) -> KeyView:
        """The same key, by id or prefix, with a new secret; the old one works for `overlap_s` more."""
        ...

    def check_key(self, secret: str) -> KeyView:
        """The key that a whole secret is. Raises ModelportError (401) for none, and for one that is over."""
        ...

    def list_keys(self, *, old: bool = False) -> "list[KeyView]":
        """Newest first; with those that were revoked more than a day ago only where `old`."""
        ...

    def revoke_key(self, key: str) -> KeyView:
        """By id or prefix. Raises ModelportError (404)."""
        ...

    def set_team(self, team: str, limits: Limits) -> TeamView:
        """Limits of all keys of a team together, in place of those it had."""
        ...

    def list_teams(self) -> "list[TeamView]": ...

    def delete_team(self, team: str) -> TeamView:
        """Forget a team's limits; its keys stay."""
        ...

    def set_budget(self, budget: Budget) -> BudgetView:
        """A budget, or another cap for the one of the same subject, unit and period."""
        ...

    def list_budgets(self) -> "list[BudgetView]": ...

    def delete_budget(self, budget: str) -> BudgetView:
        """By id."""
        ...

    def override_budget(self, budget: str, extra: float, reason: str) -> BudgetView:
        """Raise the cap of the period that runs by `extra`; below 0 it takes back what was added."""
        ...

    def recount_budget(self, budget: str, at: float | None, *, reprice: bool, apply: bool) -> RecountView:
        """Count the period that `at` lies in (the one that runs, where None) from the journals on the machine where
        this is done; by the prices of now, where `reprice`. With `apply`, the store says so from then on."""
        ...

    def put_alias(self, alias: Alias) -> Alias: ...

    def list_aliases(self) -> "list[Alias]": ...

    def delete_alias(self, alias: str) -> Alias: ...

    def audit(self, count: int) -> "list[AuditView]":
        """The last changes of all these, newest first."""
        ...

    def usage(self, query: UsageQuery) -> "list[UsageView]":
        """What was used. Who may see only their own gets only that."""
        ...


class Plans(Protocol):
    """The verbs that start nothing. They work while control is down too."""

    def plan(self, spec: Spec) -> PlanView:
        """How it would run: on `spec.accelerators`, which need not be here, else on this machine."""
        ...

    def offers(self, spec: Spec) -> "list[PlanView]":
        """The cheapest accelerators to be had that it fits on, cheapest first; `spec.accelerators` is not looked at."""
        ...


class Records(Protocol):
    """The verbs on what services are made from: workspaces, and finished experiments whose models can be served."""

    def put_workspace(self, workspace: Workspace) -> Workspace:
        """A workspace, in place of the one of that name. The answer has its id."""
        ...

    def list_workspaces(self) -> "list[Workspace]": ...

    def check_workspace(self, workspace: str) -> Workspace:
        """List its bucket with its credentials, where Modelport runs. Raises ModelportError with what is wrong."""
        ...

    def delete_workspace(self, workspace: str) -> Workspace:
        """By name or id. Raises ModelportError: 404, and 400 while a service uses it."""
        ...

    def put_experiment(self, experiment: Experiment) -> Experiment:
        """An experiment, in place of the one of that id."""
        ...

    def list_experiments(self) -> "list[Experiment]":
        """Newest first."""
        ...

    def delete_experiment(self, experiment: str) -> Experiment:
        """By id. Raises ModelportError (404)."""
        ...


class Verbs(Accounts, Plans, Records, Protocol):
    """Every surface is handed one of these. All raise ModelportError; `service` is a name or an id."""

    def info(self) -> InfoView: ...

    def start(self, spec: Spec) -> ServiceView:
        """Make the service exist and run. The same Spec again is the same service; another Spec under a name that is
        taken raises (400)."""
        ...

    def apply(self, specs: Sequence[Spec]) -> list[ServiceView]:
        """Make the named services be as these Specs say, replacing engines without losing a request."""
        ...

    def stop(self, service: str) -> ServiceView: ...

    def remove(self, service: str) -> ServiceView:
        """Stop it and forget it; its name is free once its last instance is gone."""
        ...

    def restart(self, service: str) -> ServiceView:
        """Replace its engines, one rolling change; start it if it sleeps, was stopped or had failed."""
        ...

    def list(self) -> list[ServiceView]: ...

    def status(self, service: str) -> ServiceView: ...

    def logs(self, service: str, tail: int, follow: bool) -> Iterator[str]:
        """Lines of its engines' output, oldest first, without line ends."""
        ...
