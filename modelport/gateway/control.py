"""ControlDoor: `/modelport/…` is one more upstream, control's unix socket. Everything but credentials passes."""

import asyncio

from modelport.errors import NOT_READY, ModelportError
from modelport.gateway.connection import UpstreamBroke
from modelport.gateway.request import Request
from modelport.gateway.upstream import ConnectFailed, Upstream
from modelport.settings import Settings
from modelport.store.keys import Key

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
"""RFC 9110, 7.6.1, and proxy-connection, which old clients send."""
NOT_SENT = HOP_BY_HOP | {b"host", b"authorization", b"x-api-key", b"content-length", b"expect", b"x-request-id"}
NOT_RETURNED = HOP_BY_HOP | {b"server", b"date", b"x-request-id"}


class ControlDoor:
    """Passes a request to control and its answer back as it comes. Silence is fine: followed logs are mostly that."""

    def __init__(self, settings: Settings, control: Upstream) -> None:
        self._settings = settings
        self._control = control

    async def pass_on(self, request: Request) -> None:
        """Raises ModelportError (503) when control is down, or breaks off before it answers."""
        body = await request.body(self._settings.max_body_bytes, self._settings.body_timeout)
        try:
            connection = await self._control.connection(fresh=True)
        except ConnectFailed:
            raise _down() from None
        try:
            connection.send(self._payload(request, body))
            async with asyncio.timeout(self._settings.request_timeout or None):  # logs are silent later, not before
                status = await connection.head()
            headers = [(name, value) for name, value in connection.headers.items() if name not in NOT_RETURNED]
            request.start(status, headers)
            while data := await connection.read():
                await request.write(data)
            request.end()
        except (UpstreamBroke, TimeoutError):
            raise _down() from None
        finally:
            self._control.give_back(connection)

    def _payload(self, request: Request, body: bytes) -> bytes:
        named = {token.strip().lower() for token in request.headers.get(b"connection", b"").split(b",")}
        passed = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in request.headers.items()
            if name not in NOT_SENT and name not in named and not name.startswith(b"x-modelport-")
        )
        key: Key = request.key
        passed += b"x-modelport-key: %b\r\nx-modelport-user: %b\r\nx-modelport-team: %b\r\n" % (
            key.id.encode(), key.user.encode(), key.team.encode(),
        ) + b"x-modelport-scopes: %b\r\n" % ",".join(sorted(key.scopes)).encode()  # fmt: skip
        query = b"?" + request.query if request.query else b""
        return b"%b %b%b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            request.method.encode(), request.path.encode(), query, self._control.head, passed,
            request.shown_id.encode(), len(body), body,
        )  # fmt: skip


def _down() -> ModelportError:
    return ModelportError(
        "The control process does not answer, so services cannot be managed now; models that run go on answering.",
        NOT_READY,
        retry_after_s=5,
    )
