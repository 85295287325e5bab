"""Batch: each file of a folder asked once, each answer a file below another, until all is done.

`cats/1.jpg` becomes `cats/1.jpg.json`; what failed, `cats/1.jpg.error.json`, and is tried again by the next run; what
is there already is not done again. So a batch that was killed goes on where it was.
"""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelport.domain.answers import stamp
from modelport.errors import BUSY, DEADLINE, INTERNAL, NOT_FOUND, ModelportError
from modelport.runtime import tao
from modelport.runtime.arguments import BatchJob
from modelport.runtime.desk import Desk
from modelport.runtime.folder import folder
from modelport.runtime.handler import Call, Result
from modelport.runtime.inputs import MAX_BYTES, PICTURES, VIDEOS, Item
from modelport.runtime.work import BROKE

log = logging.getLogger("modelport.runtime")

TEXTS = (".txt", ".jsonl")
READ = ("llm", "embedding")
"""Types of models that are asked with texts; all others with pictures and videos."""
ERROR, DONE, SUMMARY, ANNOTATED = ".error.json", ".json", "summary.json", ".annotated"
ASKED = "question.json"
MAX_SHOWN = 1000
"""Failures that the summary names."""
MAX_TEXT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """One request of the batch: a file, or a line of one (counted from 1)."""

    file: str
    line: int = 0

    @property
    def name(self) -> str:
        """The answer's name, less its ending."""
        return f"{self.file}.{self.line:06d}" if self.line else self.file


@dataclass(slots=True)
class Count:
    done: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)


class Batch:
    """One batch on a loaded model. Raises nothing: what goes wrong is written down."""

    def __init__(self, job: BatchJob, desk: Desk, env: Mapping[str, str], model: str) -> None:
        """`model`: where it came from, as whoever started this said it."""
        self.model = model
        self.desk, self.state, self.request = desk, desk.state, job.request
        self.input, self.results = folder(job.input, env), folder(job.results, env)
        self.texts = self.state.model_type in READ
        self.count = Count()
        self.total = 0
        self._lines: tuple[str, list[str]] = ("", [])

    async def run(self) -> int:
        """The exit code: 1 where everything failed or nothing could be read, else 0."""
        began = time.time()
        try:
            there = await asyncio.to_thread(self.results.names)
            tasks = await asyncio.to_thread(lambda: list(self._tasks()))
            kept = any(task.name + DONE in there for task in tasks)
            await asyncio.to_thread(self._mark, kept and ASKED in there)
        except ModelportError as error:
            self.state.tell(f"Batch failed: {error.message}", None)
            log.error("batch failed: %s", error.message)
            return 1
        self.total = len(tasks)
        waiting = [task for task in tasks if task.name + DONE not in there]
        self.count.skipped = self.total - len(waiting)
        self._told()
        todo = iter(waiting)
        await asyncio.gather(*(self._worker(todo, there) for _ in range(self._width())))
        if self.state.draining:
            return 0
        await asyncio.to_thread(self.results.write, SUMMARY, _encoded(self._summary(began)))
        log.info("batch done: %d, failed: %d, done before: %d", self.count.done, self.count.failed, self.count.skipped)
        return 1 if self.count.failed and self.count.failed == self.total else 0

    def _mark(self, kept: bool) -> None:
        """Write down what is asked, so that no other question's answers, of which some are `kept`, are taken for this
        one's."""
        asked = _encoded({"model": self.model, "request": self.request})
        if not kept:
            return self.results.write(ASKED, asked)
        if self.results.read(ASKED, MAX_TEXT_BYTES) != asked:
            raise ModelportError(
                f"The results folder holds answers of another model or to another question ({ASKED} says which): name "
                "another folder."
            )

    def _width(self) -> int:
        """How many are under way: so that the next run is prepared while one goes on, and others find a place."""
        most = self.desk.handler.most if self.desk.handler else 1
        return max(1, min(64, 2 * most, self.desk.queue.limit // 2))

    def _tasks(self) -> Iterator[Task]:
        endings = TEXTS if self.texts else (*PICTURES, *VIDEOS)
        own = self.results.below(self.input)
        names = self.input.names()
        if not any(name.lower().endswith(endings) for name in names):
            raise ModelportError(
                f"There is no folder to read, or it holds no file to ask about ({' '.join(endings)}).", NOT_FOUND
            )
        for name in sorted(names):
            made = ANNOTATED in name or (own and name.startswith(own))
            if made or not name.lower().endswith(endings):
                continue
            if name.lower().endswith(".jsonl"):
                yield from (Task(name, number) for number, line in enumerate(self._read(name), 1) if line.strip())
            else:
                yield Task(name)

    async def _worker(self, todo: Iterator[Task], there: set[str]) -> None:
        for task in todo:
            if self.state.draining:
                return
            answer, error = await self._answered(task)
            if self.state.draining and error is not None:  # it was stopped, which is not the file's fault
                return
            try:
                await asyncio.to_thread(self._keep, task, answer, error, there)
            except ModelportError as problem:
                error = problem
            if error is None:
                self.count.done += 1
            else:
                self.count.failed += 1
                self.count.failures.append({"input": task.name, "error": error.message})
            self._told()

    async def _answered(self, task: Task) -> tuple[dict[str, Any] | None, ModelportError | None]:
        began = time.monotonic()
        try:
            call, items = await asyncio.to_thread(self._call, task)
            result = await self._asked(call, items)
        except ModelportError as error:
            return None, error
        except TimeoutError:
            return None, ModelportError(f"It took longer than {self.desk.timeout_s:g} seconds.", DEADLINE)
        except Exception:
            log.exception("a file of the batch broke the server")
            return None, ModelportError(BROKE, INTERNAL)
        return tao.answer(self.state, result, time.monotonic() - began), None

    async def _asked(self, call: Call, items: list[Item]) -> Result:
        while True:
            self.state.began()
            try:
                kept = [Item(item.name, item.value, item.hint) for item in items]
                found = await self.desk.ask(call, kept, self.desk.ticket())
                rows = [list(vector) for vector in found.vectors]
                return Result({**found.results, "embeddings": rows}, input_tokens=found.input_tokens) if rows else found
            except ModelportError as error:
                if error.kind is not BUSY:
                    raise
                await asyncio.sleep(error.retry_after_s or 1.0)  # requests from outside fill the queue
            finally:
                self.state.ended()

    def _call(self, task: Task) -> tuple[Call, list[Item]]:
        if not self.texts:
            data = self.input.read(task.file, max(MAX_BYTES.values()))
            video = task.file.lower().endswith(VIDEOS)
            return Call("inference", dict(self.request)), [Item(task.file, data, "video" if video else "image")]
        given = self._prompt(task)
        if self.state.model_type == "embedding":
            return Call("embeddings", {**self.request, "input": [str(given.get("prompt", given.get("input", "")))]}), []
        return Call("inference", {**self.request, **given}), []

    def _prompt(self, task: Task) -> dict[str, Any]:
        if not task.line:
            try:
                return {"prompt": self.input.read(task.file, MAX_TEXT_BYTES).decode()}
            except UnicodeDecodeError:
                raise ModelportError("It is not UTF-8 text.") from None
        try:
            found = json.loads(self._read(task.file)[task.line - 1])
        except ValueError:
            found = None
        if isinstance(found, str):
            return {"prompt": found}
        if not isinstance(found, dict):
            raise ModelportError("The line is neither a JSON object nor a JSON text.")
        return found

    def _read(self, name: str) -> list[str]:
        """The lines of a file; those of the last one are kept, because its tasks stand in a row."""
        kept = self._lines
        if kept[0] != name:
            kept = (name, self.input.read(name, MAX_TEXT_BYTES).decode("utf-8", "replace").split("\n"))
            self._lines = kept
        return kept[1]

    def _keep(self, task: Task, answer: dict[str, Any] | None, error: ModelportError | None, there: set[str]) -> None:
        """Write an answer, its picture first, so that what is there is whole."""
        if answer is None:
            body = {"status": "error", "input": task.name, "error": error.message if error else ""}
            return self.results.write(task.name + ERROR, _encoded({**body, "timestamp": stamp(time.time())}))
        results = dict(answer["results"])
        picture = results.get("annotated")
        if isinstance(picture, str) and picture.startswith("data:image/"):
            kind, _, text = picture.removeprefix("data:image/").partition(";base64,")
            ending = "jpg" if kind == "jpeg" else kind
            name = f"{task.name}{ANNOTATED}.{ending}"
            self.results.write(name, base64.b64decode(text))
            results["annotated"] = name.rpartition("/")[2]
        self.results.write(task.name + DONE, _encoded({**answer, "input": task.name, "results": results}))
        if task.name + ERROR in there:
            self.results.remove(task.name + ERROR)

    def _told(self) -> None:
        count = self.count
        ended = count.done + count.failed + count.skipped
        failed = f", {count.failed} failed" if count.failed else ""
        self.state.tell(f"{ended} of {self.total}{failed}", ended / self.total if self.total else 1.0)

    def _summary(self, began: float) -> dict[str, Any]:
        count = self.count
        return {
            "job_id": self.state.job_id, "model": self.state.name, "model_type": self.state.model_type,
            "total": self.total, "done": count.done, "failed": count.failed, "skipped": count.skipped,
            "started_at": stamp(began), "ended_at": stamp(time.time()), "took_s": round(time.time() - began, 3),
            "failures": sorted(count.failures, key=lambda failure: failure["input"])[:MAX_SHOWN],
        }  # fmt: skip


def _encoded(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
