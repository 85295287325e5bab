"""`modelport run` with the stub engine: it answers, or serves until Ctrl-C, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from tests.harness import ROOT, Serving, environment, modelport, until

RUN = ("run", "smollm2", "--engine", "stub")


def of_state(state_dir: Path) -> list[psutil.Process]:
    """Every process that belongs to a state directory: its environment or command line names it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *(f"{k}={v}" for k, v in process.environ().items())]
        except psutil.Error:
            continue
        if any(str(state_dir) in word for word in words) and process.pid != os.getpid():
            found.append(process)
    return found


def test_a_prompt_is_answered_as_one_json_object_and_nothing_is_left(state_dir: Path) -> None:
    done = modelport(*RUN, "--prompt", "Hi", "--json", state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["text"] and answer["usage"]["prompt_tokens"] > 0 and answer["usage"]["completion_tokens"] > 0
    assert 0 < answer["ready_s"] < 60
    assert of_state(state_dir) == []
    assert list((state_dir / "runs").iterdir()) == []


def test_without_json_only_the_answer_is_on_stdout(state_dir: Path) -> None:
    done = modelport(*RUN, "--prompt", "Hi", state_dir=state_dir)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1 and "{" not in done.stdout
    assert "smollm2: " in done.stderr, "progress goes to stderr"


class Running:
    """`modelport run` without a prompt, under way."""

    def __init__(self, state_dir: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.modelport", *RUN, "--port", "0", "--json", *arguments],
            cwd=ROOT,
            env=environment(state_dir),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout
        self.said = json.loads(self.process.stdout.readline())

    def ask(self) -> httpx.Response:
        body = {"model": self.said["model"], "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"authorization": f"Bearer {self.said['key']}"}
        return httpx.post(f"{self.said['url']}/chat/completions", json=body, headers=headers)


def test_it_prints_a_url_a_key_and_a_curl_line_that_works_and_ctrl_c_ends_it(state_dir: Path) -> None:
    running = Running(state_dir)
    assert running.ask().status_code == 200
    curl = subprocess.run(running.said["curl"] + " --silent", shell=True, capture_output=True, text=True)
    assert "choices" in json.loads(curl.stdout)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(30) == 0
    assert of_state(state_dir) == []


def test_a_run_that_is_killed_takes_its_server_and_engine_with_it(state_dir: Path) -> None:
    running = Running(state_dir)
    running.process.kill()
    until(lambda: of_state(state_dir) == [], 20, "all processes end by themselves")
    old = next((state_dir / "runs").iterdir())
    os.utime(old, (1, 1))
    assert modelport(*RUN, "--prompt", "Hi", state_dir=state_dir).returncode == 0
    assert list((state_dir / "runs").iterdir()) == [], "the next run sweeps what it left"


def test_a_run_goes_on_when_its_gateway_is_killed(state_dir: Path) -> None:
    running = Running(state_dir)
    parents = [p for p in of_state(state_dir) if len(p.children()) == 2]
    children = [child for parent in parents for child in parent.children()]
    gateway = next(c for c in children if any(n.status == "LISTEN" for n in c.net_connections("tcp")))
    gateway.kill()
    assert until(lambda: running.ask().status_code == 200, 20)
    running.process.send_signal(signal.SIGHUP)  # as a terminal that is closed
    running.process.wait(30)
    assert of_state(state_dir) == []


def test_a_control_that_is_told_to_end_while_it_begins_still_stops_its_engines(serving: Serving) -> None:
    serving.start("kept")
    serving.ready("kept")
    os.kill(serving.process_of("control"), signal.SIGKILL)
    time.sleep(0.15)  # the next one is being started
    assert serving.end() == 0
    assert until(lambda: serving.engines() == {}, 5)


def test_two_runs_of_one_name_share_the_service_and_the_last_takes_it_away(serving: Serving) -> None:
    first, second = Running(serving.state_dir), Running(serving.state_dir)
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(30) == 0
    assert second.ask().status_code == 200
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(30) == 0
    assert serving.client.list() == []


def test_a_server_that_runs_already_is_used_and_kept(serving: Serving) -> None:
    serving.start("kept")
    serving.ready("kept")
    done = modelport(*RUN, "--prompt", "Hi", "--json", state_dir=serving.state_dir)
    assert done.returncode == 0, done.stderr
    assert [view.name for view in serving.client.list()] == ["kept"]
    assert [key.name for key in serving.client.list_keys() if not key.revoked_at] == ["bootstrap"]


def test_an_engine_that_fails_is_one_sentence_and_exit_1(state_dir: Path) -> None:
    (state_dir / "switches").mkdir(parents=True)
    (state_dir / "switches" / "smollm2").write_text("--fail 'unknown model architecture: foo'")
    done = modelport(*RUN, "--prompt", "Hi", state_dir=state_dir)
    assert done.returncode == 1
    assert re.search(
        r"^modelport: smollm2 failed: this engine does not know the model's architecture", done.stderr, re.M
    )
    assert "Traceback" not in done.stderr
    assert of_state(state_dir) == []


def test_help_is_quick_and_imports_no_server(state_dir: Path) -> None:
    code = "import sys, modelport.cli.main; print([m for m in ('fastapi', 'sqlalchemy', 'uvicorn', 'httpx') if m in sys.modules])"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", f"after {time.monotonic() - began:.2f} s"
