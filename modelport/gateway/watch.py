"""Watch: what lasts too long. One look at everything now and then, instead of timers for each request."""

import asyncio
from typing import TYPE_CHECKING

from modelport.gateway.relay import Passage
from modelport.gateway.request import Request
from modelport.settings import Settings

if TYPE_CHECKING:
    from modelport.gateway.protocol import ClientConnection

EVERY_S = 0.25
NEVER_S = 1e9
KEEP_ALIVE_S = 75.0
"""How long a client's connection may idle between requests."""


class Watch:
    """Ends engines' answers that fell silent, requests past their deadline, clients that stopped reading, and
    connections that idle."""

    def __init__(self, settings: Settings, clients: "set[ClientConnection]") -> None:
        self.engines: set[Passage] = set()
        """What goes on at engines; a passage may change its connection on the way."""
        self.deadlines: dict[Request, float] = {}
        """When each request must have ended, on the loop's clock."""
        self._settings = settings
        self._clients = clients

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.look(asyncio.get_running_loop().time())

    def look(self, now: float) -> None:
        """One look, at `now` on the loop's clock."""
        silent = now - (self._settings.request_timeout or NEVER_S)
        for passage in list(self.engines):
            engine = passage.connection
            since = engine.silent_since()
            if since is not None and since < silent:
                engine.give_up()
        for request, deadline in list(self.deadlines.items()):
            if deadline < now and request.task is not None:
                request.cut_off = True
                request.task.cancel()
        stalled, idle = now - (self._settings.write_timeout or NEVER_S), now - KEEP_ALIVE_S
        for client in list(self._clients):
            if client.write_paused_at is not None and client.write_paused_at < stalled:
                client.leave()
            elif client.transport.is_closing() and client.idle_since < stalled:
                client.transport.abort()  # it does not take the last bytes either
            elif not client.busy and client.idle_since < idle:
                client.transport.close()
