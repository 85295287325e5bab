"""`modelport tao`, as a user and as a script types it."""

import base64
import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelport.catalog.aliases import alias_directory
from modelport.cli import main
from modelport.errors import ModelportError
from modelport.tao import payload
from tests.harness import ROOT, Serving, environment, modelport, until

MODEL = str(next(alias_directory("smollm2").rglob("*.gguf")))
START = ("start", "--model-path", MODEL, "--engine", "stub", "--no-wait", "--arch")


def process(serving: Serving, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    done = modelport("tao", *arguments, state_dir=serving.state_dir, **more)
    assert "Traceback" not in done.stderr
    return done


@dataclass(frozen=True)
class Done:
    stdout: str
    stderr: str


def command(serving: Serving, *arguments: str, code: int = 0, **more: Any) -> Done:
    """A command in this process, which saves the start of another; its one sentence is on stderr where `code` is 1."""
    result = CliRunner().invoke(main.app, ["tao", *arguments, "--state-dir", str(serving.state_dir)], env=more)
    error = result.exception
    assert error is None or isinstance(error, ModelportError), result.output
    assert (error is not None) == bool(code), result.output + str(error)
    return Done(result.stdout, result.stderr + (error.message if isinstance(error, ModelportError) else ""))


def started(serving: Serving, arch: str = "tao-dataservices", *more: str) -> str:
    """The job id of a new service."""
    return announced(command(serving, *START, arch, *more).stdout, arch)


def announced(text: str, arch: str = "tao-dataservices") -> str:
    """The job id of the lines that tell a new service."""
    lines = text.splitlines()
    assert lines[0] == "Inference service started." and lines[2] == f"  Arch   : {arch}"
    assert lines[3].startswith("  URL    : http://localhost:8") and lines[3].endswith("/v1/chat/completions")
    assert lines[4:] == ["Use this Job ID to send requests or stop the service."]
    return lines[1].removeprefix("  Job ID : ")


@pytest.fixture(autouse=True)
def clean(shared: Serving) -> Iterator[None]:
    yield
    for view in shared.client.list():
        shared.client.remove(view.id)
    until(lambda: not shared.client.list(), what="all are gone")


def test_start_waits_and_says_what_it_waits_for_on_stderr(shared: Serving) -> None:
    done = process(shared, *(argument for argument in START if argument != "--no-wait"), "tao-dataservices")
    assert announced(done.stdout) and done.stderr.endswith("It is ready.\n")


def test_two_commands_at_once_never_share_a_port(shared: Serving) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: process(shared, *START, "tao-dataservices"), range(2)))
    assert len({announced(one.stdout) for one in done}) == 2
    found = json.loads(command(shared, "list", "--json").stdout)
    ports = [entry["host_port"] for job, entry in found.items() if job != "latest"]
    assert len(ports) == len(set(ports)) == 2


def test_a_script_decides_sampling_or_takes_the_defaults(shared: Serving) -> None:
    job = started(shared)
    refused = command(shared, "request", "--prompt", "Hi", "--max-tokens", "3", code=1)
    assert "--top-p (float, default 0.8), --temperature (float, default 0.7)" in refused.stderr
    done = command(shared, "request", "--prompt", "Hi", "--max-tokens", "3", "--defaults")
    assert (
        done.stdout.strip() and f"Sending to job_id={job} arch=tao-dataservices url=http://localhost:8" in done.stderr
    )
    all_given = ("--max-tokens", "3", "--top-p", "0.5", "--temperature", "0")
    assert command(shared, "request", "--arch", "tao-dataservices", "--prompt", "Hi", *all_given).stdout.strip()
    wrong = command(shared, "request", "--prompt", "Hi", "--defaults", "--guidance", "3", code=1)
    assert "tao-dataservices has no guidance" in wrong.stderr


def test_a_person_is_asked_for_each_parameter_and_enter_takes_the_default(shared: Serving) -> None:
    job = started(shared)
    master, slave = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.modelport", "tao", "request", "--prompt", "Hi", "--top-p", "0.5"],
        **{"cwd": ROOT, "env": environment(shared.state_dir), "stdin": slave, "stderr": slave},
        stdout=subprocess.PIPE,
    )
    os.close(slave)
    os.write(master, b"many\n7\n\n")
    out, _ = asking.communicate(timeout=60)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert asking.returncode == 0 and out.strip()
    assert "max_tokens (int, longest answer) [1024]:" in shown and "temperature (float, how freely) [0.7]:" in shown
    assert "max_tokens is 'many', but it is a whole number." in shown and "top_p" not in shown
    assert f"Sending to job_id={job}" in shown
    (engine,) = shared.client.status(job).instances
    assert engine.state == "ready"


def test_an_ambiguous_request_or_stop_is_refused_with_the_list(shared: Serving) -> None:
    first, second = started(shared), started(shared)
    other = started(shared, "cosmos-predict2.5")
    for arguments in (("request", "--prompt", "Hi", "--defaults"), ("stop",), ("status",), ("logs",)):
        refused = command(shared, *arguments, code=1).stderr
        assert all(f"job_id={job} arch=" in refused for job in (first, second, other))
    refused = command(shared, "request", "--arch", "tao-dataservices", "--prompt", "Hi", "--defaults", code=1).stderr
    assert first in refused and second in refused and other not in refused
    assert {view.id for view in shared.client.list() if view.desired == "running"} == {first, second, other}
    done = command(shared, "stop", first)
    assert (
        done.stderr.startswith(f"Stopping job_id={first}") and done.stdout == f"Inference service {first} is stopped.\n"
    )
    assert "No running inference service found for job_id" in command(shared, "stop", first, code=1).stderr


def test_a_body_of_another_architecture_is_refused_before_it_is_sent(shared: Serving, tmp_path: Path) -> None:
    started(shared)
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}], "guidance": 3}))
    refused = command(shared, "request", "--body", str(body), "--defaults", code=1).stderr
    assert "The body has guidance, which cosmos-predict2.5 understands" in refused
    started(shared, "cosmos-rl")
    refused = command(shared, "request", "--arch", "cosmos-rl", "--prompt", "Hi", "--defaults", code=1).stderr
    assert "cosmos-rl needs an image or a video in every request" in refused


def test_a_video_goes_into_a_file(shared: Serving, tmp_path: Path) -> None:
    started(shared, "cosmos-predict2.5")
    video = "data:video/mp4;base64," + base64.b64encode(b"a movie").decode()
    answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": video}}]})
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
    body = tmp_path / "body.json"
    forced = {"messages": [{"role": "user", "content": "A cat"}], "stub": {"raw": head + answer}}
    body.write_text(json.dumps(forced))
    asked = ("request", "--body", str(body), "--defaults")
    assert "give --output FILE" in command(shared, *asked, code=1).stderr
    done = command(shared, *asked, "--output", str(tmp_path / "cat.mp4"))
    assert (tmp_path / "cat.mp4").read_bytes() == b"a movie" and "cat.mp4" in done.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["body.json", "cat.mp4"]


def test_the_registry_is_exported_and_status_tells_one_service(shared: Serving, tmp_path: Path) -> None:
    job = started(shared)
    shared.client.status(job)
    path = tmp_path / "state.json"
    command(shared, "list", "--export", str(path))
    found = json.loads(path.read_text())
    assert found["latest"] == job and found[job]["network_arch"] == "tao-dataservices"
    told = json.loads(command(shared, "status", job, "--json").stdout)
    assert told["job_id"] == job and told["model"] == MODEL and told["state"] in ("planning", "starting", "ready")
    row = command(shared, "list").stdout.splitlines()[1]
    assert job in row and "tao-dataservices" in row


def test_a_dry_run_shows_everything_and_starts_nothing(shared: Serving, tmp_path: Path) -> None:
    dry = ("start", "--arch", "tao-dataservices", "--model-path", MODEL, "--dry-run")
    shown = command(shared, *dry).stdout
    assert shown.startswith(
        "image: nvcr.io/nvidia/tao/tao-toolkit:7.0.0-data-services (by tao_toolkit.data_services)\n"
    )
    assert "\nargv: " in shown and MODEL in shown and "TAO_EXECUTION_BACKEND" in shown and "\ndocker run: " in shown
    assert "registry.test/a:1 (by --image)" in command(shared, *dry, "--image", "registry.test/a:1").stdout
    versions = tmp_path / "versions.yaml"
    versions.write_text("images: {tao_toolkit: {data_services: 'registry.test/b:2'}}")
    assert "registry.test/b:2" in command(shared, *dry, "--versions", str(versions)).stdout
    assert "registry.test/b:2" in command(shared, *dry, MODELPORT_TAO_VERSIONS=str(versions)).stdout
    assert shared.client.list() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("start",), "--arch is needed"),
        (("start", "--arch", "cosmos-rl"), "--model-path is needed"),
        (("start", "--arch", "cosmos-rl", "--model-path", "s3://b/m"), "is in cloud storage"),
        (("start", "--arch", "cosmos-rl", "--model-path", "/m", "--option", "dtype"), "--option is NAME=VALUE"),
        (("start", "--arch", "cosmos-rl", "--model-path", "/m", "--env", "PATH=/x"), "'PATH' is no variable"),
        (("request", "--prompt", "Hi", "--defaults"), "start one with `modelport tao start`"),
        (("request", "--arch", "dino", "--prompt", "Hi"), "no inference service for the architecture 'dino'"),
        (("stop",), "No running inference service found"),
    ],
)
def test_what_cannot_be_is_one_sentence(shared: Serving, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in command(shared, *arguments, code=1).stderr


def test_no_secret_is_in_an_argument_a_file_or_an_output(shared: Serving, tmp_path: Path) -> None:
    secret: dict[str, Any] = {name: f"s3cret-of-{name.lower()}" for name in payload.SECRETS}
    arguments = ["--env", "HF_TOKEN=env:HF_TOKEN"]  # of the others the server would have to know the place
    done = process(shared, *START, "tao-dataservices", *arguments, **secret)
    assert announced(done.stdout)
    told = done.stdout + done.stderr
    for asked in (("list", "--json"), ("status", "--json"), ("logs",), ("list", "--export", str(tmp_path / "r.json"))):
        again = command(shared, *asked, **secret)
        told += again.stdout + again.stderr
    prompt = ("request", "--prompt", "take s3cret-of-hf_token", "--defaults")
    refused = command(shared, *prompt, code=1, **secret)
    assert "holds the value of HF_TOKEN" in refused.stderr
    value = command(shared, *START, "cosmos-rl", "--hf-token-ref", "s3cret-typed", code=1)
    assert "only the place of a secret" in value.stderr
    told += refused.stdout + refused.stderr + value.stdout + value.stderr
    files = [file for folder in (shared.state_dir, tmp_path) for file in folder.rglob("*") if file.is_file()]
    assert "s3cret" not in told and not [file for file in files if b"s3cret" in file.read_bytes()]
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # of a process that has ended
            assert b"s3cret" not in line.read_bytes()
