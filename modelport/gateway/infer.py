"""Infer: one request to a service, from its body to the engine's last byte."""

import time
from dataclasses import replace
from typing import Literal

import msgspec

from modelport.domain.answers import RETRY_AFTER_S
from modelport.domain.limits import NO_LIMITS, Limits
from modelport.errors import BUSY, DEADLINE, FORBIDDEN, MODEL_NOT_FOUND, NOT_FOUND, NOT_READY, TOO_LARGE, ModelportError
from modelport.gateway.account import Account, Accounts
from modelport.gateway.bodies import Bodies
from modelport.gateway.bound import PICTURES, worst
from modelport.gateway.caps import DEADLINE_HEADER, cap_output, check_body, deadline_s
from modelport.gateway.connection import Connection
from modelport.gateway.form import scan_form, scan_upload
from modelport.gateway.jobs import refuse_unless_there, starting_again
from modelport.gateway.limits import Ticket
from modelport.gateway.media import TAO_FIELDS, MediaPolicy, admit_media, admit_upload
from modelport.gateway.messages import Messages
from modelport.gateway.names import may_use
from modelport.gateway.relay import Passage, payload
from modelport.gateway.request import Request, encode, perf
from modelport.gateway.routes import Route, Routes
from modelport.gateway.scan import (
    MAX_MESSAGES,
    SMALL_BYTES,
    Scan,
    nested_cap,
    refuse_forbidden,
    scan,
    usage_options,
    with_fields,
)
from modelport.gateway.surface import CHAT, INFERENCE, ROUTED, SURFACES, Surface, other
from modelport.gateway.trace import Tracer
from modelport.gateway.upstream import ConnectFailed, Upstream, Visit
from modelport.gateway.wake import Waking, refuse_unless_waited_for
from modelport.gateway.watch import Watch
from modelport.settings import Settings
from modelport.store.keys import Key

MAX_VALUES = 500_000
"""Of a body that is decoded whole (some 0.2 s), so that nobody's keeps all others waiting."""
MAX_TAO_ITEMS = 512
"""Pictures of one request on TAO's own route, where batches are sent."""
CONTINUOUS = frozenset(("vllm", "sglang"))
"""Engines that tell a stream's usage with every event when they are asked to."""


class Inference:
    """What the inference routes and the generic proxy share."""

    def __init__(
        self, settings: Settings, routes: Routes, waking: Waking, accounts: Accounts, watch: Watch,
        tracer: Tracer | None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._routes = routes
        self._waking = waking
        self._accounts = accounts
        self._watch = watch
        self._tracer = tracer
        self._media = MediaPolicy(urls=settings.media_urls, hosts=settings.media_hosts)
        self._tao_media = replace(
            self._media, fields=TAO_FIELDS, max_items=MAX_TAO_ITEMS, max_bytes=settings.max_body_bytes
        )

    def _limit_time(self, request: Request, limits: tuple[Limits, ...]) -> float | None:
        """Have the request cut off at its deadline, counted from its arrival; the seconds that is after. Raises
        ModelportError: 400 for a header that gives none, 504 where it is past already."""
        seconds = deadline_s(request.headers.get(DEADLINE_HEADER), limits)
        if seconds is not None:
            left_s = seconds - (perf() - request.started)
            if left_s <= 0:
                raise ModelportError("The request took longer than its deadline.", DEADLINE)
            request.deadline = self._watch.deadlines[request] = time.monotonic() + left_s
        return seconds

    def forget(self, request: Request) -> None:
        """It is over."""
        if request.deadline is not None:
            self._watch.deadlines.pop(request, None)

    async def by_model(self, request: Request, key: Key) -> None:
        """POST /v1/…: the body's `model` names the service."""
        surface = SURFACES[request.path]
        self._limit_time(request, (key.limits,))
        body = request.arrived(self._settings.max_body_bytes)
        if body is None:
            body = await self._body(request)
        found = self._scan(request, surface, body, needs_model=True)
        route = self._routes.names.resolve(found.model or "", request.headers, key)
        await self._begin(request, route, key, surface, found)

    async def by_route(self, request: Request, route: Route, key: Key, surface: Surface | None = None) -> None:
        """POST /v1/… where the service is given already: `model` may be absent, but not name another service.
        `surface` is told where the path does not say it."""
        require_model(key, route.name, request, asked=route.routed.id if surface else None)
        if surface is None:
            surface = ROUTED[request.path if request.connection.service_id else engine_path(request.path)]
        refuse_unless_there(route, surface.path)
        self._limit_time(request, (key.limits,))
        body = await self._body(request)
        if surface is INFERENCE and not body.strip():
            raise ModelportError("Request body is required")
        found = self._scan(request, surface, body, needs_model=False)
        known = surface is not INFERENCE  # where `model` may be a name of the client's world
        if known and found.model is not None and self._routes.names.means_another(found.model, route):
            raise ModelportError(f"This is the address of '{route.name}', not of the model '{found.model}'.",
                                 MODEL_NOT_FOUND, param="model")  # fmt: skip
        found.model = None  # what else it says is nobody's name, and goes into no record
        await self._begin(request, route, key, surface, found)

    async def generic(self, request: Request, route: Route, key: Key) -> None:
        """Any other path of an engine that its allow-list has. Its body is looked at as any other: engines read
        templates and fetch media on such routes too."""
        require_model(key, route.name, request)
        path = request.path if request.connection.service_id else engine_path(request.path)
        self._limit_time(request, (key.limits,))
        body = await self._body(request)
        query = b"?" + request.query if request.query else b""
        if route.known_routes and f"{request.method} {path}" not in route.known_routes:
            raise no_route(route)
        found, media = Scan(body, None), 0
        if body:
            found = scan(body, other(path), needs_model=False)
            found.max_tokens = None  # nobody knows whether this route heeds it
            if _may_have_media(body):
                media = await self._check_media(found, self._policy(route))
        await self._serve(request, route, key, other(path), found, path + query.decode("latin-1"), media)

    def _scan(self, request: Request, surface: Surface, body: bytes, needs_model: bool) -> Scan:
        content_type = request.headers.get(b"content-type", b"")
        if surface is INFERENCE and content_type.startswith(b"multipart/"):
            return scan_upload(body, content_type)
        if surface.form:
            return scan_form(body, request.headers.get(b"content-type", b""), needs_model=needs_model)
        return scan(body, surface, needs_model=needs_model)

    async def _body(self, request: Request) -> bytes:
        return await request.body(self._settings.max_body_bytes, self._settings.body_timeout)

    async def _begin(self, request: Request, route: Route, key: Key, surface: Surface, found: Scan) -> None:
        """What is looked at in the body once the service is known."""
        request.stream = found.stream
        media = 0
        if surface is INFERENCE:
            policy = self._tao_media if not route.routed.spec.workspace else replace(self._tao_media, clouds=True)
            if found.form is not None:
                media = await admit_upload(found.form, policy)
            else:
                media = await self._check_media(found, policy)
        elif surface.media:
            if len(found.body) >= SMALL_BYTES or _may_have_media(found.body):
                media = await self._check_media(found, self._policy(route))
            if (found.messages or 0) > MAX_MESSAGES:
                raise ModelportError(f"The request has more than {MAX_MESSAGES} messages.", param="messages")
        await self._serve(request, route, key, surface, found, surface.path, media)

    def _policy(self, route: Route) -> MediaPolicy:
        """Pictures in a service's own workspace are its engine's to read."""
        own = route.routed.spec.workspace and all(upstream.engine == "modelport" for upstream in route.upstreams)
        return replace(self._media, clouds=True) if own else self._media

    async def _check_media(self, found: Scan, policy: MediaPolicy) -> int:
        """Look at the media of a body, and count them and its messages. What the engine gets is what was looked at."""
        if found.body.count(b"{") + found.body.count(b"[") + found.body.count(b'",') > MAX_VALUES:
            raise ModelportError(f"The request body has more than {MAX_VALUES:,} values.", TOO_LARGE)
        decoded = msgspec.json.decode(found.body)
        messages = decoded.get("messages")
        found.messages = len(messages) if isinstance(messages, list) else 0
        changed, count = await admit_media(decoded, policy)
        if changed:
            found.body = encode(decoded)
        return count.items

    async def _serve(
        self, request: Request, route: Route, key: Key, surface: Surface, found: Scan, target: str, media: int
    ) -> None:
        if self._tracer is not None:
            request.trace = self._tracer.begin(request.headers, request.started)
        if key.log_bodies:
            request.bodies = Bodies()
            request.bodies.note(found.body)
        tried: list[Route] = []
        while True:
            tried.append(route)
            try:
                return await self._at(request, route, key, surface, found, target, media)
            except Unserved as unserved:
                instead = self._routes.failover(route, unserved.why, key, tried)
                if instead is None or request.begun:
                    raise unserved.error from None
                if request.account is not None:
                    self._accounts.drop(request, unserved.error.kind.status)
                request.hold_until = None
                route = instead

    async def _at(
        self, request: Request, route: Route, key: Key, surface: Surface, found: Scan, target: str, media: int
    ) -> None:
        """One service's try at a request. Raises Unserved where another may have it: nothing was sent then."""
        routed = route.routed
        request.service, request.service_id, request.model = route.name, routed.id, found.model or route.name
        if found.forbidden:
            refuse_forbidden(found.forbidden, routed.spec.allow_fields)
        if not route.known_routes and surface not in USUAL:
            await self._hold_until_known(request, route)
        messages = _translation(request, route, surface, target, found)
        if messages is not None:
            # counting makes nothing: it keeps its own surface
            surface, found, target = surface if messages.counts else CHAT, messages.found, CHAT.path
        team = self._routes.teams.get(key.team, NO_LIMITS)
        limits: tuple[Limits, ...] = (key.limits, team, routed.limits)
        check_body(len(found.body), limits)
        fields = {} if routed.task in PICTURES else self._fields(found, surface, limits)
        if fields and found.form is not None:  # a form is passed on as it is
            cap = found.max_tokens
            raise ModelportError(
                f"Send 'max_new_tokens' with the form; it can be at most {cap}.", param="max_new_tokens"
            )
        deadline = self._limit_time(request, limits)
        bound = worst(found, surface, routed, media, deadline or 0.0)
        account = self._accounts.open(request, key, team, route, bound)
        if isinstance(account, Ticket):
            account = await self._accounts.open_waiting(request, account, route, bound)
        account.answers, account.prompts = found.choices * found.prompts, found.prompts
        route.last_request_at = time.time()
        route.in_flight += 1
        try:
            if not self._accounts.enter(account):
                await self._queue(account, request, deadline)
            if request.trace is not None:
                request.trace.mark("queued")
            home = route.home(request.headers, found.body)
            upstream, visit, connection = await self._connect(request, route, home)
            account.upstream, account.visit = upstream, visit
            request.instance_id = upstream.id
            continuous = found.stream and surface.usage_option and upstream.engine in CONTINUOUS
            if found.stream and surface.usage_option and (continuous or not found.asked_usage):
                fields["stream_options"] = usage_options(found, continuous)
            body = found.body
            if fields:
                there = {*found.caps, *(("stream_options",) if found.has_options else ()), *found.nested}
                body = with_fields(body, fields, [name for name in fields if name in there])
            passage = Passage(request, upstream, connection, payload(request, upstream, target, body), route.name)
            hide = found.stream and surface.usage_option and not found.asked_usage
            passage.hide = (hide, continuous and not found.asked_continuous)
            passage.translated = messages
            account.passage = passage
            request.queue_s = perf() - request.started
            if request.trace is not None:
                request.trace.mark("connected")
            self._watch.engines.add(passage)
            try:
                if messages is not None and messages.counts:
                    await messages.count(passage, route.known_routes)
                else:
                    account.said = await passage.run()
                account.whole = True
            finally:
                self._watch.engines.discard(passage)
                upstream.give_back(passage.connection)  # which closes it unless the answer came whole
        finally:
            self._accounts.leave(account)
            route.in_flight -= 1
            route.last_request_at = time.time()

    def _fields(self, found: Scan, surface: Surface, limits: tuple[Limits, ...]) -> dict[str, object]:
        """What is put into the body so that the output is capped as it was counted: a cap of the limits' where the
        client gave none, and the client's own where every engine heeds it."""
        if not surface.caps and not surface.nested:
            return {}
        cap = cap_output(found.max_tokens, found.choices * found.prompts, limits)
        if cap is None:
            return {}
        before, found.max_tokens = found.max_tokens, cap
        if surface.nested:
            return {} if cap == before else {surface.nested: nested_cap(found, surface.nested, cap)}
        names = {surface.caps[0], *found.caps}
        return {name: cap for name in names if found.caps.get(name) != cap}

    async def _connect(self, request: Request, route: Route, home: bytes) -> tuple[Upstream, Visit, Connection]:
        """A replica that answers the door; where there is none, the request is held."""
        while True:
            upstream = route.pick(home)
            if upstream is None:
                upstream = await self._hold(request, route, home)
            visit = upstream.enter()
            if (kept := upstream.kept()) is not None:
                return upstream, visit, kept
            try:
                return upstream, visit, await upstream.connection(fresh=True)
            except ConnectFailed:
                upstream.leave(visit)  # nothing was sent: the next replica, or the wait for one
            except BaseException:  # cancelled: the client left
                upstream.leave(visit)
                raise
            if route.routed.spec.failover is not None and route.pick(home) is None:
                raise Unserved("unreachable", _unreachable(route))

    async def _hold(self, request: Request, route: Route, home: bytes = b"") -> Upstream:
        if route.routed.spec.job:
            if request.route == INFERENCE.path and (said := starting_again(route)) is not None:
                raise said
            refuse_unless_waited_for(route)
            raise ModelportError(f"Job '{route.name}' is starting; try again.", NOT_READY, retry_after_s=RETRY_AFTER_S)
        try:
            route.refuse_while_broken()
        except ModelportError as error:
            raise Unserved("unreachable", error) from None
        began = perf()
        try:
            return await self._waking.hold(route, request, home)
        except ModelportError as error:
            if request.begun:
                raise
            raise Unserved("failed", error) from None
        finally:
            request.waited_s += perf() - began

    async def _hold_until_known(self, request: Request, route: Route) -> None:
        """No engine of this service was seen yet, so which routes it has is not known."""
        if not route.upstreams:
            await self._hold(request, route)

    async def _queue(self, account: Account, request: Request, deadline: float | None) -> None:
        try:
            await self._accounts.queue(account, request, deadline)
        except ModelportError as error:
            if error.kind is BUSY:
                raise Unserved("full", error) from None
            raise


USUAL = (CHAT, SURFACES["/v1/completions"], SURFACES["/v1/embeddings"])
"""Routes that are taken for there while no engine of a service was seen."""


def _translation(request: Request, route: Route, surface: Surface, target: str, found: Scan) -> Messages | None:
    """Raises ModelportError (404) unless an engine of this service lists the path, spelled exactly so. Anthropic's
    routes are translated for engines that have chat completions only: then what does it."""
    listed = route.known_routes
    if f"{request.method} {target.partition('?')[0]}" in listed or (not listed and surface in USUAL):
        return None
    if surface.path.startswith("/v1/messages") and f"POST {CHAT.path}" in listed:
        return Messages(request, found)
    raise no_route(route)


def no_route(route: Route) -> ModelportError:
    return ModelportError(f"Service '{route.name}' has no such route.", NOT_FOUND)


def _may_have_media(body: bytes) -> bool:
    """Whether one of the words stands in it that all media come with, or an escape that could hide one."""
    return (
        b'_url"' in body
        or b'"image"' in body
        or b'"input_' in body
        or b'"file"' in body
        or b'"audio"' in body
        or b'"video"' in body
        or b'"document"' in body
        or b'_embeds"' in body
        or b"\\u00" in body
    )


def engine_path(path: str) -> str:
    """`/services/x/v1/models` as its engine is asked: `/v1/models`."""
    return "/" + path.split("/", 3)[3]


def require_model(key: Key, name: str, request: Request, asked: str | None = None) -> None:
    """Raises ModelportError (403) for a service the key is not for, by its own name or the one in the path."""
    if asked is None and not request.connection.service_id:
        asked = request.path.split("/", 3)[2]
    if not may_use(key, name, asked):
        raise ModelportError(f"This API key may not use the model '{name}'.", FORBIDDEN, param="model")


def _unreachable(route: Route) -> ModelportError:
    return ModelportError(f"No replica of service '{route.name}' can be reached; try again.", NOT_READY,
                          retry_after_s=1)  # fmt: skip


class Unserved(Exception):
    """A service could not take a request; another may, where its owner said so."""

    def __init__(self, why: Literal["failed", "unreachable", "full"], error: ModelportError) -> None:
        super().__init__(why)
        self.why: Literal["failed", "unreachable", "full"] = why
        self.error = error
