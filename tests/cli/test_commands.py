"""Each command, as a user types it: what it prints, its JSON, its exit code."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import ROOT, Serving, environment, modelport, until


def command(serving: Serving, *arguments: str, code: int = 0) -> str:
    done = modelport(*arguments, state_dir=serving.state_dir)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_service_from_start_to_rm(shared: Serving) -> None:
    assert "is ready at http://127.0.0.1" in command(shared, "start", "smollm2", "--engine", "stub", "--name", "tour")
    listed = json.loads(command(shared, "ps", "--json"))
    assert [(s["name"], s["state"]) for s in listed] == [("tour", "ready")]
    assert "tour" in command(shared, "ps") and "1/1" in command(shared, "ps")
    status = command(shared, "status", "tour")
    assert "ready" in status and "MEMORY" in status and "MiB" in status
    assert "listening" in command(shared, "logs", "tour") or command(shared, "logs", "tour") == ""
    assert command(shared, "restart", "tour").startswith("tour is ready")
    assert command(shared, "stop", "tour") == "tour is stopped\n"
    assert command(shared, "start", "smollm2", "--engine", "stub", "--name", "tour").startswith("tour is ready")
    assert command(shared, "rm", "tour") == "tour is removed\n"
    assert "no service 'tour'" in command(shared, "status", "tour", code=1)


def test_apply_makes_all_services_of_a_file(shared: Serving, tmp_path: Path) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(
        "services:\n"
        "  front: {model: smollm2, engine: stub, replicas: 2}\n"
        "  words: {model: smollm2, engine: stub, idle_timeout: 1h}\n"
    )
    said = command(shared, "apply", str(file))
    assert "front is ready" in said and "words is ready" in said
    assert len(shared.client.status("front").instances) == 2
    assert command(shared, "apply", str(file)) == said, "again changes nothing"
    for name in ("front", "words"):
        command(shared, "rm", name)


def test_logs_follow_until_the_reader_leaves(shared: Serving) -> None:
    shared.start("talkative")
    shared.ready("talkative")
    following = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.modelport", "logs", "-f", "talkative"],
        cwd=ROOT,
        env=environment(shared.state_dir),
        stdout=subprocess.PIPE,
    )
    time.sleep(1.5)
    assert following.poll() is None
    shared.client.stop("talkative")
    assert following.wait(20) == 0, "the engine's end is the end of its log"
    shared.client.remove("talkative")


def test_keys_are_made_scoped_listed_and_revoked(shared: Serving) -> None:
    shared.start("guarded")
    shared.start("secret")
    shared.ready("guarded")
    key = command(shared, "keys", "create", "for me", "--model", "guarded", "--expires", "1h").strip()
    until(lambda: shared.ask("guarded", key=key).status_code == 200, 5)
    assert shared.ask("secret", key=key).status_code == 403
    listed = command(shared, "keys", "list")
    assert "for me" in listed and key not in listed and key[:11] in listed
    assert "is revoked" in command(shared, "keys", "revoke", key[:11])
    time.sleep(1)
    assert shared.ask("guarded", key=key).status_code == 401
    assert "no key" in command(shared, "keys", "revoke", "key-000000", code=1)
    assert "over at once" in command(shared, "keys", "create", "--expires", "0", code=1)


def test_a_key_for_inference_cannot_operate(shared: Serving) -> None:
    key = command(shared, "keys", "create").strip()
    time.sleep(0.5)
    for method, path in (("GET", "services"), ("POST", "services"), ("GET", "keys"), ("GET", "services/x/logs")):
        answer = httpx.request(
            method, f"{shared.url}/modelport/v1/{path}", headers={"authorization": f"Bearer {key}"}, json={}
        )
        assert answer.status_code == 403, path


def test_the_rest_api_is_reachable_through_the_gateway_with_an_admin_key(shared: Serving) -> None:
    from modelport.client import Client

    remote = Client(shared.url, key=shared.admin_key)
    assert remote.info().gateways == 1
    assert remote.list_keys()


def test_usage_counts_what_was_asked(shared: Serving) -> None:
    shared.start("counted")
    shared.ready("counted")
    answers = [shared.ask("counted").json()["usage"] for _ in range(3)]

    def counted() -> bool:
        rows = [row for row in json.loads(command(shared, "usage", "--json")) if row["service"] == "counted"]
        return bool(rows) and rows[0]["output_tokens"] == sum(a["completion_tokens"] for a in answers)

    assert until(counted, 10)
    assert "counted" in command(shared, "usage")


def test_chat_talks_until_the_input_ends(shared: Serving) -> None:
    shared.start("chatty")
    shared.ready("chatty")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.modelport", "chat", "chatty"],
        cwd=ROOT,
        env=environment(shared.state_dir),
        input="Hello\nAgain\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_plan_says_whether_it_fits(shared: Serving) -> None:
    said = command(shared, "plan", "smollm2")
    assert said.startswith("It fits: needs about") and "weights" in said
    assert json.loads(command(shared, "plan", "smollm2", "--json"))["fits"] is True


def test_a_change_that_cannot_be_rolled_out_ends_with_a_sentence(shared: Serving, tmp_path: Path) -> None:
    shared.start("tried")
    shared.ready("tried")
    shared.switches("tried", "--fail 'unknown model architecture: foo'")
    file = tmp_path / "services.yaml"
    file.write_text("services: {tried: {model: smollm2, engine: stub, context: 333}}")
    said = command(shared, "apply", str(file), code=1)
    assert "tried could not be brought up as wanted" in said and "What ran before goes on" in said
    assert shared.ask("tried").status_code == 200
    shared.client.remove("tried")


def test_control_and_gateway_run_apart_on_one_state(state_dir: Path) -> None:
    with Serving(state_dir) as whole:  # makes the state, and shows that each part is locked by itself
        for part in ("control", "gateway"):
            done = modelport("serve", "--only", part, "--port", "0", state_dir=state_dir)
            assert done.returncode == 1 and "already serving" in done.stderr
        assert whole.answers()
    log = state_dir / "control.log"
    with log.open("w") as out:
        control = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.modelport", "serve", "--only", "control"],
            cwd=ROOT,
            env=environment(state_dir),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until(lambda: "control is serving at" in log.read_text(), 20)
        with gateway_alone(whole) as url:
            headers = {"authorization": f"Bearer {whole.admin_key}"}
            until(lambda: httpx.get(f"{url}/modelport/v1/info", headers=headers).status_code == 200, 10)
    finally:
        control.terminate()
        control.wait(30)


def test_a_second_serve_on_the_same_state_says_so(shared: Serving) -> None:
    done = modelport("serve", state_dir=shared.state_dir)
    assert done.returncode == 1
    assert "Modelport is already serving from" in done.stderr
    assert shared.answers(), "the first one goes on"


def test_config_show_prints_each_value_and_its_origin(state_dir: Path) -> None:
    done = modelport("config", "show", "--json", state_dir=state_dir, MODELPORT_PORT="9001")
    shown = json.loads(done.stdout)
    assert shown["port"] == {"value": 9001, "origin": "MODELPORT_PORT"}
    assert shown["host"]["origin"] == "default"
    assert "MODELPORT_STATE_DIR" in modelport("config", "show", state_dir=state_dir).stdout


def test_doctor_finds_what_is_wrong(state_dir: Path, shared: Serving) -> None:
    well = modelport("doctor", "--json", state_dir=state_dir, MODELPORT_PORT="0")
    assert well.returncode == 0, well.stdout
    taken = modelport("doctor", state_dir=state_dir, MODELPORT_PORT=str(shared.port))
    assert taken.returncode == 1 and f"Port {shared.port} is in use" in taken.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["keys", "--help"], ["run", "--help"]])
def test_help_and_version_need_nothing(state_dir: Path, arguments: list[str]) -> None:
    done = modelport(*arguments, state_dir=state_dir)
    assert done.returncode == 0 and done.stdout


def test_completion_can_be_shown(state_dir: Path) -> None:
    """Asked from a bash, which is how the command finds out what to print; `; true` keeps that bash there."""
    command = f"{sys.executable} -m tests.fakes.modelport --show-completion; true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment(state_dir), capture_output=True, text=True)
    assert "complete" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["start"], ["start", "a", "--context", "many"], ["ps", "--nope"]]
)
def test_wrong_usage_is_exit_2(state_dir: Path, arguments: list[str]) -> None:
    done = modelport(*arguments, state_dir=state_dir)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_keys_work_while_control_is_down(serving: Serving) -> None:
    serving.start("alone")
    serving.ready("alone")
    key = command(serving, "keys", "create").strip()
    until(lambda: serving.ask("alone", key=key).status_code == 200, 5)
    serving.end()
    with gateway_alone(serving) as url:
        body = {"model": "alone", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"authorization": f"Bearer {key}"}
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 200
        assert httpx.post(f"{url}/modelport/v1/keys", headers=headers, json=body).status_code == 403
        command(serving, "keys", "revoke", key[:11])
        until(lambda: httpx.get(f"{url}/v1/models", headers=headers).status_code == 401, 2, "revoked within a second")


@contextlib.contextmanager
def gateway_alone(serving: Serving) -> Iterator[str]:
    """The gateway by itself on the same state, while control is down."""
    log = serving.state_dir / "gateway.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.modelport", "serve", "--only", "gateway", "--port", "0"],
            cwd=ROOT,
            env=environment(serving.state_dir),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield until(lambda: re.search(r"serving at (http://\S+)/v1", log.read_text()), 20)[1]
    finally:
        process.terminate()
        process.wait(20)
