"""Messages: Anthropic's routes for engines that have chat completions only, as a Translation of their answers."""

from collections.abc import Collection

from modelport.errors import NOT_FOUND, ModelportError
from modelport.gateway import anthropic
from modelport.gateway.anthropic_request import ChatRequest, to_chat, to_count
from modelport.gateway.anthropic_stream import Stream
from modelport.gateway.anthropic_tokens import count_tokens
from modelport.gateway.relay import Passage, payload
from modelport.gateway.request import Request
from modelport.gateway.scan import Scan, scan
from modelport.gateway.surface import CHAT, UNCOUNTED

COUNT = "/v1/messages/count_tokens"


class Messages:
    """One request in Anthropic's dialect. `found` is the scan of the chat request that it becomes."""

    def __init__(self, request: Request, found: Scan) -> None:
        self.counts = request.route == COUNT
        self.chat: ChatRequest = (to_count if self.counts else to_chat)(found.body)
        self.found = scan(self.chat.body, CHAT, needs_model=False)
        self._request = request
        self._stream = Stream(self.chat, request.id)

    def feed(self, data: bytes) -> bytes:
        return self._stream.feed(data)

    def end(self) -> bytes:
        return self._stream.end()

    def whole(self, body: bytes) -> bytes:
        """Raises ModelportError (502) where the engine's answer is none."""
        return anthropic.of_chat(body, self.chat, self._request.id)

    async def count(self, passage: Passage, routes: Collection[str]) -> None:
        """Ask the engine how many tokens the prompt has, and answer."""

        async def ask(method: str, path: str, body: bytes) -> bytes:
            if f"{method} {path}" not in routes or path not in UNCOUNTED:
                raise ModelportError("The engine of this service cannot count tokens.", NOT_FOUND)
            return await passage.ask(payload(self._request, passage.upstream, path, body))

        self._request.answer(200, await count_tokens(self.chat, routes, ask))
