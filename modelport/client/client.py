"""Client: Verbs over HTTP. `Client(socket=…)` on the same machine, `Client(url, key=…)` from anywhere."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel

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
from modelport.errors import NOT_READY, Kind, ModelportError

V = TypeVar("V", bound=BaseModel)
PREFIX = "/modelport/v1"


class Client:
    """Implements Verbs. Raises ModelportError with the server's own sentence, or one that says it cannot be reached."""

    def __init__(
        self, url: str = "http://127.0.0.1:8700", *, key: str | None = None, socket: Path | None = None
    ) -> None:
        self.where = str(socket) if socket else url
        self.http = httpx.Client(
            base_url="http://control" if socket else url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            transport=httpx.HTTPTransport(uds=str(socket)) if socket else None,
            timeout=httpx.Timeout(120, connect=5),
            trust_env=False,
        )

    def info(self) -> InfoView:
        return self._one(InfoView, "GET", "/info")

    def plan(self, spec: Spec) -> PlanView:
        return self._one(PlanView, "POST", "/plan", _body(spec))

    def offers(self, spec: Spec) -> "list[PlanView]":
        return self._many(PlanView, "POST", "/offers", _body(spec))

    def start(self, spec: Spec) -> ServiceView:
        return self._one(ServiceView, "POST", "/services", _body(spec))

    def apply(self, specs: Sequence[Spec]) -> list[ServiceView]:
        return self._many(ServiceView, "PUT", "/services", {"services": [_body(spec) for spec in specs]})

    def stop(self, service: str) -> ServiceView:
        return self._one(ServiceView, "POST", f"/services/{_part(service)}/stop")

    def remove(self, service: str) -> ServiceView:
        return self._one(ServiceView, "DELETE", f"/services/{_part(service)}")

    def restart(self, service: str) -> ServiceView:
        return self._one(ServiceView, "POST", f"/services/{_part(service)}/restart")

    def list(self) -> list[ServiceView]:
        return self._many(ServiceView, "GET", "/services")

    def status(self, service: str) -> ServiceView:
        return self._one(ServiceView, "GET", f"/services/{_part(service)}")

    def logs(self, service: str, tail: int, follow: bool) -> Iterator[str]:
        path = f"{PREFIX}/services/{_part(service)}/logs"
        params = {"tail": tail, "follow": follow}
        try:
            with self.http.stream("GET", path, params=params, timeout=None) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _error(answer)
                yield from answer.iter_lines()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def create_key(self, spec: KeySpec) -> KeyView:
        return self._one(KeyView, "POST", "/keys", _body(spec))

    def rotate_key(self, key: str, overlap_s: float) -> KeyView:
        return self._one(KeyView, "POST", f"/keys/{_part(key)}/rotate", {"overlap_s": overlap_s})

    def check_key(self, secret: str) -> KeyView:
        return self._one(KeyView, "POST", "/keys/check", {"secret": secret})

    def list_keys(self, *, old: bool = False) -> "list[KeyView]":
        return self._many(KeyView, "GET", f"/keys?old={old}")

    def revoke_key(self, key: str) -> KeyView:
        return self._one(KeyView, "DELETE", f"/keys/{_part(key)}")

    def set_team(self, team: str, limits: Limits) -> TeamView:
        return self._one(TeamView, "PUT", f"/teams/{_part(team)}", _body(limits))

    def list_teams(self) -> "list[TeamView]":
        return self._many(TeamView, "GET", "/teams")

    def delete_team(self, team: str) -> TeamView:
        return self._one(TeamView, "DELETE", f"/teams/{_part(team)}")

    def set_budget(self, budget: Budget) -> BudgetView:
        return self._one(BudgetView, "PUT", "/budgets", _body(budget))

    def list_budgets(self) -> "list[BudgetView]":
        return self._many(BudgetView, "GET", "/budgets")

    def delete_budget(self, budget: str) -> BudgetView:
        return self._one(BudgetView, "DELETE", f"/budgets/{_part(budget)}")

    def override_budget(self, budget: str, extra: float, reason: str) -> BudgetView:
        body = {"extra": extra, "reason": reason}
        return self._one(BudgetView, "POST", f"/budgets/{_part(budget)}/override", body)

    def recount_budget(self, budget: str, at: float | None, *, reprice: bool, apply: bool) -> RecountView:
        body = {"at": at, "reprice": reprice, "apply": apply}
        return self._one(RecountView, "POST", f"/budgets/{_part(budget)}/recount", body)

    def put_alias(self, alias: Alias) -> Alias:
        return self._one(Alias, "PUT", "/aliases", _body(alias))

    def list_aliases(self) -> "list[Alias]":
        return self._many(Alias, "GET", "/aliases")

    def delete_alias(self, alias: str) -> Alias:
        return self._one(Alias, "DELETE", f"/aliases/{_part(alias)}")

    def put_workspace(self, workspace: Workspace) -> Workspace:
        return self._one(Workspace, "PUT", "/workspaces", _body(workspace))

    def list_workspaces(self) -> "list[Workspace]":
        return self._many(Workspace, "GET", "/workspaces")

    def check_workspace(self, workspace: str) -> Workspace:
        return self._one(Workspace, "POST", f"/workspaces/{_part(workspace)}/check")

    def delete_workspace(self, workspace: str) -> Workspace:
        return self._one(Workspace, "DELETE", f"/workspaces/{_part(workspace)}")

    def put_experiment(self, experiment: Experiment) -> Experiment:
        return self._one(Experiment, "PUT", "/experiments", _body(experiment))

    def list_experiments(self) -> "list[Experiment]":
        return self._many(Experiment, "GET", "/experiments")

    def delete_experiment(self, experiment: str) -> Experiment:
        return self._one(Experiment, "DELETE", f"/experiments/{_part(experiment)}")

    def audit(self, count: int) -> "list[AuditView]":
        return self._many(AuditView, "GET", f"/audit?count={count}")

    def usage(self, query: UsageQuery) -> "list[UsageView]":
        asked = query.model_dump(exclude={"by"}, exclude_defaults=True) | {"by": ",".join(query.by)}
        return self._many(UsageView, "GET", f"/usage?{urlencode(asked)}")

    def _one(self, view: type[V], method: str, path: str, body: Any = None) -> V:
        return view.model_validate(self._call(method, path, body))

    def _many(self, view: type[V], method: str, path: str, body: Any = None) -> "list[V]":
        return [view.model_validate(item) for item in self._call(method, path, body)]

    def _call(self, method: str, path: str, body: Any) -> Any:
        try:
            answer = self.http.request(method, PREFIX + path, json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status_code >= 400:
            raise _error(answer)
        return answer.json()

    def _unreachable(self, error: httpx.HTTPError) -> ModelportError:
        if isinstance(error, httpx.TimeoutException):
            return ModelportError(f"Modelport at {self.where} did not answer in time.", NOT_READY)
        return ModelportError(f"Modelport is not running at {self.where}; start it with `modelport serve`.", NOT_READY)


def _body(spec: BaseModel) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def _part(text: str) -> str:
    return quote(text, safe="") or "%20"  # an empty part would name another route


def _error(answer: httpx.Response) -> ModelportError:
    try:
        error = answer.json()["error"]
        kind = Kind(answer.status_code, str(error["type"]), str(error["code"]))
        return ModelportError(str(error["message"]), kind, param=error.get("param"))
    except (ValueError, KeyError, TypeError):
        kind = Kind(answer.status_code, "server_error", "unexpected_answer")
        return ModelportError(f"Modelport answered with status {answer.status_code} and no reason.", kind)
