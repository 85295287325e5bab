"""Infer: one request to a service, from its body to the engine's last byte."""

import time

from modelport.errors import MODEL_NOT_FOUND, NOT_FOUND, ModelportError, nearest
from modelport.gateway.admit import Unknown, may_use, require_model
from modelport.gateway.connection import Connection
from modelport.gateway.relay import Passage
from modelport.gateway.request import Request, perf
from modelport.gateway.routes import Route, Routes
from modelport.gateway.scan import scan
from modelport.gateway.upstream import ConnectFailed, Upstream
from modelport.gateway.wake import Waking
from modelport.settings import Settings
from modelport.store.keys import Key

FORWARDED = (b"content-type", b"accept", b"traceparent", b"tracestate")
"""Request headers an engine gets of a client's; everything else, credentials first of all, stays here."""


class Inference:
    """What the inference routes and the generic proxy share."""

    def __init__(self, settings: Settings, routes: Routes, waking: Waking) -> None:
        self._settings = settings
        self._routes = routes
        self._waking = waking

    async def by_model(self, request: Request, key: Key) -> None:
        """POST /v1/…: the body's `model` names the service."""
        body = await self._body(request)
        found = scan(body, needs_model=True)
        route = self.find(found.model or "", key)
        request.stream = found.stream
        await self._pass_on(request, route, key, request.path, found.body, found.hide_usage)

    async def by_route(self, request: Request, route: Route, key: Key) -> None:
        """POST /v1/… where the service is given already: `model` may be absent, but not name another service."""
        require_model(key, route.name)
        path = request.path if request.connection.service_id else engine_path(request.path)
        body = await self._body(request)
        found = scan(body, needs_model=False)
        if found.model is not None and self._routes.by_name.get(found.model, route) is not route:
            raise ModelportError(f"This is the address of '{route.name}', not of the model '{found.model}'.",
                                 MODEL_NOT_FOUND, param="model")  # fmt: skip
        request.stream = found.stream
        await self._pass_on(request, route, key, path, found.body, found.hide_usage, listed=True)

    async def generic(self, request: Request, route: Route, key: Key) -> None:
        """Any other path of an engine that its allow-list has. The body is not looked at."""
        require_model(key, route.name)
        path = request.path if request.connection.service_id else engine_path(request.path)
        _require_listed(route, request.method, path)
        body = await self._body(request)
        query = b"?" + request.query if request.query else b""
        await self._pass_on(request, route, key, path + query.decode("latin-1"), body, False, listed=True)

    def find(self, name: str, key: Key) -> Route:
        """The service of this name. Raises ModelportError: 404 with the nearest that the key may use, 403."""
        route = self._routes.by_name.get(name)
        if route is None:
            known = [name for name, route in self._routes.by_name.items() if may_use(key, route.name)]
            shown = name if len(name) <= 80 else name[:77] + "..."
            hint = nearest(shown, known)
            raise Unknown(f"There is no model {shown!r} here.{hint}", MODEL_NOT_FOUND, param="model")
        require_model(key, route.name)
        return route

    async def _body(self, request: Request) -> bytes:
        return await request.body(self._settings.max_body_bytes, self._settings.body_timeout)

    async def _pass_on(
        self, request: Request, route: Route, key: Key, target: str, body: bytes, hide_usage: bool, listed: bool = False
    ) -> None:
        request.service, request.service_id, request.key_id = route.name, route.routed.id, key.id
        if listed:
            _require_listed(route, request.method, target.partition("?")[0])
        route.last_request_at = time.time()
        route.in_flight += 1
        try:
            upstream, connection = await self._connect(request, route)
            request.instance_id = upstream.id
            try:
                if listed:
                    _require_listed(route, request.method, target.partition("?")[0])
                request.queue_s = perf() - request.started
                payload = _payload(request, upstream, target, body)
                passage = Passage(request, upstream, connection, payload, route.name, self._settings.request_timeout)
                try:
                    await passage.run(hide_usage)
                finally:
                    upstream.give_back(passage.connection)  # which closes it unless the answer came whole
            finally:
                upstream.leave()
        finally:
            route.in_flight -= 1
            route.last_request_at = time.time()

    async def _connect(self, request: Request, route: Route) -> tuple[Upstream, Connection]:
        """A replica that answers the door; where there is none, the request is held."""
        while True:
            upstream = route.pick() or await self._waking.hold(route, request)
            upstream.enter()
            try:
                return upstream, await upstream.connection()
            except ConnectFailed:
                upstream.leave()  # nothing was sent: the next replica, or the wait for one
            except BaseException:  # cancelled: the client left
                upstream.leave()
                raise


def engine_path(path: str) -> str:
    """`/services/x/v1/models` as its engine is asked: `/v1/models`."""
    return "/" + path.split("/", 3)[3]


def _require_listed(route: Route, method: str, path: str) -> None:
    """Raises ModelportError (404) unless an engine of this service lists the path, spelled exactly so.

    While no engine was seen yet there is no list; then it is looked at once there is one.
    """
    seen = route.known_routes or route.upstreams
    if seen and f"{method} {path}" not in route.known_routes:
        raise ModelportError(f"Service '{route.name}' has no such route.", NOT_FOUND)


def _payload(request: Request, upstream: Upstream, target: str, body: bytes) -> bytes:
    passed = b"".join(
        b"%b: %b\r\n" % (name, value) for name in FORWARDED if (value := request.headers.get(name)) is not None
    )
    return b"%b %b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        request.method.encode(), target.encode("latin-1"), upstream.head, passed, request.shown_id.encode(), len(body),
        body,
    )  # fmt: skip
