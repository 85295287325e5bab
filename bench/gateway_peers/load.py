"""Load: the stub engine and the two clients, wrk for JSON and sse for streams. Each run gives its client's counts."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import toolbox
from .targets import STUB_PORT

HERE = Path(__file__).parent
Counts = dict[str, Any]
BODY = b'{"model":"stub-model","messages":[{"role":"user","content":"hi"}]}'


class Stub:
    """The engine that is far cheaper than any gateway; `streams` sets what its streams look like."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid

    def streams(self, events: int, every_ms: float) -> None:
        """How many events each stream has, and the pause between two; 0 is as fast as they go."""
        path = f"/__cfg?n={events}&delay={int(every_ms * 1000)}&align=0"
        request = urllib.request.Request(f"http://127.0.0.1:{STUB_PORT}{path}", method="POST", data=b"")
        urllib.request.urlopen(request, timeout=5).read()


@contextmanager
def stub(core: int) -> Iterator[Stub]:
    """A running stub."""
    process = subprocess.Popen(["taskset", "-c", str(core), str(toolbox.program("stub")), str(STUB_PORT)])
    try:
        time.sleep(0.3)
        if process.poll() is not None:
            raise SystemExit(f"The stub cannot listen on port {STUB_PORT}; another run of this bench may be under way.")
        yield Stub(process)
    finally:
        process.terminate()
        process.wait()


def answers(port: int, key: str) -> bool:
    """Whether a chat through this port gets the stub's words."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", BODY, headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return b"quick brown" in answer.read()
    except OSError:
        return False


def json_load(port: int, key: str, core: int, connections: int, seconds: float, pad_bytes: int = 0) -> Counts:
    """Chats over so many kept connections: reqs, rps, p50 in µs, errors."""
    env = {**os.environ, "BENCH_KEY": key, "BENCH_PAD": str(pad_bytes)}
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    command += ["-s", str(HERE / "post.lua"), f"http://127.0.0.1:{port}"]
    out = subprocess.run(command, capture_output=True, text=True, env=env)
    return json.loads(out.stdout.strip().splitlines()[-1])


def stream_load(
    port: int, key: str, core: int, streams: int, each: int, stagger_us: float = 0, longest_s: float = 60
) -> Counts:
    """So many streams at once, one after another on each connection: chunks, lat_p50 in µs, ttft_p50, errors."""
    command = stream_command(port, core, streams, each, stagger_us, longest_s)
    out = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "BENCH_KEY": key})
    try:
        return json.loads(out.stdout)
    except ValueError:
        return {"reqs": 0, "chunks": 0, "errors": 1, "said": out.stderr[-300:]}


def stream_command(port: int, core: int, streams: int, each: int, stagger_us: float, longest_s: float) -> list[str]:
    return ["taskset", "-c", str(core), str(toolbox.program("sse")), str(port), str(streams), str(each),
            "-g", str(int(stagger_us)), "-t", str(longest_s)]  # fmt: skip
