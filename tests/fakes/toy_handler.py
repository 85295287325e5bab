"""A toy handler, and a model server that has it in its table: for tests and benchmarks of the runtime around it.

    python -m tests.fakes.toy_handler --model DIRECTORY --port 18700

A directory with toy.json is its model: `load_s`, `fails` (a sentence; "crash" raises, "memory" runs out), `most`,
`routes`, `run_s`, `model_type`, `annotated`, `closed`, and `gate` (a file: the load waits until it exists). A body may carry `delay_s` (the run
takes longer, and ends when it is stopped), `ignores_stop`, `breaks`, `refused`, `words` (how many are emitted).
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelport.errors import ModelportError
from modelport.runtime import handlers
from modelport.runtime.handler import Call, LoadFailed, Result, Told, Work
from modelport.runtime.handlers import Row
from modelport.runtime.host import main


class Toy:
    """Echoes what it is asked: `results.echo`, and of each medium its kind, name and a sum of its bytes."""

    def __init__(self, directory: Path, task: str, options: Mapping[str, Any]) -> None:
        if unknown := set(options) - {"colour", "torch_dtype"}:
            raise ModelportError(f"{min(unknown)!r} is no option of a toy.")
        self.says: dict[str, Any] = json.loads((directory / "toy.json").read_text())
        self.model_type = self.says.get("model_type", "toy")
        self.routes = frozenset(self.says.get("routes", ("inference", "chat", "embeddings")))
        self.most = self.says.get("most", 1)
        self.runs = self.stops = 0

    def load(self, told: Told) -> None:
        told("Reading the toy", 0.5)
        while (gate := self.says.get("gate")) and not Path(gate).exists():
            time.sleep(0.005)
        time.sleep(self.says.get("load_s", 0))
        match self.says.get("fails"):
            case None:
                return
            case "crash":
                raise RuntimeError("secret words of a library")
            case "memory":
                raise MemoryError
            case sentence:
                raise LoadFailed(sentence)

    def check(self, call: Call) -> Work:
        if call.body.get("refused"):
            raise ModelportError("'refused' must not be true.", param="refused")
        return Work(call, size=int(call.body.get("size", 1)), ready=[sum(medium.data) for medium in call.media])

    def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
        self.runs += 1
        time.sleep(self.says.get("run_s", 0))
        return [self._one(work, len(works)) for work in works]

    def _one(self, work: Work, together: int) -> Result | ModelportError:
        call = work.call
        if call.body.get("breaks"):
            raise RuntimeError("secret words of a library")
        end = time.monotonic() + call.body.get("delay_s", 0)
        while time.monotonic() < end:
            if call.stopped() and not call.body.get("ignores_stop"):
                self.stops += 1
                break
            time.sleep(0.002)
        if call.route == "embeddings":
            texts = call.body["input"]
            return Result(vectors=[[float(len(text)), 0.5] for text in texts], input_tokens=len(texts))
        words = [f"word{number} " for number in range(call.body.get("words", 2))]
        for word in words if call.emit else ():
            call.emit(word)
        media = [
            {"kind": medium.kind, "name": medium.name, "type": medium.content_type, "sum": total}
            for medium, total in zip(call.media, work.ready, strict=True)
        ]
        return Result(
            results={
                "echo": dict(call.body), "media": media, "messages": list(call.messages), "together": together,
                "runs": self.runs, "stops": self.stops,
                **({"annotated": self.says["annotated"]} if "annotated" in self.says else {}),
            },
            text="".join(words), input_tokens=3, output_tokens=len(words),
        )  # fmt: skip

    def close(self) -> None:
        (Path(closed).write_text("closed")) if (closed := self.says.get("closed")) else None


ROW = Row("toy", "tests.fakes.toy_handler:Toy", (), "", lambda names, task: "toy.json" in names)

if __name__ == "__main__":
    handlers.HANDLERS.append(ROW)
    sys.exit(main())
