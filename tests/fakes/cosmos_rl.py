"""A container server of TAO's, as base_inference_microservice_server.py of nvidia-tao-core answers: a real process.

    cosmos-rl-inference-microservice --job JSON --docker_env_vars JSON [--port 8080] [--idle_timeout_minutes 30]
                                     [--disable_auto_deletion]

Standard library only. `program(directory)` puts it on a PATH under that name. The model path decides how it goes: with
`broken` in it loading fails; otherwise it is initializing, loading and ready, each state until the file `go` in
$HOME/<state> is there, or 0.2 s where there is no such directory.
"""

import argparse
import json
import os
import sys
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "cosmos-rl-inference-microservice"


class State:
    """Where the server is, and what it was asked."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.at, self.error = job, "initializing", ""
        self.asked: list[Any] = []

    def load(self) -> None:
        for state in ("initializing", "loading"):
            self.at = state
            gate = Path(os.environ.get("HOME", "/")) / state
            time.sleep(0.2)
            while gate.is_dir() and not (gate / "go").exists():
                time.sleep(0.02)
        broken = "broken" in self.job["specs"]["model_path"]
        self.at, self.error = ("failed", "no weights") if broken else ("ready", "")


READINESS = {
    "initializing": ("server_initializing", "Server is initializing, please wait"),
    "loading": ("model_loading", "Model is currently loading, please wait"),
    "failed": ("model_load_failed", "Model failed to load: no weights"),
}
REFUSALS = {
    "initializing": (202, "server_initializing"),
    "loading": (202, "model_loading"),
    "failed": (503, "model_load_error"),
}


def handler(state: State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            job_id, now = state.job["job_id"], datetime.now().isoformat()
            if self.path == "/api/v1/health/readiness":
                if state.at == "ready":
                    return self.answer(
                        200, {"status": "ready", "job_id": job_id, "timestamp": now, "model_type": "vlm"}
                    )
                reason, message = READINESS[state.at]
                body = {"status": "not_ready", "reason": reason, "message": message, "job_id": job_id, "timestamp": now}
                return self.answer(503, body)
            if self.path in ("/api/v1/status", "/api/v1/health/liveness"):
                return self.answer(200, {"job_id": job_id, "model_loaded": state.at == "ready", "asked": state.asked})
            return self.answer(404, {"error": "not found"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"null")
            if self.path not in ("/v1/chat/completions", "/api/v1/inference"):
                return self.answer(404, {"error": "not found"})
            if state.at != "ready":
                status, kind = REFUSALS[state.at]
                return self.answer(status, {"error": {"type": kind, "message": READINESS[state.at][1]}})
            if not body:
                return self.answer(400, {"error": {"type": "invalid_request", "message": "Request body is required"}})
            state.asked.append(body)
            text = f"{len(json.dumps(body))} characters for {state.job['specs']['model_path']}"
            if self.path == "/api/v1/inference":
                return self.answer(
                    200, {"status": "completed", "results": {"response": text}, "job_id": state.job["job_id"]}
                )
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": int(time.time()), "choices": [choice]}
            return self.answer(200, {**reply, "model": state.job["specs"]["model_path"]})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler


def program(directory: Path, name: str = NAME) -> Path:
    """An executable of that name which is this server."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    file.chmod(0o755)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(prog=NAME)
    parser.add_argument("--job", type=json.loads, required=True)
    parser.add_argument("--docker_env_vars", type=json.loads, required=True)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--idle_timeout_minutes", type=int, default=30)
    parser.add_argument("--disable_auto_deletion", action="store_true")
    args = parser.parse_args()
    for name in ("job_id", "specs", "neural_network_name"):
        if name not in args.job:
            sys.exit(f"the job lacks {name}")
    if args.docker_env_vars["TAO_API_JOB_ID"] != args.job["job_id"] or os.environ["CLOUD_BASED"] != "False":
        sys.exit("the environment is of another job")
    state = State(args.job)
    threading.Thread(target=state.load, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", args.port), handler(state)).serve_forever()


if __name__ == "__main__":
    main()
