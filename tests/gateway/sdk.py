"""What the tests with official SDKs share: an engine that answers as told, and small pictures and sounds."""

import base64
import io
import struct
import time
import wave
import zlib
from typing import Any

from modelport.store import instances
from tests.fakes.answering import Answering
from tests.gateway.world import Engine, World

ROUTES = tuple(
    f"POST {path}"
    for path in (
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/rerank",
        "/v1/moderations", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations",
        "/v1/images/generations", "/tokenize", "/detokenize",
    )
)  # fmt: skip
USAGE = {
    "prompt_tokens": 40, "completion_tokens": 8, "total_tokens": 48,
    "prompt_tokens_details": {"cached_tokens": 32}, "completion_tokens_details": {"reasoning_tokens": 3},
}  # fmt: skip


def serve(
    world: World, name: str, engine: Answering, routes: tuple[str, ...] = ROUTES, kind: str = "stub", **spec: Any
) -> None:
    """A service of this name behind the gateway, answered by `engine`, which the gateway takes for one of this kind."""
    service = world.service(name, **spec)
    row = world.instance(service, Engine(engine.port, engine.key, None), routes)  # type: ignore[arg-type]
    with world.store.write() as tx:
        instances.update(tx, row, time.time(), engine=kind)
    world.settle()


def completion(message: dict[str, Any], finish: str = "stop", usage: object = USAGE, **more: Any) -> dict[str, Any]:
    """A whole chat completion of one choice."""
    said = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish, "logprobs": None}
    found = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}
    return found if usage is None else {**found, "usage": usage}


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A piece of a streamed one."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def last(usage: object = USAGE) -> dict[str, Any]:
    """The chunk that holds nothing but usage."""
    return chunk({}) | {"choices": [], "usage": usage}


def png() -> bytes:
    """A picture of one pixel."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0\0\0\0")) + part(b"IEND", b"")


PNG = base64.b64encode(png()).decode()


def wav(seconds: float) -> bytes:
    """Silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0" * int(8000 * seconds))
    return file.getvalue()
