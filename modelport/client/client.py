"""Client: Verbs over HTTP. `Client(socket=…)` on the same machine, `Client(url, key=…)` from anywhere."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx

from modelport.domain.service import InfoView, KeyView, PlanView, ServiceView, UsageView, View
from modelport.domain.spec import Spec
from modelport.errors import NOT_READY, Kind, ModelportError

V = TypeVar("V", bound=View)
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

    def create_key(
        self, name: str, scope: Literal["infer", "admin"], models: Sequence[str], expires_in_s: float | None
    ) -> KeyView:
        body = {"name": name, "scope": scope, "models": [*models], "expires_in_s": expires_in_s}
        return self._one(KeyView, "POST", "/keys", body)

    def list_keys(self) -> "list[KeyView]":
        return self._many(KeyView, "GET", "/keys")

    def revoke_key(self, key: str) -> KeyView:
        return self._one(KeyView, "DELETE", f"/keys/{_part(key)}")

    def usage(self) -> "list[UsageView]":
        return self._many(UsageView, "GET", "/usage")

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


def _body(spec: Spec) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def _part(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="") or "%20"  # an empty part would name another route


def _error(answer: httpx.Response) -> ModelportError:
    try:
        error = answer.json()["error"]
        kind = Kind(answer.status_code, str(error["type"]), str(error["code"]))
        return ModelportError(str(error["message"]), kind, param=error.get("param"))
    except (ValueError, KeyError, TypeError):
        kind = Kind(answer.status_code, "server_error", "unexpected_answer")
        return ModelportError(f"Modelport answered with status {answer.status_code} and no reason.", kind)
