"""The model server as a process: what every route says in every state, how it fails, drains, idles and ends."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.harness import until
from tests.runtime.server import Server, toy

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
EMBED = {"input": "Hello"}
KEY = "engine-key-of-a-test"


def bodies(server: Server) -> dict[str, httpx.Response]:
    return {
        "inference": server.infer(prompt="x"),
        "chat": server.post("/v1/chat/completions", HELLO),
        "embeddings": server.post("/v1/embeddings", EMBED),
        "status": server.get("/api/v1/status"),
        "liveness": server.get("/api/v1/health/liveness"),
        "readiness": server.get("/api/v1/health/readiness"),
        "health": server.get("/health"),
        "models": server.get("/v1/models"),
    }


def statuses(said: dict[str, httpx.Response]) -> dict[str, int]:
    return {route: answer.status_code for route, answer in said.items()}


def in_background(act: Any) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    return thread, found


def test_every_route_answers_while_the_model_loads_and_when_it_is_ready(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = '{"job_id": "4d1f", "specs": {"model_path": "%s"}, "neural_network_name": "toy"}'
    with Server("--job", job % toy(tmp_path / "model", gate=str(gate))) as server:
        until(lambda: server.get("/api/v1/status").json()["model_loading"])
        said = bodies(server)
        early = {"inference": 202, "chat": 202, "embeddings": 202, "readiness": 503, "health": 503}
        always = {"status": 200, "liveness": 200, "models": 200}
        assert statuses(said) == {**early, **always}
        assert all(said[route].headers["retry-after"] == "5" for route in early)
        inference = said["inference"].json()
        assert inference.pop("timestamp")
        assert inference == {
            "status": "loading",
            "message": "Model is currently loading, please wait and try again",
            "job_id": "4d1f",
        }
        assert said["chat"].json()["error"]["type"] == "model_loading"
        assert said["readiness"].json()["reason"] == said["readiness"].json()["error"]["type"] == "model_loading"
        assert said["status"].json()["progress"]["details"] == {"share": 0.5}

        gate.touch()
        server.ready()
        said = bodies(server)
        assert statuses(said) == {**dict.fromkeys(early, 200), **always}
        inference = said["inference"].json()
        assert (inference["status"], inference["job_id"]) == ("completed", "4d1f")
        assert inference["message"] == "Inference completed successfully"
        assert inference["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        assert {"inference_time", "timestamp", "model_type", "echo"} <= set(inference["results"])
        assert said["readiness"].json()["model_type"] == "toy"
        assert said["models"].json()["data"][0]["id"] == "model"


def test_a_server_says_that_it_downloads_before_it_loads(tmp_path: Path) -> None:
    with Server("--model", "nobody/nothing", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path)) as server:
        until(lambda: server.get("/api/v1/status").json()["initialization_error"])
        assert "INFO modelport.runtime: downloading" in server.log
        ready = server.get("/api/v1/health/readiness").json()
        assert (ready["reason"], ready["error"]["type"]) == ("initialization_failed", "initialization_error")
        assert ready["retry"] is True
        assert "could not be reached" in ready["message"]


@pytest.mark.parametrize(
    ("fails", "sentence", "again"),
    [
        ("The file model.onnx is damaged.", "The file model.onnx is damaged.", False),
        ("crash", "It could not be loaded; the server's log says why.", False),
        ("memory", "The memory of this machine is not enough for it.", True),
    ],
)
def test_a_failed_load_is_told_on_every_route_and_the_process_stays(
    tmp_path: Path, fails: str, sentence: str, again: bool
) -> None:
    with Server("--model", toy(tmp_path / "m", fails=fails)) as server:
        until(lambda: server.get("/api/v1/status").json()["model_load_error"])
        said = bodies(server)
        assert {said[route].status_code for route in ("inference", "chat", "embeddings", "readiness", "health")} == {
            503
        }
        assert said["inference"].json()["error"] == f"Model failed to load: {sentence}"
        assert said["chat"].json()["error"] == {
            "type": "model_load_error",
            "message": f"Model failed to load: {sentence}",
        }
        assert said["readiness"].json()["reason"] == "model_load_failed"
        assert said["readiness"].json()["retry"] is again
        assert ("retry-after" in said["inference"].headers) is again
        assert said["status"].json()["status"] == "error"
        assert said["liveness"].status_code == 200
        assert not any("secret words" in answer.text for answer in said.values())
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--option", "color=red"), "'color' is no option of a toy."),
        (("--model", "/nowhere/at/all"), "The model is not there"),
    ],
)
def test_a_wrong_option_or_model_is_a_failed_initialization(tmp_path: Path, arguments: Any, sentence: str) -> None:
    with Server("--model", toy(tmp_path / "m"), *arguments) as server:
        failed = until(lambda: server.get("/api/v1/status").json()["initialization_error"])
        assert sentence in failed
        assert "/nowhere" not in server.get("/api/v1/status").text


def test_a_directory_that_no_handler_fits_says_what_would(tmp_path: Path) -> None:
    with Server("--model", tmp_path) as server:
        failed = until(lambda: server.get("/api/v1/status").json()["initialization_error"])
        assert "must be a directory with model.onnx" in failed


def test_sigterm_takes_nothing_new_and_answers_what_is_in_flight(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    with Server("--model", toy(tmp_path / "m", closed=str(closed))) as server:
        server.ready()
        thread, found = in_background(lambda: server.infer(delay_s=1.5))
        until(lambda: server.get("/api/v1/status").json()["last_request_time"])
        server.process.terminate()
        until(lambda: server.get("/health").status_code == 503)
        refused = server.infer(prompt="late")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"] == "This server is stopping; try again soon."
        assert server.get("/api/v1/health/readiness").json()["reason"] == "server_stopping"
        assert server.get("/api/v1/health/liveness").status_code == 200
        thread.join()
        assert found[0].status_code == 200
        assert server.wait() == 0
        assert closed.read_text() == "closed"


def test_a_load_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    with Server("--model", toy(tmp_path / "m", load_s=60)) as server:
        until(lambda: server.get("/api/v1/status").json()["model_loading"])
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10


def test_a_killed_server_leaves_its_port_to_the_next_one(tmp_path: Path) -> None:
    model = toy(tmp_path / "m")
    with Server("--model", model) as server:
        server.ready().process.kill()
        assert server.wait() < 0
        port = server.url.rpartition(":")[2]
        with Server("--model", model, "--port", port) as second:
            assert second.ready().infer(prompt="x").status_code == 200


def test_an_idle_server_says_why_and_ends_well(tmp_path: Path) -> None:
    with Server("--model", toy(tmp_path / "m"), "--idle_timeout_minutes", "0.02") as server:
        for _ in range(12):  # failed requests count as asking
            if server.get("/health").status_code == 200:
                assert server.infer(breaks=True).status_code == 500
            time.sleep(0.2)
        assert server.process.poll() is None
        while server.process.poll() is None:  # health and status do not
            try:
                server.get("/api/v1/status")
            except httpx.HTTPError:
                break
            time.sleep(0.1)
        assert server.wait() == 0
        assert "no inference request for 0.02 minutes" in server.log


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--disable_auto_deletion",), {}),
        ((), {"DEBUG_ENABLED": "true"}),
        (("--docker_env_vars", '{"DEBUG_ENABLED": true}'), {}),
    ],
)
def test_idling_can_be_switched_off(tmp_path: Path, arguments: Any, env: dict[str, str]) -> None:
    with Server("--model", toy(tmp_path / "m"), "--idle_timeout_minutes", "0.005", *arguments, **env) as server:
        server.ready()
        assert server.get("/api/v1/status").json()["auto_deletion_enabled"] is False
        time.sleep(0.6)
        assert server.infer(prompt="x").status_code == 200


def test_with_a_key_only_liveness_answers_strangers(tmp_path: Path) -> None:
    with Server("--model", toy(tmp_path / "m"), MODELPORT_ENGINE_KEY=KEY) as server:
        server.ready()
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
            with httpx.Client(base_url=server.url, headers=headers) as stranger:
                for path in ("/api/v1/status", "/api/v1/health/readiness", "/health", "/v1/models", "/nowhere"):
                    assert stranger.get(path).status_code == 401
                for path in ("/api/v1/inference", "/v1/chat/completions", "/v1/embeddings"):
                    assert stranger.post(path, json={"prompt": "x"}).status_code == 401
                assert stranger.get("/api/v1/health/liveness").status_code == 200
        assert server.infer(prompt="x").status_code == 200


def test_no_secret_shows_in_arguments_logs_or_answers(tmp_path: Path) -> None:
    secrets = {
        "MODELPORT_ENGINE_KEY": KEY,
        "HF_TOKEN": "hf_secret_of_a_test",
        "AWS_SECRET_ACCESS_KEY": "aws-secret-of-a-test",
    }
    with Server("--model", toy(tmp_path / "m"), **secrets) as server:
        server.ready()
        texts = [answer.text for answer in bodies(server).values()]
        texts += [server.infer(breaks=True).text, server.infer(images=["s3://bucket/x.png"]).text]
        texts += [" ".join(psutil.Process(server.process.pid).cmdline())]
        assert server.stop() == 0
        texts.append(server.log)
        for secret in secrets.values():
            assert not any(secret in text for text in texts)
        assert KEY not in os.environ.values()


def test_without_a_key_a_public_address_is_warned_of(tmp_path: Path) -> None:
    with Server("--model", toy(tmp_path / "m"), "--host", "0.0.0.0") as server:
        assert server.log.count("anyone who reaches 0.0.0.0 may use this server") == 1


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    model = toy(tmp_path / "m")
    with Server("--model", model) as server:
        second = Server("--model", model, "--port", server.url.rpartition(":")[2])
        assert second.wait() == 1
        assert "cannot listen on 127.0.0.1:" in second.log
        assert "Traceback" not in second.log
