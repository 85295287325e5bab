"""Wake: requests for a service without a ready replica wait here while control starts one."""

import asyncio
import logging
import time
from typing import Any

from modelport.domain.states import WAITED_FOR, ServiceState
from modelport.domain.units import show_seconds
from modelport.errors import NOT_READY, SERVICE_FAILED, SERVICE_STOPPED, ModelportError
from modelport.gateway.connection import UpstreamBroke
from modelport.gateway.request import Request
from modelport.gateway.routes import Route
from modelport.gateway.upstream import ConnectFailed, Upstream

FIRST_WORD_S, NEXT_WORD_S = 2.0, 5.0
"""A held stream hears something after the first, then at every second: clients and proxies end silent connections."""
CALL_EVERY_S = 1.0
DOWN_LOOK_S = 0.1
"""How often a replica that could not be reached is looked at again."""
log = logging.getLogger("modelport.gateway")


class NotReady(ModelportError):
    """503 with the estimate as a field of its own, for clients that show it."""

    def __init__(self, message: str, estimate_s: float | None) -> None:
        super().__init__(message, NOT_READY, retry_after_s=estimate_s or 5)
        self.estimate_s = estimate_s

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        body: dict[str, Any] = super().body(request_id)
        body["error"]["estimate_s"] = self.estimate_s
        return body


class Waking:
    """Holds requests, and calls control for as long as anybody waits."""

    def __init__(self, control: Upstream) -> None:
        self._control = control
        self._callers: dict[str, asyncio.Task[None]] = {}
        self._episodes: dict[str, tuple[float, int]] = {}
        self.hurry = asyncio.Event()
        """Set when somebody starts to wait, so that the store is polled faster at once."""

    async def hold(self, route: Route, request: Request, home: bytes = b"") -> Upstream:
        """A replica, as soon as there is one.

        Raises ModelportError (503) when too many wait already, the time is up, or the service failed or was stopped.
        """
        refuse_unless_waited_for(route)
        spec = route.routed.spec
        self._call(route)
        if route.held >= spec.wake_waiters:
            raise NotReady(f"Service '{route.name}' is starting and {route.held} requests wait already; try again.",
                           route.routed.estimate_s)  # fmt: skip
        self._enter(route)
        try:
            return await self._wait(route, request, spec.wake_timeout, home)
        finally:
            self._leave(route)

    async def _wait(self, route: Route, request: Request, timeout_s: float, home: bytes) -> Upstream:
        now = time.monotonic()
        deadline = request.hold_until = request.hold_until or now + timeout_s
        word_at = now + FIRST_WORD_S if request.stream else float("inf")
        while True:
            refuse_unless_waited_for(route)
            if (upstream := route.pick(home)) is not None:
                return upstream
            route.refuse_while_broken()
            now = time.monotonic()
            if now >= deadline:
                raise NotReady(f"Service '{route.name}' was not ready within {show_seconds(timeout_s)}; try again.",
                               route.routed.estimate_s)  # fmt: skip
            if now >= word_at:
                await _say(route, request)
                word_at = now + NEXT_WORD_S
            pause = min(deadline, word_at) - now
            try:
                async with asyncio.timeout(min(pause, DOWN_LOOK_S) if route.upstreams else pause):
                    await route.changed.wait()
            except TimeoutError:
                pass

    def _enter(self, route: Route) -> None:
        began, count = self._episodes.get(route.routed.id, (time.monotonic(), 0))
        self._episodes[route.routed.id] = (began, count + 1)
        route.held += 1
        self.hurry.set()

    def _leave(self, route: Route) -> None:
        route.held -= 1
        if not route.held:
            began, count = self._episodes.pop(route.routed.id)
            log.info("service %s: held %d requests for %.1f s", route.name, count, time.monotonic() - began)

    # Calling control

    def _call(self, route: Route) -> None:
        if route.routed.id not in self._callers:
            self._callers[route.routed.id] = asyncio.create_task(self._calls(route))

    async def _calls(self, route: Route) -> None:
        """Now, and every second while anybody waits; whether control answers is seen in the store, not here."""
        try:
            while True:
                await self._post(f"/modelport/v1/services/{route.routed.id}/wake")
                await asyncio.sleep(CALL_EVERY_S)
                if not route.held:
                    return
        finally:
            del self._callers[route.routed.id]

    async def _post(self, path: str) -> None:
        try:
            connection = await self._control.connection()
        except ConnectFailed:
            return  # control is down; it is called again while anybody waits
        try:
            connection.send(b"POST %b HTTP/1.1\r\n%bcontent-length: 0\r\n\r\n" % (path.encode(), self._control.head))
            async with asyncio.timeout(CALL_EVERY_S):
                await connection.head()
                while await connection.read():
                    pass
        except (UpstreamBroke, TimeoutError):
            log.debug("control did not answer a wake call")
        finally:
            self._control.give_back(connection)

    def close(self) -> None:
        for task in self._callers.values():
            task.cancel()


def refuse_unless_waited_for(route: Route) -> None:
    """Raises ModelportError (503) for a service that no request starts. Why it failed is for its owner only."""
    state = route.routed.state
    if route.gone or state in (ServiceState.STOPPING, ServiceState.STOPPED):
        raise ModelportError(f"Service '{route.name}' is stopped; its owner can start it.", SERVICE_STOPPED)
    if state not in WAITED_FOR:
        raise ModelportError(
            f"Service '{route.name}' could not be started; its owner sees why with `modelport status {route.name}`.",
            SERVICE_FAILED,
        )


async def _say(route: Route, request: Request) -> None:
    if not request.begun:
        request.start_stream()
    estimate = route.routed.estimate_s
    about = f", about {estimate:.0f} s" if estimate else ""
    await request.write(f": waking {route.name}{about}\n\n".encode())
    request.first_byte_s = None  # that was our word, not the engine's
