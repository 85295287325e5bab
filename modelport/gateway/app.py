"""Gateway: the ASGI app. A table says which path is whose, for whom, and who answers it; nothing else is served."""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from modelport.errors import INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND, NOT_READY, ModelportError
from modelport.gateway.admit import ANONYMOUS, Unknown, admit, may_use, require_admin, require_local
from modelport.gateway.control import ControlDoor
from modelport.gateway.infer import Inference, engine_path
from modelport.gateway.meter import Meter
from modelport.gateway.request import Request, encode, perf
from modelport.gateway.requestlog import Line, RequestLog
from modelport.gateway.routes import Route, Routes
from modelport.store.keys import Key

log = logging.getLogger("modelport.gateway")


class Policy(Enum):
    OPEN = "anybody"
    KEY = "any valid key"
    ADMIN = "an admin key"


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
        routes: Routes,
        pepper: bytes,
        inference: Inference,
        control: ControlDoor,
        meter: Meter,
        lines: RequestLog,
        catch_up: Callable[[], Awaitable[bool]],
    ) -> None:
        self.routes = routes
        self.inference = inference
        self.control = control
        self.meter = meter
        self._pepper = pepper
        self._lines = lines
        self._catch_up = catch_up
        """Looks whether the store has changed; True when it had."""
        self._ids = itertools.count()
        self._id_prefix = f"req-{secrets.token_hex(6)}-"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, send, f"{self._id_prefix}{next(self._ids):x}")
        request.task = asyncio.current_task()
        request.connection.on_gone = request.leave
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
            await self._fail(request, error)
        except asyncio.CancelledError:
            if request.connection.gone:
                request.status = 499
            else:  # the gateway ends and could not wait any longer
                await self._fail(request, ModelportError("The gateway is stopping; try again.", NOT_READY))
        except Exception:
            log.exception("request %s failed", request.id)
            await self._fail(request, ModelportError("The gateway failed; its log has the reason.", INTERNAL))
        finally:
            request.connection.on_gone = None
            self._note(request)

    async def _fail(self, request: Request, error: ModelportError) -> None:
        headers = ((b"allow", error.allow.encode()),) if isinstance(error, WrongMethod) else ()
        try:
            await request.fail(error, headers)
        except asyncio.CancelledError:  # gone while it was told
            request.status = 499

    async def _answer(self, request: Request) -> None:
        entry = find(request.path, request.connection.service_id is not None)
        if entry is None:
            raise ModelportError("There is no such route here.", NOT_FOUND)
        request.route = entry.path
        if request.method not in entry.methods:
            raise WrongMethod(request.method, entry.methods)
        key = ANONYMOUS if entry.policy is Policy.OPEN else self._admit(request)
        request.key_id = key.id
        if entry.policy is Policy.ADMIN:
            require_admin(key)
        await entry.answer(self, request, key)

    def _admit(self, request: Request) -> Key:
        if not self.routes.loaded:
            raise ModelportError("The gateway has not read its store yet; try again.", NOT_READY, retry_after_s=1)
        connection = request.connection
        # The listener was opened for a service without keys; the service may have got a lock since.
        if connection.loopback and self.bound(request).routed.spec.auth == "none":
            require_local(request.headers)
            return ANONYMOUS
        return admit(request.headers, self.routes.keys, self._pepper)

    def bound(self, request: Request) -> Route:
        """The service whose own port this came in on."""
        route = self.routes.by_id.get(request.connection.service_id or "")
        if route is None:
            raise ModelportError("The service of this port was removed.", NOT_FOUND)
        return route

    # What is left of a request

    def _note(self, request: Request) -> None:
        used = request.usage
        self._add(
            Line(
                at=time.time(),
                id=request.id,
                request_id=request.shown_id,
                key_id=request.key_id,
                service=request.service,
                service_id=request.service_id,
                instance_id=request.instance_id,
                method=request.method,
                route=request.route,
                status=request.status,
                stream=request.stream,
                prompt_tokens=(used.prompt_tokens or 0) if used else 0,
                completion_tokens=(used.completion_tokens or 0) if used else 0,
                cached_tokens=used.cached_tokens if used else 0,
                queue_s=request.queue_s,
                first_byte_s=request.first_byte_s,
                total_s=perf() - request.started,
            )
        )

    def refused(self, error: ModelportError) -> None:
        """The protocol refused something that never became a request."""
        name = f"{self._id_prefix}{next(self._ids):x}"
        status = error.kind.status
        self._add(Line(time.time(), name, name, "-", "", "", "", "-", "-", status, False, 0, 0, 0, 0.0, None, 0.0))

    def _add(self, line: Line) -> None:
        self.meter.add(line)
        if not self._lines.add(line):
            self.meter.drop("log", 1)


class WrongMethod(ModelportError):
    """405, with what is allowed."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"This route takes {' or '.join(allowed)}, not {method}.", METHOD_NOT_ALLOWED)
        self.allow = ", ".join(allowed)


# The answers


async def health(_gateway: Gateway, request: Request, _key: Key) -> None:
    await request.answer(200, b'{"status":"ok"}')


async def serving(gateway: Gateway, request: Request, _key: Key) -> None:
    """As engines answer it: on a service's own port whether it is ready; on the common one that we are here."""
    if request.connection.service_id is not None and not gateway.bound(request).upstreams:
        raise ModelportError("The model is not ready.", NOT_READY, retry_after_s=5)
    await request.answer(200, b'{"status":"ok"}')


async def ready(_gateway: Gateway, request: Request, _key: Key) -> None:
    await request.answer(200, b'{"status":"ready"}')  # without a snapshot no key could be checked


async def metrics(gateway: Gateway, request: Request, _key: Key) -> None:
    await request.answer(200, gateway.meter.text(), kind=b"text/plain; version=0.0.4; charset=utf-8")


async def models(gateway: Gateway, request: Request, key: Key) -> None:
    data = [_model(name, route) for name, route in visible(gateway, request, key)]
    await request.answer(200, encode({"object": "list", "data": data}))


async def model(gateway: Gateway, request: Request, key: Key) -> None:
    name = request.path.removeprefix("/v1/models/")
    for known, route in visible(gateway, request, key):
        if known == name:
            await request.answer(200, encode(_model(known, route)))
            return
    gateway.inference.find(name, key)  # says whether it is unknown or not this key's
    raise ModelportError(f"The model '{name}' has another address.", NOT_FOUND)


def visible(gateway: Gateway, request: Request, key: Key) -> list[tuple[str, Route]]:
    """What a key may use here, by every name."""
    own = gateway.bound(request) if request.connection.service_id is not None else None
    named = gateway.routes.by_name.items()
    return [(name, route) for name, route in named if own in (None, route) and may_use(key, route.name)]


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
        found = gateway.routes.by_name.get(parts[2]) or gateway.routes.by_id.get(parts[2])
        if found is None or len(parts) < 4:
            raise Unknown("There is no such service here.", NOT_FOUND)
        route, path = found, engine_path(request.path)
    if request.method == "POST" and path in INFERENCE:
        request.route = path
        await gateway.inference.by_route(request, route, key)
    else:
        await gateway.inference.generic(request, route, key)


async def control(gateway: Gateway, request: Request, _key: Key) -> None:
    await gateway.control.pass_on(request)


ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
INFERENCE = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
TABLE = (
    Entry("/healthz", ("GET",), Policy.OPEN, health, own=True),
    Entry("/health", ("GET",), Policy.OPEN, serving, own=True),
    Entry("/readyz", ("GET",), Policy.KEY, ready),
    Entry("/metrics", ("GET",), Policy.ADMIN, metrics),
    Entry("/v1/models", ("GET",), Policy.KEY, models, own=True),
    Entry("/v1/models/", ("GET",), Policy.KEY, model, own=True),
    *(Entry(path, ("POST",), Policy.KEY, inference, own=True) for path in INFERENCE),
    Entry("/services/", ANY, Policy.KEY, service),
    Entry("/modelport/", ANY, Policy.ADMIN, control),
)
OWN_TABLE = (*(entry for entry in TABLE if entry.own), Entry("/", ANY, Policy.KEY, service))
"""On a service's own port: what concerns models, then its engine's own routes by its allow-list."""

_EXACT = [{e.path: e for e in table if not e.path.endswith("/")} for table in (TABLE, OWN_TABLE)]
_PREFIX = [[e for e in table if e.path.endswith("/")] for table in (TABLE, OWN_TABLE)]


def find(path: str, own_port: bool) -> Entry | None:
    """The row a path belongs to, compared as it came."""
    entry = _EXACT[own_port].get(path)
    if entry is not None:
        return entry
    return next((e for e in _PREFIX[own_port] if path.startswith(e.path)), None)
