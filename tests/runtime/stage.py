"""The stage's own side: runs in the Python with torch, reads a request a line, writes an answer a line."""

import base64
import json
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelport.errors import ModelportError
from modelport.runtime.handler import Call, Medium
from modelport.runtime.transformer import Transformer

handlers: list[Transformer] = []


def load(request: dict[str, Any]) -> dict[str, Any]:
    steps: list[str] = []
    try:
        handler = Transformer(Path(request["directory"]), request["task"], request["options"])
        handler.load(lambda sentence, share: steps.append(sentence))
    except ModelportError as error:
        return {"refused": error.message, "again": getattr(error, "again", False), "param": error.param}
    handlers.append(handler)
    return {
        "id": len(handlers) - 1,
        "model_type": handler.model_type,
        "routes": sorted(handler.routes),
        "most": handler.most,
        "steps": steps,
    }


def run(request: dict[str, Any]) -> list[dict[str, Any]]:
    handler = handlers[request["id"]]
    media = [Medium(m["kind"], base64.b64decode(m["data"]), m["name"]) for m in request["media"]]
    answers: list[dict[str, Any]] = [{} for _ in request["bodies"]]
    works = []
    for place, body in enumerate(request["bodies"]):
        pieces: list[str] = []
        after = body.pop("stop_after", None)
        answers[place]["pieces"] = pieces
        call = Call("chat" if request["messages"] else "inference", body, media, request["messages"], pieces.append)
        call.stopped = lambda pieces=pieces, after=after: after is not None and len(pieces) >= after
        try:
            works.append((place, handler.check(call)))
        except ModelportError as error:
            answers[place] |= refusal(error)
    with at_most(request["more_bytes"]):
        found = handler.run([work for _, work in works]) if works else []
    for (place, _), answer in zip(works, found, strict=True):
        answers[place] |= refusal(answer) if isinstance(answer, ModelportError) else asdict(answer)
    return answers


@contextmanager
def at_most(more_bytes: int | None) -> Iterator[None]:
    """With so much more memory than is in use now, and no more."""
    if more_bytes is None:
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refusal(error: ModelportError) -> dict[str, Any]:
    return {"refused": error.message, "status": error.kind.status, "param": error.param}


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"said": {"load": load, "run": run}[request["do"]](request)}
        except Exception:
            answer = {"broke": traceback.format_exc()}
        out.write(json.dumps(answer) + "\n")
        out.flush()
