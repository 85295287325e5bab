"""What many write first: FastAPI in front, httpx behind. Key check, model to address, usage of the tail, a log line."""

import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

KEYS = {hashlib.sha256(b"sk-bench-0123456789abcdef").digest(): "bench"}
UPSTREAMS = {"stub-model": os.environ["BENCH_STUB"]}
DROPPED = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "authorization",
           "content-length", "expect", "accept-encoding", "server", "date"}  # fmt: skip
LOG = open(os.environ["BENCH_LOG"], "a", buffering=1 << 16)  # noqa: SIM115 - open as long as the process


class Asked(msgspec.Struct):
    model: str
    stream: bool = False


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=1024)
    async with httpx.AsyncClient(timeout=None, trust_env=False, limits=limits) as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)
decode = msgspec.json.Decoder(Asked).decode


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    began = time.perf_counter()
    body = await request.body()
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    user = KEYS.get(hashlib.sha256(bearer.encode()).digest())
    if user is None:
        return Response('{"error":{"message":"wrong API key"}}', 401, media_type="application/json")
    asked = decode(body)
    if asked.model not in UPSTREAMS:
        return Response('{"error":{"message":"no such model"}}', 404, media_type="application/json")
    client: httpx.AsyncClient = request.app.state.client
    headers = {k: v for k, v in request.headers.items() if k not in DROPPED} | {"authorization": "Bearer upstream"}
    sent = client.build_request("POST", UPSTREAMS[asked.model] + request.url.path, headers=headers, content=body)
    answer = await client.send(sent, stream=True)
    returned = {k: v for k, v in answer.headers.items() if k not in DROPPED}

    def note(tail: bytes) -> None:
        used = tail[tail.rfind(b'"usage":') :]
        line = {"t": time.time(), "user": user, "s": time.perf_counter() - began, "usage": used.decode()}
        LOG.write(json.dumps(line) + "\n")

    async def relay() -> AsyncIterator[bytes]:
        before = last = b""
        try:
            async for piece in answer.aiter_raw():
                before, last = last, piece
                yield piece
        finally:
            await answer.aclose()
            note(before + last)

    if asked.stream:
        return StreamingResponse(relay(), answer.status_code, returned)
    whole = b"".join([piece async for piece in relay()])
    return Response(whole, answer.status_code, returned)
