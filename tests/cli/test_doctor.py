"""`modelport doctor MODEL`: each thing that would stop a start is a row of its own."""

import json
import os
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.catalog.write_gguf import llama
from tests.harness import modelport


def examined(state_dir: Path, *arguments: str, code: int = 0, **more: str) -> dict[str, dict[str, object]]:
    done = modelport("doctor", *arguments, "--json", state_dir=state_dir, MODELPORT_PORT="0", **more)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_model_that_can_be_started_passes_every_check(state_dir: Path, tmp_path: Path) -> None:
    rows = examined(state_dir, str(llama(tmp_path / "m.gguf")), "--engine", "stub")
    assert all(row["ok"] for row in rows.values())
    assert str(rows["fits"]["found"]).startswith("It fits")
    assert rows["engine"]["found"] == "stub: the tests"
    assert rows["download"]["found"] == "nothing: it is on this machine"
    assert {"memory limit", "driver", "licence", "model"} <= set(rows)
    assert "token" not in rows, "the Hub is asked only for a model of the Hub"


@pytest.mark.parametrize(
    ("arguments", "row", "words"),
    [
        (["/nowhere/x.gguf"], "model", "No model"),
        (["smollm2", "--engine", "stub", "--parallel", "256", "--context", "8192"], "fits", "does not fit"),
        (["smollm2", "--engine", "frob"], "engine", "engine 'frob' is not known"),
    ],
)
def test_what_would_stop_a_start_is_wrong_and_exit_1(
    state_dir: Path, arguments: list[str], row: str, words: str
) -> None:
    rows = examined(state_dir, *arguments, code=1)
    assert not rows[row]["ok"] and words in str(rows[row]["found"])


def test_an_engine_that_is_not_installed_is_said(state_dir: Path, tmp_path: Path) -> None:
    """With nothing on PATH and only what this Python has, vLLM is not here."""
    from importlib.util import find_spec

    if find_spec("vllm"):
        pytest.skip("vllm is installed")
    rows = examined(state_dir, "smollm2", "--engine", "vllm", code=1)
    assert not rows["engine"]["ok"]


def test_a_driver_that_fails_is_said(state_dir: Path, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    smi.chmod(smi.stat().st_mode | stat.S_IXUSR)
    rows = examined(state_dir, code=1, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert rows["driver"] == {
        "ok": False,
        "found": "nvidia-smi fails: Failed to initialize NVML: Driver/library version mismatch",
    }


def test_a_driver_that_works_is_named_with_its_cuda(state_dir: Path, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho '| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |'\n"
    )
    smi.chmod(smi.stat().st_mode | stat.S_IXUSR)
    rows = examined(state_dir, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert rows["driver"]["found"] == "NVIDIA driver 550.54.15, CUDA up to 12.4"


class Hub(BaseHTTPRequestHandler):
    """Knows one token, and no model."""

    def do_GET(self) -> None:
        known = self.headers.get("authorization") == "Bearer hf_good"
        ours = self.path == "/api/whoami-v2"
        body = b'{"name": "ada"}' if ours and known else b"{}"
        self.send_response((200 if known else 401) if ours else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_the_hub_is_asked_whose_token_it_is_for_a_model_of_the_hub(state_dir: Path, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        there = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "XDG_CACHE_HOME": str(tmp_path)}
        good = examined(state_dir, "org/none", code=1, HF_TOKEN="hf_good", **there)
        assert good["token"] == {"ok": True, "found": "valid, of ada"} and not good["model"]["ok"]
        bad = examined(state_dir, "org/none", code=1, HF_TOKEN="hf_secret", **there)
        assert bad["token"]["found"] == "HF_TOKEN is not valid: make a new one in the Hub's settings."
        assert "hf_secret" not in json.dumps(bad) and "model" not in bad
        hub.shutdown()


def test_options_of_a_model_without_one_are_wrong_usage(state_dir: Path) -> None:
    assert modelport("doctor", "--context", "99", state_dir=state_dir).returncode == 2
