"""A stub engine: a real process that speaks enough of OpenAI's API for tests, and misbehaves when asked to.

    ENGINE_KEY=secret python stub_engine.py --host 127.0.0.1 --port 18700 --name tiny

Standard library only. Every route but /health wants `Authorization: Bearer $ENGINE_KEY`. A body may carry `"stub"` to
force one request's behaviour: `status`, `delay_s` (silence before the answer), `tokens`, `token_s` (pause between
tokens), `cut` (`"start"`: close before the headers, `"middle"`: within the answer), `raw` (answer with these bytes).
GET /seen tells what arrived: requests, in_flight, cancelled, last body, headers and path.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from typing import Any

PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many", 500: "Oops"}


class Gone(Exception):
    """The client closed its connection while an answer was under way."""


class Engine:
    """One stub: its switches, and what it has seen."""

    def __init__(self, args: argparse.Namespace, key: str) -> None:
        self.args, self.key = args, key
        self.loaded_at = time.monotonic() + args.load_s
        self.seen: dict[str, Any] = {"requests": 0, "in_flight": 0, "cancelled": 0, "body": None, "headers": {}}

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await Exchange(self, reader, writer).run():
                pass
        writer.close()


class Exchange:
    """One request and its answer."""

    def __init__(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.engine, self.args, self.reader, self.writer = engine, engine.args, reader, writer
        self.stub: dict[str, Any] = {}

    async def run(self) -> bool:
        """Serve one request; whether the connection stays open."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        raw = await self.reader.readexactly(int(headers.get("content-length", "0")))
        path = target.partition("?")[0]
        if path == "/health":
            return self.health()
        if headers.get("authorization") != f"Bearer {self.engine.key}":
            return self.error(401, "wrong engine key")
        if (method, path) == ("GET", "/seen"):
            return self.json(200, self.engine.seen)
        if (method, path) == ("GET", "/v1/models"):
            return self.json(200, {"object": "list", "data": [{"id": self.args.name, "object": "model"}]})
        if headers.get("content-type", "").startswith("multipart/"):
            self.engine.seen.update(requests=self.engine.seen["requests"] + 1, headers=headers)
            return self.json(200, {"status": "completed", "results": {"bytes": len(raw)}})
        answer = ANSWERS.get((method, path))
        if answer is None:
            return self.error(404, f"no route {method} {path}")
        return await self.infer(answer, target, headers, raw)

    async def infer(self, answer: Any, target: str, headers: dict[str, str], raw: bytes) -> bool:
        seen = self.engine.seen
        seen.update(requests=seen["requests"] + 1, body=raw.decode("utf-8", "replace"), headers=headers, path=target)
        seen["in_flight"] += 1
        try:
            body = json.loads(raw or b"{}")
            self.stub = body.get("stub", {})
            await self.nap(self.stub.get("delay_s", 0))
            if "raw" in self.stub:
                self.writer.write(self.stub["raw"].encode("latin-1"))
                return False
            if self.stub.get("cut") == "start":
                return False
            if self.stub.get("status", 200) != 200:
                return self.error(self.stub["status"], f"forced by the test, key {self.engine.key}")
            return await answer(self, body)
        except json.JSONDecodeError:
            return self.error(400, "the body is not JSON")
        except (Gone, OSError):
            seen["cancelled"] += 1
            return False
        finally:
            seen["in_flight"] -= 1

    async def nap(self, seconds: float) -> None:
        """Wait, but notice within 5 ms when the client leaves."""
        end = time.monotonic() + seconds
        while True:
            if self.reader.at_eof() or self.writer.transport.is_closing():
                raise Gone
            if (left := end - time.monotonic()) <= 0:
                return
            await asyncio.sleep(min(left, 0.005))

    def health(self) -> bool:
        held = self.args.load_while and os.path.exists(self.args.load_while)
        loading = held or time.monotonic() < self.engine.loaded_at
        return self.json(503 if loading else 200, {"status": "loading" if loading else "ok"})

    def json(self, status: int, value: object, extra: str = "") -> bool:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} {PHRASES.get(status, 'Status')}\r\ncontent-type: application/json\r\n{extra}"
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return True

    def error(self, status: int, message: str) -> bool:
        extra = "retry-after: 7\r\n" if status in (429, 503) else ""
        error = {"message": message, "type": "stub_error", "code": None, "param": None}
        return self.json(status, {"error": error}, extra)

    def dies_now(self) -> bool:
        return self.args.die_after is not None and self.engine.seen["requests"] >= self.args.die_after

    def cut(self, partial: bytes) -> bool:
        """Leave the answer unfinished: the whole process when `--die-after` says so, else this connection."""
        self.writer.write(partial)
        if self.dies_now():
            os._exit(9)
        return False

    # The answers

    def usage(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        prompt = max(1, len(json.dumps(body.get("messages") or body.get("prompt") or body.get("input")).split()))
        details = {"cached_tokens": prompt // 2}
        sums = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        return {**sums, "prompt_tokens_details": details}

    async def generate(self, body: dict[str, Any], kind: str, content: Any) -> bool:
        """A completion of either kind; `content(text, delta)` gives the part of a choice that differs."""
        tokens = int(self.stub.get("tokens", self.args.tokens))
        token_s = float(self.stub.get("token_s", self.args.token_s))
        base = {"id": "stub-1", "object": kind, "created": 1, "model": self.args.name}
        if body.get("stream"):
            return await self.stream(body, base, content, tokens, token_s)
        await self.nap(tokens * token_s)
        text = "".join(f"tok{i} " for i in range(tokens))
        choice = {"index": 0, "finish_reason": "stop", **content(text, False)}
        if self.stub.get("cut") == "middle" or self.dies_now():
            return self.cut(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{"id": ')
        return self.json(200, {**base, "choices": [choice], "usage": self.usage(body, tokens)})

    async def stream(
        self, body: dict[str, Any], base: dict[str, Any], content: Any, tokens: int, token_s: float
    ) -> bool:
        options = body.get("stream_options") or {}
        wants_usage, continuous = bool(options.get("include_usage")), bool(options.get("continuous_usage_stats"))
        extra = {"usage": None} if wants_usage else {}  # as OpenAI and vLLM do
        chat = base["object"] == "chat.completion"
        base = {**base, "object": "chat.completion.chunk" if chat else base["object"], **extra}

        def choice(part: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
            return {**base, "choices": [{"index": index, "finish_reason": finish, **part}]}

        self.writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        if chat:
            self.event(choice({"delta": {"role": "assistant", "content": ""}}))
        for i in range(tokens):
            so_far = {"usage": self.usage(body, i + 1)} if continuous else {}
            for index in range(body.get("n") or 1):  # `so_far` is of one choice, as in vLLM's streams
                self.event(choice(content(f"tok{i} ", True), index=index) | so_far)
            await self.writer.drain()
            if i == 1 and (self.stub.get("cut") == "middle" or self.dies_now()):
                return self.cut(b"")
            await self.nap(token_s)
        self.event(choice({"delta": {}} if chat else {"text": ""}, "stop"))
        if wants_usage:
            self.event({**base, "choices": [], "usage": self.usage(body, tokens)})
        self.chunk(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")
        return True

    def event(self, value: object) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def chat(self, body: dict[str, Any]) -> bool:
        def content(text: str, delta: bool) -> dict[str, Any]:
            return {"delta": {"content": text}} if delta else {"message": {"role": "assistant", "content": text}}

        return await self.generate(body, "chat.completion", content)

    async def completion(self, body: dict[str, Any]) -> bool:
        return await self.generate(body, "text_completion", lambda text, _delta: {"text": text})

    async def embeddings(self, body: dict[str, Any]) -> bool:
        inputs = body.get("input")
        count = len(inputs) if isinstance(inputs, list) else 1
        data = [{"object": "embedding", "index": i, "embedding": [0.25, -0.5, 1.0]} for i in range(count)]
        usage = {key: value for key, value in self.usage(body, 0).items() if key != "completion_tokens"}
        return self.json(200, {"object": "list", "model": self.args.name, "data": data, "usage": usage})

    async def inference(self, body: dict[str, Any]) -> bool:
        """TAO's: what arrived comes back, so that a test sees whose answer it has."""
        results = {"response": str(body.get("prompt", "")), "media": body.get("images") or body.get("media")}
        return self.json(200, {"status": "completed", "results": results, "usage": self.usage(body, 3)})

    async def tokenize(self, body: dict[str, Any]) -> bool:
        words = str(body.get("content") or body.get("prompt") or "").split()
        return self.json(200, {"count": len(words), "tokens": list(range(len(words)))})


ANSWERS = {
    ("POST", "/v1/chat/completions"): Exchange.chat,
    ("POST", "/v1/completions"): Exchange.completion,
    ("POST", "/v1/embeddings"): Exchange.embeddings,
    ("POST", "/tokenize"): Exchange.tokenize,
    ("POST", "/api/v1/inference"): Exchange.inference,
}


async def main(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if args.ignore_term else stop.set)
    print(f"stub engine {args.name} initializing", flush=True)
    await wait(stop, args.init_s)
    while args.init_while and os.path.exists(args.init_while) and not stop.is_set():
        await wait(stop, 0.05)
    engine = Engine(args, os.environ["ENGINE_KEY"])
    server = None
    if args.load_s or args.fail is None:
        server = await asyncio.start_server(engine.connection, args.host, args.port, limit=1 << 20, backlog=1024)
    if args.fail is not None:
        await wait(stop, args.load_s)
        if not stop.is_set():
            print(args.fail, file=sys.stderr, flush=True)
            sys.exit(3)
    print(f"stub engine {args.name} listening", flush=True)
    await stop.wait()
    if server is not None:
        server.close()


async def wait(stop: asyncio.Event, seconds: float) -> None:
    """Pause, cut short by SIGTERM."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds or 1e-3)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="an OpenAI-like engine for tests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="stub")
    parser.add_argument("--init-s", type=float, default=0.0, help="the port stays closed this long")
    parser.add_argument("--load-s", type=float, default=0.0, help="then /health says 503 this long")
    parser.add_argument("--init-while", metavar="FILE", help="the port stays closed while FILE exists")
    parser.add_argument("--load-while", metavar="FILE", help="/health says 503 while FILE exists")
    parser.add_argument("--fail", metavar="TEXT", help="after both, print TEXT to stderr and exit with 3")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--token-s", type=float, default=0.0, help="pause between tokens")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--die-after", type=int, metavar="N", help="end with code 9 within the answer to request N")
    return parser.parse_args(argv)


if __name__ == "__main__":
    asyncio.run(main(parse()))
