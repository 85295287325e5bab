"""Gateway: a table says which path is whose, for whom, and who answers it; nothing else is served."""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from modelport.errors import (
    BAD_HOST,
    DEADLINE,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    NOT_READY,
    UNAUTHORIZED,
    ModelportError,
)
from modelport.gateway.account import Accounts
from modelport.gateway.admit import (
    AIRGAPPED,
    ANONYMOUS,
    UNKNOWN_KEY,
    Unknown,
    admit,
    is_airgapped,
    presented,
    require_local,
    require_route,
    require_scope,
)
from modelport.gateway.anthropic import error_body
from modelport.gateway.backoff import Backoff
from modelport.gateway.control import ControlDoor
from modelport.gateway.edge import cors, host_allowed, preflight
from modelport.gateway.infer import Inference, engine_path, require_model
from modelport.gateway.jobs import LOGINS, ORG_LABEL, answer_health, error_rsp, is_inference, is_over, job_of
from modelport.gateway.live import live_views
from modelport.gateway.meter import Meter
from modelport.gateway.request import Request, encode, perf
from modelport.gateway.routes import Route, Routes
from modelport.gateway.surface import INFERENCE, ROUTED, SURFACES
from modelport.settings import Settings
from modelport.store.keys import PREFIX_LENGTH, Key

log = logging.getLogger("modelport.gateway")


class Policy(Enum):
    """Who may: anybody, any valid key, or one with this scope."""

    OPEN = "open"
    KEY = "key"
    INFER = "infer"
    OPERATE = "operate"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. A path that ends in `/` is a prefix; `own` also stands on a service's own port."""

    path: str
    methods: tuple[str, ...]
    policy: Policy
    answer: "Callable[[Gateway, Request, Key], Awaitable[None]]"
    own: bool = False


class Gateway:
    """What a request meets: admission, then the row's answer. One line is written for each, whatever becomes of it."""

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        pepper: bytes,
        inference: Inference,
        control: ControlDoor,
        accounts: Accounts,
        catch_up: Callable[[], Awaitable[bool]],
    ) -> None:
        self.routes = routes
        self.inference = inference
        self.control = control
        self.accounts = accounts
        self.requests: dict[str, Request] = {}
        """Those under way, by id."""
        self._settings = settings
        self._pepper = pepper
        self._catch_up = catch_up
        """Looks whether the store has changed; True when it had."""
        self._backoff, self.logins = Backoff(), Backoff()
        self._ids = itertools.count()
        self._id_prefix = f"req-{secrets.token_hex(6)}-"

    @property
    def meter(self) -> Meter:
        return self.accounts.meter

    async def run(self, request: Request) -> None:
        """Answer one request."""
        request.name(f"{self._id_prefix}{next(self._ids):x}")
        request.key = ANONYMOUS
        self.requests[request.id] = request
        name = request.id
        try:
            if request.connection.gone:  # before this task had its first turn
                raise asyncio.CancelledError
            try:
                await self._answer(request)
            except Unknown:
                if not await self._catch_up():
                    raise
                await self._answer(request)
        except ModelportError as error:
            request.fail(error)
        except asyncio.CancelledError:
            if request.cut_off:
                request.fail(ModelportError("The request took longer than its deadline.", DEADLINE))
            elif request.connection.gone:
                request.status = 499
            else:  # the gateway ends and could not wait any longer
                request.fail(ModelportError("The gateway is stopping; try again.", NOT_READY))
        except Exception:
            log.exception("request %s failed", request.id)
            request.fail(ModelportError("The gateway failed; its log has the reason.", INTERNAL))
        finally:
            del self.requests[name]
            if not request.complete:  # nothing may leave a client waiting for ever
                request.connection.cut()
            self.inference.forget(request)
            request.connection.tasks.discard(request.task)  # type: ignore[arg-type]
            try:
                self.accounts.end(request)
            finally:
                request.release()

    async def _answer(self, request: Request) -> None:
        connection = request.connection
        entry = find(request.path, connection.service_id is not None)
        if entry is None:
            raise ModelportError("There is no such route here.", NOT_FOUND)
        request.route = entry.path
        request.extra = ()
        if "/v1/messages" in request.path:  # also below /services/NAME
            request.dialect = error_body
            request.extra = ((b"request-id", request.shown_id.encode()),)
        elif "/api/v" in request.path:
            request.dialect = error_rsp
        settings = self._settings
        if settings.allowed_hosts and not host_allowed(request.headers.get(b"host", b""), settings.allowed_hosts):
            raise ModelportError("This server does not answer under this Host name.", BAD_HOST)
        if settings.cors_origins and b"origin" in request.headers:
            asked = preflight(request.headers, settings.cors_origins) if request.method == "OPTIONS" else None
            if asked is not None:
                return request.answer(204, b"", asked)
            request.extra += cors(request.headers, settings.cors_origins)
        if request.method not in entry.methods:
            raise wrong_method(request.method, entry.methods)
        if entry.policy is not Policy.OPEN:
            request.key = key = await self._admit(request)
            if entry.policy is not Policy.KEY:
                require_scope(key, entry.policy.value)
            require_route(key, request.path)
        await entry.answer(self, request, request.key)

    async def _admit(self, request: Request) -> Key:
        if not self.routes.loaded:
            raise ModelportError("The gateway has not read its store yet; try again.", NOT_READY, retry_after_s=1)
        connection = request.connection
        # The listener was opened for a service without keys; the service may have got a lock since.
        if connection.loopback and self.bound(request).routed.spec.auth == "none":
            require_local(request.headers)
            return ANONYMOUS
        text = presented(request.headers)
        airgapped = self._settings.tao_airgapped and request.path.startswith("/api/")
        if airgapped and is_airgapped(text, connection.address, request.headers):
            require_local(request.headers)
            return AIRGAPPED
        try:
            return admit(text, self.routes.keys, self._pepper, connection.address)
        except Unknown:
            prefix = (text or "")[:PREFIX_LENGTH]
            self._backoff.refuse_if_backing_off(connection.address, prefix, time.monotonic())
            if await self._catch_up():
                try:
                    return admit(text, self.routes.keys, self._pepper, connection.address)
                except Unknown:
                    pass
            self._backoff.failed(connection.address, prefix, time.monotonic())
            raise ModelportError(UNKNOWN_KEY, UNAUTHORIZED) from None

    def bound(self, request: Request) -> Route:
        """The service whose own port this came in on."""
        route = self.routes.by_id.get(request.connection.service_id or "")
        if route is None:
            raise ModelportError("The service of this port was removed.", NOT_FOUND)
        return route

    def refused(self, error: ModelportError) -> None:
        """The protocol refused something that never became a request."""
        self.accounts.refuse(f"{self._id_prefix}{next(self._ids):x}", error.kind.status)


def wrong_method(method: str, allowed: tuple[str, ...]) -> ModelportError:
    """405, with what is allowed."""
    error = ModelportError(f"This route takes {' or '.join(allowed)}, not {method}.", METHOD_NOT_ALLOWED)
    error.headers = ((b"allow", ", ".join(allowed).encode()),)
    return error


# The answers


async def health(_gateway: Gateway, request: Request, _key: Key) -> None:
    request.answer(200, b'{"status":"ok"}')


async def serving(gateway: Gateway, request: Request, _key: Key) -> None:
    """As engines answer it: on a service's own port whether it is ready; on the common one that we are here."""
    if request.connection.service_id is not None and not gateway.bound(request).upstreams:
        raise ModelportError("The model is not ready.", NOT_READY, retry_after_s=5)
    request.answer(200, b'{"status":"ok"}')


async def ready(_gateway: Gateway, request: Request, _key: Key) -> None:
    request.answer(200, b'{"status":"ready"}')  # without a snapshot no key could be checked


async def metrics(gateway: Gateway, request: Request, _key: Key) -> None:
    request.answer(200, gateway.meter.text(), kind=b"text/plain; version=0.0.4; charset=utf-8")


async def models(gateway: Gateway, request: Request, key: Key) -> None:
    data = [_model(name, route) for name, route in visible(gateway, request, key)]
    request.answer(200, encode({"object": "list", "data": data}))


async def model(gateway: Gateway, request: Request, key: Key) -> None:
    name = unquote(request.path.removeprefix("/v1/models/"))  # SDKs write the `/` of a name as %2F
    for known, route in visible(gateway, request, key):
        if known == name:
            request.answer(200, encode(_model(known, route)))
            return
    gateway.routes.names.resolve(name, request.headers, key)  # says whether it is unknown or not this key's
    raise ModelportError(f"The model '{name}' has another address.", NOT_FOUND)


def visible(gateway: Gateway, request: Request, key: Key) -> list[tuple[str, Route]]:
    """What a key may use here, by every name."""
    own = gateway.bound(request) if request.connection.service_id is not None else None
    found = gateway.routes.names.visible(key)
    return [(name, route) for name, route in found if own in (None, route) and not is_over(route)]


def _model(name: str, route: Route) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(route.routed.created_at), "owned_by": "modelport"}


async def inference(gateway: Gateway, request: Request, key: Key) -> None:
    if request.connection.service_id is not None:
        await gateway.inference.by_route(request, gateway.bound(request), key)
    else:
        await gateway.inference.by_model(request, key)


async def service(gateway: Gateway, request: Request, key: Key) -> None:
    """`/services/NAME/…` and, on a service's own port, whatever its engine lists."""
    if request.connection.service_id is not None:
        route, path = gateway.bound(request), request.path
    else:
        parts = request.path.split("/", 3)
        found = gateway.routes.names.plain.get(parts[2])
        if found is None or len(parts) < 4:
            raise Unknown("There is no such service here.", NOT_FOUND)
        route, path = found, engine_path(request.path)
    if request.method == "POST" and path in ROUTED:
        request.route = path
        await gateway.inference.by_route(request, route, key)
        return
    require_model(key, route.name, request)
    if not answer_health(request, route, path):
        await gateway.inference.generic(request, route, key)


async def login(gateway: Gateway, request: Request, _key: Key) -> None:
    """TAO's login, which anybody may try: a small body, and no faster than keys may be tried."""
    address = request.connection.address
    gateway.logins.refuse_if_backing_off(address, address, time.monotonic())
    await request.body(MAX_LOGIN_BYTES, BODY_PAUSE_S)
    await gateway.control.pass_on(request)
    if request.status == UNAUTHORIZED.status:
        gateway.logins.failed(address, address, time.monotonic())


async def job(gateway: Gateway, request: Request, key: Key) -> None:
    """TAO's inference, at either version of its API."""
    org, job_id = job_of(request.path)
    route = gateway.routes.by_id.get(job_id)
    if route is None or route.routed.spec.labels.get(ORG_LABEL, org) != org:
        raise Unknown(f"Job {job_id} not found.", NOT_FOUND)
    request.route = INFERENCE.path
    await gateway.inference.by_route(request, route, key, INFERENCE)


async def control(gateway: Gateway, request: Request, _key: Key) -> None:
    await gateway.control.pass_on(request)


MAX_LOGIN_BYTES, BODY_PAUSE_S = 16 << 10, 10.0
OPERATED = ("plan", "offers", "services", "services/", "experiments", "experiments/")
"""Below /modelport/v1/: what a key with the scope `operate` may do. The rest of it is for admins."""


async def live(gateway: Gateway, request: Request, _key: Key) -> None:
    request.answer(200, encode(live_views(gateway.requests.values(), perf())))


ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
TABLE = (
    Entry("/healthz", ("GET",), Policy.OPEN, health, own=True),
    Entry("/health", ("GET",), Policy.OPEN, serving, own=True),
    Entry("/readyz", ("GET",), Policy.KEY, ready),
    Entry("/metrics", ("GET",), Policy.ADMIN, metrics),
    Entry("/v1/models", ("GET",), Policy.KEY, models, own=True),
    Entry("/v1/models/", ("GET",), Policy.KEY, model, own=True),
    *(Entry(path, ("POST",), Policy.INFER, inference, own=True) for path in SURFACES),
    Entry("/services/", ANY, Policy.INFER, service),
    Entry("/modelport/v1/requests", ("GET",), Policy.OPERATE, live),
    Entry("/modelport/v1/usage", ("GET",), Policy.KEY, control),
    *(Entry(f"/modelport/v1/{path}", ANY, Policy.OPERATE, control) for path in OPERATED),
    Entry("/modelport/", ANY, Policy.ADMIN, control),
    *(Entry(path, ("POST",), Policy.OPEN, login) for path in LOGINS),
    Entry("/api/", ANY, Policy.OPERATE, control),
)
JOB = Entry("/api/", ("POST",), Policy.INFER, job)
"""What of TAO's API is for an engine: its path ends in the name of what to do, not in a name of ours."""
OWN_TABLE = (*(entry for entry in TABLE if entry.own), Entry("/", ANY, Policy.INFER, service))
"""On a service's own port: what concerns models, then its engine's own routes by its allow-list."""

_EXACT = [{e.path: e for e in table if not e.path.endswith("/")} for table in (TABLE, OWN_TABLE)]
_PREFIX = [[e for e in table if e.path.endswith("/")] for table in (TABLE, OWN_TABLE)]


def find(path: str, own_port: bool) -> Entry | None:
    """The row a path belongs to, compared as it came."""
    entry = _EXACT[own_port].get(path)
    if entry is not None:
        return entry
    if path.startswith("/api/") and not own_port and is_inference(path):
        return JOB
    return next((e for e in _PREFIX[own_port] if path.startswith(e.path)), None)
