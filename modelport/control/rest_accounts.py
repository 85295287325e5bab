"""The REST API's routes on keys, teams, budgets, aliases, usage, workspaces and experiments.

Each does its Verb in the caller's name."""

import time
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelport.control.access import PREFIX, caller
from modelport.control.accounts import StoreAccounts
from modelport.control.caller import Caller
from modelport.domain.account import AuditView, BudgetView, KeyView, RecountView, TeamView
from modelport.domain.alias import Alias
from modelport.domain.budget import Budget
from modelport.domain.experiment import Experiment
from modelport.domain.key import KeySpec
from modelport.domain.limits import Limits
from modelport.domain.spec import sentence
from modelport.domain.units import Duration
from modelport.domain.usage import Moment, UsageQuery, UsageView, as_csv, moment
from modelport.domain.workspace import Workspace
from modelport.errors import ModelportError

M = TypeVar("M", bound=BaseModel)
By = Annotated[Caller, Depends(caller)]
Body = dict[str, Any]
Filter = Annotated[str, Query(max_length=256)]


class Rotation(BaseModel):
    """The body that gives a key a new secret."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: Annotated[Duration, Field(ge=0)] = 86400.0


class Override(BaseModel):
    """The body that raises a budget's cap for the period that runs."""

    model_config = ConfigDict(extra="forbid")

    extra: Annotated[float, Field(ge=-1e12, le=1e12)]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class Recount(BaseModel):
    """The body that counts a budget's period anew."""

    model_config = ConfigDict(extra="forbid")

    at: Moment | None = None
    reprice: bool = False
    apply: bool = False


def add_account_routes(app: FastAPI, accounts: StoreAccounts) -> None:
    """The routes, over an implementation of Accounts. On the app itself, whose list of routes is checked by a test."""

    @app.get(f"{PREFIX}/keys")
    def list_keys(old: bool = False) -> list[KeyView]:
        return accounts.list_keys(old=old)

    @app.post(f"{PREFIX}/keys")
    def create_key(body: Body, by: By) -> KeyView:
        return accounts.by(by).create_key(_read(KeySpec, body, "The key"))

    @app.post(f"{PREFIX}/keys/{{key}}/rotate")
    def rotate_key(key: str, body: Body, by: By) -> KeyView:
        return accounts.by(by).rotate_key(key, _read(Rotation, body, "The rotation").overlap_s)

    @app.post(f"{PREFIX}/keys/check")
    def check_key(body: Body) -> KeyView:
        return accounts.check_key(_secret(body))

    @app.delete(f"{PREFIX}/keys/{{key}}")
    def revoke_key(key: str, by: By) -> KeyView:
        return accounts.by(by).revoke_key(key)

    @app.get(f"{PREFIX}/teams")
    def list_teams() -> list[TeamView]:
        return accounts.list_teams()

    @app.put(f"{PREFIX}/teams/{{team}}")
    def set_team(team: str, body: Body, by: By) -> TeamView:
        return accounts.by(by).set_team(team, _read(Limits, body, "The limits"))

    @app.delete(f"{PREFIX}/teams/{{team}}")
    def delete_team(team: str, by: By) -> TeamView:
        return accounts.by(by).delete_team(team)

    @app.get(f"{PREFIX}/budgets")
    def list_budgets() -> list[BudgetView]:
        return accounts.list_budgets()

    @app.put(f"{PREFIX}/budgets")
    def set_budget(body: Body, by: By) -> BudgetView:
        return accounts.by(by).set_budget(_read(Budget, body, "The budget"))

    @app.delete(f"{PREFIX}/budgets/{{budget}}")
    def delete_budget(budget: str, by: By) -> BudgetView:
        return accounts.by(by).delete_budget(budget)

    @app.post(f"{PREFIX}/budgets/{{budget}}/override")
    def override_budget(budget: str, body: Body, by: By) -> BudgetView:
        wanted = _read(Override, body, "The override")
        return accounts.by(by).override_budget(budget, wanted.extra, wanted.reason)

    @app.post(f"{PREFIX}/budgets/{{budget}}/recount")
    def recount_budget(budget: str, body: Body, by: By) -> RecountView:
        wanted = _read(Recount, body, "The recount")
        return accounts.by(by).recount_budget(budget, wanted.at, reprice=wanted.reprice, apply=wanted.apply)

    @app.get(f"{PREFIX}/aliases")
    def list_aliases() -> list[Alias]:
        return accounts.list_aliases()

    @app.put(f"{PREFIX}/aliases")
    def put_alias(body: Body, by: By) -> Alias:
        return accounts.by(by).put_alias(_read(Alias, body, "The alias"))

    @app.delete(f"{PREFIX}/aliases/{{alias:path}}")
    def delete_alias(alias: str, by: By) -> Alias:
        return accounts.by(by).delete_alias(alias)

    @app.get(f"{PREFIX}/workspaces")
    def list_workspaces() -> list[Workspace]:
        return accounts.list_workspaces()

    @app.put(f"{PREFIX}/workspaces")
    def put_workspace(body: Body, by: By) -> Workspace:
        return accounts.by(by).put_workspace(_read(Workspace, body, "The workspace"))

    @app.post(f"{PREFIX}/workspaces/{{workspace}}/check")
    def check_workspace(workspace: str) -> Workspace:
        return accounts.check_workspace(workspace)

    @app.delete(f"{PREFIX}/workspaces/{{workspace}}")
    def delete_workspace(workspace: str, by: By) -> Workspace:
        return accounts.by(by).delete_workspace(workspace)

    @app.get(f"{PREFIX}/experiments")
    def list_experiments() -> list[Experiment]:
        return accounts.list_experiments()

    @app.put(f"{PREFIX}/experiments")
    def put_experiment(body: Body, by: By) -> Experiment:
        return accounts.by(by).put_experiment(_read(Experiment, body, "The experiment"))

    @app.delete(f"{PREFIX}/experiments/{{experiment}}")
    def delete_experiment(experiment: str, by: By) -> Experiment:
        return accounts.by(by).delete_experiment(experiment)

    @app.get(f"{PREFIX}/audit")
    def audit(count: Annotated[int, Query(ge=1, le=10_000)] = 100) -> list[AuditView]:
        return accounts.audit(count)

    @app.get(f"{PREFIX}/usage", response_model=list[UsageView])
    def usage(
        who: By,
        by: Filter = "service,key",
        since: Filter = "",
        until: Filter = "",
        key: Filter = "",
        team: Filter = "",
        user: Filter = "",
        service: Filter = "",
        model: Filter = "",
        format: Literal["json", "csv"] = "json",
    ) -> Any:
        now = time.time()
        asked: Body = {"by": [group for group in by.split(",") if group], "key": key, "team": team, "user": user}
        asked |= {"service": service, "model": model}
        asked |= {name: moment(at, now) for name, at in (("since", since), ("until", until)) if at}
        rows = accounts.by(who).usage(_read(UsageQuery, asked, "The query"))
        return rows if format == "json" else Response(as_csv(rows), media_type="text/csv; charset=utf-8")


def _secret(body: Body) -> str:
    """The key to check. What else stands there is never repeated: it may be one."""
    if body.keys() != {"secret"} or not isinstance(body["secret"], str):
        raise ModelportError("To check a key, send a JSON object with the text `secret` alone.", param="secret")
    return body["secret"]


def _read(model: type[M], body: Body, what: str) -> M:
    """A body as what it stands for. Raises ModelportError with the first thing that is wrong in it."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["loc"] and str(first["loc"][-1]).endswith("_ref"):  # perhaps a secret, where only its place belongs
            first["input"] = "…"
        raise ModelportError(sentence(first, what, model)) from None
