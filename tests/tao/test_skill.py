"""TAO's skill as Python functions, against a whole Modelport; and a server that says what NVIDIA's says."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
import yaml

from modelport.catalog.aliases import alias_directory
from modelport.domain.service import ServiceView
from modelport.domain.spec import Spec
from modelport.domain.verbs import Verbs
from modelport.errors import ModelportError
from modelport.tao import arch as archs
from modelport.tao import content, images, payload, platforms, readiness, registry, reply, sampling, skill, wanted
from tests.harness import ROOT, Serving, until
from tests.tao.views import service

MODEL = str(next(alias_directory("smollm2").rglob("*.gguf")))
"""A model path that plans quickly; the stub engine reads nothing of it."""
SILENT = {"parameters": {"max_tokens": 5}, "defaults": True, "environ": {}}


def stub(arch: str = "tao-dataservices", **more: Any) -> skill.Wanted:
    return skill.Wanted(arch, MODEL, engine="stub", **more)


@pytest.fixture
def verbs(shared: Serving) -> Iterator[Verbs]:
    yield shared.client
    for view in shared.client.list():
        shared.client.remove(view.id)
    until(lambda: not shared.client.list(), what="all are gone")


def test_a_service_is_started_asked_listed_and_stopped(shared: Serving, verbs: Verbs) -> None:
    said: list[str] = []
    made = skill.start(verbs, stub())
    assert made.port is not None and 8080 <= made.port <= 8199
    ready = skill.wait(verbs, made.id, shared.admin_key, say=said.append)
    assert skill.announcement(ready) == (
        "Inference service started.",
        f"  Job ID : {made.id}",
        "  Arch   : tao-dataservices",
        f"  URL    : http://localhost:{made.port}/v1/chat/completions",
        "Use this Job ID to send requests or stop the service.",
    )
    answer = skill.request(verbs, shared.admin_key, "Hi", say=said.append, **SILENT)
    assert answer.job_id == made.id and answer.text and answer.video is None
    assert said[-1] == f"Sending to job_id={made.id} arch=tao-dataservices url=http://localhost:{made.port}"
    found = skill.list(verbs)
    assert set(found) == {made.id, "latest"} and found["latest"] == made.id
    assert found[made.id]["pid"] and found[made.id]["platform"] == "process"
    assert skill.facts(skill.status(verbs))["state"] == "ready"
    assert skill.stop(verbs, say=said.append).id == made.id
    assert said[-1].startswith(f"Stopping job_id={made.id} arch=tao-dataservices")
    assert skill.list(verbs) == {}


def test_services_that_start_at_once_never_share_a_port(verbs: Verbs) -> None:
    with ThreadPoolExecutor(6) as pool:
        ports = [view.port for view in pool.map(lambda _: skill.start(verbs, stub()), range(6))]
    assert len(set(ports)) == 6 and all(port is not None and 8080 <= port <= 8199 for port in ports)


def test_a_port_that_was_left_is_the_next_ones(verbs: Verbs) -> None:
    first, second = skill.start(verbs, stub()), skill.start(verbs, stub())
    assert second.port is not None and first.port is not None and second.port > first.port
    skill.stop(verbs, first.id)
    until(lambda: first.id not in {view.id for view in verbs.list()}, what="it is gone")
    assert skill.start(verbs, stub()).port == first.port


def test_a_service_that_the_skill_did_not_start_is_left_alone(shared: Serving, verbs: Verbs) -> None:
    other = shared.start("other")
    assert skill.list(verbs) == {}
    for act in (skill.stop, skill.status, skill.logs):
        with pytest.raises(ModelportError, match="No running inference service found for job_id=other"):
            act(verbs, "other")
    assert verbs.status("other").id == other.id and verbs.status("other").desired == "running"


def test_what_is_undecided_is_said_and_nothing_is_sent(shared: Serving, verbs: Verbs) -> None:
    made = skill.start(verbs, stub())
    with pytest.raises(ModelportError, match=r"--top-p \(float, default 0.8\), --temperature"):
        skill.request(verbs, shared.admin_key, "Hi", parameters={"max_tokens": 5}, environ={})
    with pytest.raises(ModelportError, match="at least 300 s"):
        skill.request(verbs, shared.admin_key, "Hi", timeout_s=30, **SILENT)
    with pytest.raises(ModelportError, match="not both"):
        skill.request(verbs, shared.admin_key, "Hi", body={"messages": []}, **SILENT)
    assert skill.wait(verbs, made.id, shared.admin_key).last_request_at is None


class Answering:
    """A server that gives these answers in turn to chats, and to its health route whatever `health` is."""

    def __init__(self, *answers: tuple[int, object], health: tuple[int, object] = (200, {})) -> None:
        self.answers, self.health = list(answers), health
        self.bodies: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.say(*outer.health)

            def do_POST(self) -> None:
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.say(*outer.answers.pop(0))

            def say(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.view = service(1, url=f"http://127.0.0.1:{self.server.server_port}/v1")

    # What of Verbs a request needs.
    def list(self) -> "list[ServiceView]":
        return [self.view]

    def status(self, _: str) -> ServiceView:
        return self.view

    def ask(self, **more: Any) -> skill.Answer:
        try:
            return skill.request(cast(Verbs, self), "key", more.pop("prompt", "Hi"), **{**SILENT, **more})
        finally:
            self.server.shutdown()
            self.server.server_close()


def said(text: str) -> tuple[int, object]:
    message = {"role": "assistant", "content": text}
    return 200, {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def error(status: int, type: str, message: str = "why") -> tuple[int, object]:
    return status, {"error": {"type": type, "message": message}}


@pytest.mark.parametrize(
    "early",
    [
        error(202, "server_initializing"),
        error(202, "model_loading"),
        error(503, "model_not_ready"),
        (503, {"status": "not_ready", "reason": "model_loading"}),
    ],
)
def test_a_service_that_loads_is_waited_for_and_asked_again(early: tuple[int, object]) -> None:
    server = Answering(early, said("Paris"))
    assert server.ask().text == "Paris"
    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (error(503, "initialization_error", "no disk"), "cannot be used: no disk. `modelport tao logs"),
        (error(503, "model_load_error", "corrupt"), "cannot be used: corrupt. `modelport tao logs"),
        (error(400, "invalid_request", "No JSON"), "refused the request: No JSON."),
        (error(500, "internal_error", "oops"), "could not answer: oops. `modelport tao logs"),
        ((200, {"choices": []}), "is no chat completion"),
        (error(429, "queue_full", "full"), "answered with status 429: full"),
    ],
)
def test_every_other_answer_is_a_sentence(answer: tuple[int, object], sentence: str) -> None:
    with pytest.raises(ModelportError) as raised:
        Answering(answer).ask()
    assert sentence in raised.value.message


def test_a_load_that_fails_while_it_is_waited_for_is_given_up() -> None:
    health = (503, {"status": "not_ready", "reason": "model_load_failed", "message": "Model failed to load: corrupt"})
    with pytest.raises(ModelportError, match="cannot be used: Model failed to load: corrupt"):
        server = Answering(error(202, "model_loading"), health=health)
        server.view = service(1, state="starting", url=server.view.url)
        server.ask()


def test_a_video_comes_as_bytes() -> None:
    data = "data:video/mp4;base64," + base64.b64encode(b"movie").decode()
    server = Answering(said(data))
    server.view = service(1, "cosmos-predict2.5", url=server.view.url)
    assert server.ask(parameters={"guidance": 3, "seed": 11}).video == b"movie"
    assert server.bodies == [
        {
            "messages": [{"role": "user", "content": "Hi"}],
            **{"max_tokens": 77, "guidance": 3, "num_steps": 35, "seed": 11, "inference_type": "text2world"},
        }
    ]
    with pytest.raises(ModelportError, match="is not base64"):
        reply.video("data:video/mp4;base64,***")


def test_a_secret_in_a_prompt_is_not_sent() -> None:
    server = Answering()
    with pytest.raises(ModelportError, match="holds the value of HF_TOKEN"):
        server.ask(prompt="use hf_0123456789", environ={"HF_TOKEN": "hf_0123456789"})
    assert server.bodies == []


# The agent's skill


def data(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "skills" / "tao-inference" / name).read_text())


def test_what_the_agent_looks_up_about_services_is_what_the_code_does() -> None:
    found = data("service.yaml")
    assert set(found["architectures"]) == set(archs.ARCHS)
    for name, arch in archs.ARCHS.items():
        facts, image = found["architectures"][name], images.resolve(name)
        assert facts["image_key"] == image.key
        assert image.uri == images.resolve(name, environ={f"IMAGE_{image.key}": facts["image"]}).uri
        assert ("hub_id" in facts["model_path"], facts["told_by"] == "job") == (arch.bare_hub_id, arch.job_payload)
    assert tuple(found["architectures"]["cosmos-predict2.5"]["asks_for"]["model_key"]) == wanted.MODEL_KEYS
    assert tuple(found["secrets"]) == payload.SECRETS and tuple(found["set_by_modelport"]) == payload.SET_HERE
    assert set(found["refused"]) == payload.FORBIDDEN and tuple(found["model_path"]["refused"]) == payload.CLOUDS
    assert found["ports"] == wanted.PORTS
    assert {k: tuple(v) for k, v in found["registry"].items() if k != "always"} == registry.FIELDS
    for name, platform in platforms.PLATFORMS.items():
        told = found["platforms"][name]
        assert told["backend"] == platform.backend
        assert tuple(told.get("also_called", ())) == platform.aliases
        assert {*told.get("must_have", ()), *told.get("may_have", ())} == set(platform.inputs)
        assert set(told.get("must_have", ())) == set(platform.required or ())


def test_what_the_agent_looks_up_about_requests_is_what_the_code_does() -> None:
    found = data("request.yaml")
    for arch, table in sampling.PARAMETERS.items():
        shown = {p.name: {"type": p.type, "default": p.default, "low": p.low, "high": p.high} for p in table}
        empty = {"low": None, "high": None}
        assert {name: {**empty, **told} for name, told in found["sampling"][arch].items()} == shown
        assert tuple(found["media"][arch]["reads"]) == content.SUFFIXES[arch]
        assert (found["media"][arch]["answers"] == "video") == (arch in skill.VIDEO_ARCHS)
    assert (found["health"]["every_s"], found["health"]["at_most_s"]) == (readiness.INTERVAL_S, readiness.TIMEOUT_S)
    assert found["timeout_s"] == reply.LEAST_TIMEOUT_S
    for answer in found["answers"]:
        for type in answer.get("types", []):
            verdict = readiness.read(answer["status"], {"error": {"type": type}}).verdict
            assert {"wait": "wait"}.get(answer["do"], "failed") == verdict or answer["status"] in (400, 500)


def test_a_spec_of_the_skill_survives_its_way_over_the_wire() -> None:
    spec = wanted.order(stub(options={"torch_dtype": "auto"}), {}).spec
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
