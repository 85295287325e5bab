"""App: the routes of a model server, and one request from its first byte to its last.

What is said in each state is domain/answers.py's; what the foreign shapes look like is tao.py's and openai.py's.
"""

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modelport.domain import answers
from modelport.domain.answers import RETRY_AFTER_S, Answer
from modelport.errors import DEADLINE, INTERNAL, METHOD_NOT_ALLOWED, NOT_FOUND, UNAUTHORIZED, Kind, ModelportError
from modelport.runtime import body as bodies
from modelport.runtime import openai, tao
from modelport.runtime.desk import Desk
from modelport.runtime.handler import Call, Result, Route
from modelport.runtime.inputs import Item
from modelport.runtime.state import State, log
from modelport.runtime.work import BROKE, Ticket, stopping

GONE = Kind(499, "client_closed", "client_closed")
LIVENESS = "/api/v1/health/liveness"
PATHS: dict[Route, str] = {
    "inference": "/api/v1/inference",
    "chat": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How one inference route speaks."""

    route: Route
    call: Callable[[Mapping[str, Any]], tuple[Call, list[Item]]]
    before: Callable[[State], Answer | None]
    answer: Callable[[State, Result, float, Mapping[str, Any]], dict[str, Any]]
    error: Callable[[State, ModelportError], dict[str, Any]]


SHAPES = (
    Shape("inference", tao.call, tao.before, lambda state, result, took_s, _: tao.answer(state, result, took_s),
          tao.error),
    Shape("chat", openai.chat, openai.before, lambda state, result, *_: openai.completion(state, result),
          openai.error),
    Shape("embeddings", openai.embeddings, openai.before,
          lambda state, result, _, body: openai.vectors(
              state, result, as_base64=body.get("encoding_format") == "base64"), openai.error),
)  # fmt: skip
READINGS: dict[str, Callable[[State], Answer]] = {
    "/api/v1/status": lambda state: answers.status(state.facts, state.progress, time.time()),
    LIVENESS: lambda state: answers.liveness(state.facts, state.progress, time.time()),
    "/api/v1/health/readiness": lambda state: _readiness(state),
    "/health": lambda state: _readiness(state),
    "/v1/models": lambda state: (200, openai.models(state)),
}


class App:
    """The ASGI application. With a key, all routes but liveness want it."""

    def __init__(self, desk: Desk, key: str) -> None:
        self.desk, self.state = desk, desk.state
        self.expected = key.encode()
        self.asked = {PATHS[shape.route]: shape for shape in SHAPES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path, method = request.url.path, request.method
        if not self._may(request):
            problem = ModelportError("This server wants its key: Authorization: Bearer …", UNAUTHORIZED)
            response = _plain(problem, openai.error(self.state, problem))
        elif path in READINGS and method in ("GET", "HEAD"):
            status, body = READINGS[path](self.state)
            response = _json(status, body, _later(status))
        elif path in self.asked and method == "POST":
            return await self._asked(self.asked[path], request, send)
        else:
            known = path in READINGS or path in self.asked
            text = f"{path} does not take {method}." if known else f"This server has no route {path[:200]}."
            problem = ModelportError(text, METHOD_NOT_ALLOWED if known else NOT_FOUND)
            response = _plain(problem, openai.error(self.state, problem))
        await response(scope, receive, send)

    def _may(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self.expected)
        return not self.expected or request.url.path == LIVENESS or (scheme.lower() == "bearer" and same)

    async def _asked(self, shape: Shape, request: Request, send: Send) -> None:
        handler = self.desk.handler
        refused: Response | None = None
        if handler is not None and shape.route not in handler.routes:
            ways = ", ".join(PATHS[route] for route in PATHS if route in handler.routes)
            problem = ModelportError(
                f"This model does not answer {PATHS[shape.route]}; it answers {ways}.", NOT_FOUND
            )  # fmt: skip
            refused = _plain(problem, shape.error(self.state, problem))
        elif self.state.draining:
            refused = _plain(problem := stopping(), shape.error(self.state, problem))
        elif (early := shape.before(self.state)) is not None:
            refused = _json(*early, _later(early[0]) if self.state.progress.again else {})
        if refused is not None:
            return await refused(request.scope, request.receive, send)
        self.state.began()
        try:
            with self.desk.holding() as more:
                await self._answer(shape, request, send, more)
        finally:
            self.state.ended()

    async def _answer(self, shape: Shape, request: Request, send: Send, more: Callable[[int], None]) -> None:
        began = time.monotonic()
        ticket = self.desk.ticket()
        try:
            async with asyncio.timeout(self.desk.timeout_s):
                body = await bodies.read(request, more)
            call, items = shape.call(body)
            async with self._watched(request, ticket):
                if shape.route == "chat" and openai.streams(body):
                    return await self._stream(call, items, ticket, openai.Chunks(self.state, body), request, send)
                result = await self.desk.ask(call, items, ticket)
            response = _json(200, shape.answer(self.state, result, time.monotonic() - began, body))
        except ClientDisconnect:
            return
        except Exception as error:
            problem = self._problem(error)
            response = _plain(problem, shape.error(self.state, problem))
        await response(request.scope, request.receive, send)

    async def _stream(
        self, call: Call, items: list[Item], ticket: Ticket, chunks: openai.Chunks, request: Request, send: Send
    ) -> None:
        """Server-sent events. What fails before the first of them is an answer like any other: it raises."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        call.emit = lambda text: _threadsafe(ticket.loop, pieces, text)
        asking = asyncio.create_task(self.desk.ask(call, items, ticket))
        asking.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            first = await pieces.get()
            if first is None:
                asking.result()
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            piece = first
            while piece is not None:
                await _event(send, chunks.text(piece))
                piece = await pieces.get()
            try:
                for chunk in chunks.end(asking.result()):
                    await _event(send, chunk)
                await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
            except Exception as error:
                await _event(send, openai.error(self.state, self._problem(error)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asking

    @contextlib.asynccontextmanager
    async def _watched(self, request: Request, ticket: Ticket) -> AsyncIterator[None]:
        """Whoever leaves while this lasts is not worked for any more."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.desk.queue.leave(ticket)
            ticket.settle(ModelportError("The client left.", GONE))

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()

    def _problem(self, error: Exception) -> ModelportError:
        if isinstance(error, ModelportError):
            return error
        if isinstance(error, TimeoutError):
            return ModelportError(
                f"Inference request timed out after {self.desk.timeout_s:g} seconds for job {self.state.job_id}",
                DEADLINE,
            )
        log.error("a request broke the server", exc_info=error)
        return ModelportError(BROKE, INTERNAL)


def _readiness(state: State) -> Answer:
    if not state.draining:
        return answers.readiness(state.facts, state.progress, time.time())
    problem = stopping()
    return 503, {
        "status": "not_ready",
        "reason": "server_stopping",
        "message": problem.message,
        "error": {"type": "server_stopping", "message": problem.message},
        "job_id": state.job_id,
        "timestamp": answers.stamp(time.time()),
    }


def _threadsafe(loop: asyncio.AbstractEventLoop, pieces: "asyncio.Queue[str | None]", text: str) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and the client with it
        loop.call_soon_threadsafe(pieces.put_nowait, text)


async def _event(send: Send, value: object) -> None:
    await send({"type": "http.response.body", "body": b"data: %b\n\n" % msgspec.json.encode(value), "more_body": True})


def _later(status: int) -> dict[str, str]:
    return {"retry-after": str(RETRY_AFTER_S)} if status in (202, 503) else {}


def _plain(problem: ModelportError, body: object) -> Response:
    after = problem.retry_after()
    return _json(problem.kind.status, body, {"retry-after": after} if after else {})


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, "application/json")
