"""Our own runtime as an engine: which models it takes, and the command that starts it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelport import engines, planner
from modelport.catalog.size_only import size_only
from modelport.domain.facts import Adapter, ModelFacts
from modelport.domain.launch import ENGINE_KEY, HOST, PORT
from modelport.domain.plan import Device
from modelport.domain.spec import Batch, Spec
from modelport.engines.modelport import HF_PYTHON
from modelport.errors import ModelportError

CPU = Device("cpu", "CPU", 1 << 36, 1 << 35)
DIGITS = replace(size_only("m", "/models/digits", "onnx", 200_000), task="classify")
LLAMA = size_only("m", "/models/llama", "safetensors", 1 << 28)
ENGINE = engines.load("modelport")


def launch(facts: ModelFacts, **fields: Any):
    spec = Spec(model="m", name="it", **fields)
    return ENGINE.launch(facts, planner.plan(facts, spec, [CPU], "modelport"), spec)


def after(argv: tuple[str, ...], flag: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv) if word == flag]


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python that stands for one with torch: which this is, does not matter to a command line."""
    monkeypatch.setenv(HF_PYTHON, sys.executable)
    return sys.executable


def test_the_command_of_a_classifier() -> None:
    made = launch(DIGITS, options={"score": 0.4, "labels": "names.txt"})
    assert made.argv[:3] == (sys.executable, "-m", "modelport.runtime")
    assert after(made.argv, "--model") == ["/models/digits"] and after(made.argv, "--task") == ["classify"]
    assert after(made.argv, "--host") == [HOST] and after(made.argv, "--port") == [PORT]
    assert after(made.argv, "--option") == ["score=0.4", 'labels="names.txt"']
    assert "--disable_auto_deletion" in made.argv, "control ends what idles"
    assert made.secret_env["MODELPORT_ENGINE_KEY"] == ENGINE_KEY
    assert made.health_path == "/api/v1/health/readiness" and made.progress_path is None
    assert "POST /api/v1/inference" in made.routes and "POST /v1/chat/completions" not in made.routes


def test_a_batch_tells_how_far_it_is_and_a_job_when_it_would_end() -> None:
    made = launch(DIGITS, job=True, idle_timeout=90, batch=Batch(input="/in", results="/out", request={"top_k": 1}))
    (batch,) = after(made.argv, "--batch")
    assert json.loads(batch) == {"input": "/in", "results": "/out", "request": {"top_k": 1}}
    assert made.progress_path == "/api/v1/status"
    assert made.env["MODELPORT_IDLE_S"] == "90"


def test_a_language_model_runs_in_the_python_that_has_torch(torch: str) -> None:
    made = launch(LLAMA, dtype="bfloat16")
    assert made.argv[0] == torch and after(made.argv, "--option") == ['torch_dtype="bfloat16"']
    assert "POST /v1/chat/completions" in made.routes


def test_an_adapter_goes_with_its_base(torch: str) -> None:
    made = launch(replace(LLAMA, adapter=Adapter("/models/lora", 8, 1000)))
    assert after(made.argv, "--model") == ["/models/lora"]
    assert set(after(made.argv, "--option")) == {"enable_lora=true", 'base_model_path="/models/llama"'}


def test_an_archive_says_by_itself_what_it_is_for() -> None:
    made = launch(size_only("m", "/models/m.tar.gz", "archive", 1 << 20))
    assert after(made.argv, "--task") == []
    assert {"POST /api/v1/inference", "POST /v1/chat/completions", "POST /v1/embeddings"} <= set(made.routes)


def test_what_it_lacks_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HF_PYTHON, raising=False)
    refused = ENGINE.supports(LLAMA)
    assert "torch" in refused and "pip install 'modelport[hf]'" in refused
    assert "gguf" in ENGINE.supports(replace(LLAMA, format="gguf"))
    assert "pytorch" in ENGINE.supports(replace(LLAMA, format="pytorch")), "pickles run code when they are read"


def test_a_python_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HF_PYTHON, str(tmp_path / "nothing"))
    with pytest.raises(ModelportError, match="which is no file"):
        launch(LLAMA)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": {"scor": 1}}, "Did you mean 'score'"),
        ({"quantization": "fp8"}, "has no quantization"),
        ({"tensor_parallel": 2}, "has no tensor_parallel"),
        ({"engine_args": ("--x",)}, "takes `options`"),
    ],
)
def test_what_it_does_not_know_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelportError, match=words):
        launch(DIGITS, **fields)
