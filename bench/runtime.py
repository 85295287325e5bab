"""What the model server around a handler costs a request, and what joining requests gains.

    python bench/runtime.py [--model scenes] [--rounds 3] [--seconds 4]

One model of examples/models (the digits classifier, or the detector of scenes), asked in the same run in three ways:
the handler called in this process, `python -m modelport.runtime`, and a server made in the usual way for such models:
Flask, threads, one lock around the model (werkzeug's server, as NVIDIA's TAO has it). Requests are one picture as a
data: URI. Latency is one client's, one request after another; throughput is that of many. CPU is the server's own,
which other programs on the machine change least. Prints medians and ratios.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from modelport.runtime import handlers
from modelport.runtime.handler import Call, Handler, Medium

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "examples" / "models"
CLIENTS = (1, 16, 64)
THREADS = 1
"""Of the model, everywhere: onnxruntime's own threads spin, and would be what is measured."""


def loaded(model: Path) -> Handler:
    handler = handlers.choose(model, "auto", {"threads": THREADS})
    handler.load(lambda sentence, share: None)
    return handler


def picture(number: int) -> bytes:
    """A PNG of the model's size with some strokes; each number another."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (8, 8), 0)
    ImageDraw.Draw(image).text((number % 3, -2), str(number % 10), fill=200 + number % 56)
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def flask_server(model: Path, port: int) -> None:
    """The usual way: a thread for each request, a lock, media decoded before it, JSON in and out."""
    import logging

    from flask import Flask, jsonify, request

    app, handler, lock = Flask(__name__), loaded(model), threading.Lock()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    @app.post("/api/v1/inference")
    def infer() -> Any:
        body = request.get_json()
        media = [
            Medium("image", base64.b64decode(uri.partition(",")[2]), f"images[{index}]")
            for index, uri in enumerate(body.pop("images"))
        ]
        began = time.time()
        with lock:
            (result,) = handler.run([handler.check(Call("inference", body, media))])
        results = dict(result.results) | {"inference_time": time.time() - began}  # type: ignore[union-attr]
        return jsonify({"status": "completed", "results": results, "job_id": "x"})

    @app.get("/health")
    def health() -> Any:
        return jsonify({"status": "ok"})

    app.run(port=port, threaded=True)


@contextmanager
def running(arguments: Sequence[str], port: int) -> Any:
    """A server, ready: its URL and its process."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    if httpx.get(f"{url}/health").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


async def load(url: str, bodies: Sequence[bytes], clients: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and the median latency in µs, over plain keep-alive connections: a client cheap enough not to
    be what is measured. Raises where an answer is not a 200."""
    host, port = url.removeprefix("http://").split(":")
    end = time.perf_counter() + seconds
    took: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        turn = number
        while time.perf_counter() < end:
            body = bodies[turn % len(bodies)]
            turn += 1
            began = time.perf_counter()
            head = f"POST /api/v1/inference HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"  # noqa: E501
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in answer[:20]:
                raise RuntimeError(answer.decode("latin-1"))
            length = int(answer.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            took.append(time.perf_counter() - began)
            if b"connection: close" in answer:  # as werkzeug's development server says
                writer.close()
                reader, writer = await asyncio.open_connection(host, int(port))
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return len(took) / seconds, statistics.median(took) * 1e6


def bare(model: Path, pictures: Sequence[bytes], seconds: float) -> float:
    """Median µs of check and run in this process."""
    handler = loaded(model)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        medium = Medium("image", pictures[len(took) % len(pictures)], "images[0]")
        began = time.perf_counter()
        handler.run([handler.check(Call("inference", {}, [medium]))])
        took.append(time.perf_counter() - began)
    handler.close()
    return statistics.median(took) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--model", default="digits", choices=("digits", "scenes"))
    parser.add_argument("--flask", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    model = MODELS / given.model
    if given.flask:
        return flask_server(model, given.flask)
    pictures = [picture(number) for number in range(50)]
    bodies = [
        json.dumps({"images": ["data:image/png;base64," + base64.b64encode(data).decode()]}).encode()
        for data in pictures
    ]
    runtime = [
        "-m",
        "modelport.runtime",
        "--model",
        str(model),
        "--max-queue",
        "256",
        "--option",
        f"threads={THREADS}",
        "--port",
    ]
    servers: dict[str, tuple[int, Callable[[int], list[str]]]] = {
        "modelport, joined": (18971, lambda port: [*runtime, str(port)]),
        "modelport, one by one": (18972, lambda port: [*runtime, str(port), "--option", "most=1"]),
        "Flask, one lock": (18973, lambda port: [__file__, "--model", given.model, "--flask", str(port)]),
    }
    alone: list[float] = []
    found: dict[str, dict[int, list[tuple[float, float, float]]]] = {name: {} for name in servers}
    for _ in range(given.rounds):
        alone.append(bare(model, pictures, given.seconds / 2))
        for name, (port, arguments) in servers.items():
            with running(arguments(port), port) as (url, process):
                asyncio.run(load(url, bodies, 4, 0.5))  # warm
                for clients in CLIENTS:
                    before = sum(process.cpu_times()[:2])
                    rps, us = asyncio.run(load(url, bodies, clients, given.seconds))
                    cpu_us = (sum(process.cpu_times()[:2]) - before) * 1e6 / max(1.0, rps * given.seconds)
                    found[name].setdefault(clients, []).append((rps, us, cpu_us))
    handler_us = statistics.median(alone)
    print(f"\n{os.cpu_count()} cores, client and server on the same ones; medians of {given.rounds} rounds")
    print(f"bare handler (check and run): {handler_us:,.0f} µs")
    result: dict[str, float] = {"bare_us": round(handler_us, 1)}
    base = found["Flask, one lock"]
    for name, by_clients in found.items():
        latency = statistics.median(us for _, us, _ in by_clients[1])
        print(f"\n{name}: {latency:,.0f} µs for one client, {latency - handler_us:,.0f} µs beyond the handler")
        result[f"{name}, us"] = round(latency, 1)
        for clients, runs in by_clients.items():
            rps, _, cpu_us = (statistics.median(column) for column in zip(*runs, strict=True))
            flask_rps, _, flask_cpu_us = (statistics.median(column) for column in zip(*base[clients], strict=True))
            print(
                f"  {clients:3} clients {rps:8,.0f} requests/s x{rps / flask_rps:.2f} of Flask's,"
                f" {cpu_us:7,.0f} µs of CPU each x{cpu_us / flask_cpu_us:.2f}"
            )
            result[f"{name}, {clients} clients, rps"] = round(rps, 1)
            result[f"{name}, {clients} clients, cpu_us"] = round(cpu_us, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    if any(find_spec(package) is None for package in ("onnxruntime", "flask", "PIL")):
        sys.exit("bench/runtime.py needs onnxruntime, pillow and flask.")
    main()
