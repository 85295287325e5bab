"""TAO's door: a job's inference goes straight to its engine, and says 202, 503 or 404 where there is none."""

import base64
import io
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from modelport.domain.progress import Progress, Stage
from modelport.domain.states import InstanceState, ServiceState
from modelport.gateway.jobs import job_of
from modelport.store import instances, services
from modelport.store.services import Service
from tests.gateway.world import ROUTES, World, free_port

JOB_ROUTES = (*ROUTES, "POST /api/v1/inference", "GET /api/v1/status")
EXPERIMENT = "6f1d0b5e-0c39-4d52-9a3e-0d8c3b1f5a11"
NOBODYS = "0b0a5b43-8c7f-4f83-a1cd-7d6a5a0f3b62"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World().gateway()
    yield made
    made.close()


@pytest.fixture(scope="module")
def ready(world: World) -> Service:
    """A job with an engine."""
    job = world.service("net-1", job=True, labels={"tao.org": "acme"})
    world.instance(job, world.engine(), JOB_ROUTES)
    world.settle()
    return job


def v1(job: str, org: str = "acme", experiment: str = EXPERIMENT) -> str:
    return f"/api/v1/orgs/{org}/experiments/{experiment}/jobs/{job}/inference_microservice/inference"


def v2(job: str, org: str = "acme") -> str:
    return f"/api/v2/orgs/{org}/inference_microservices/{job}:inference"


def starting(world: World, name: str, progress: Progress | None, **spec: Any) -> Service:
    """A job on its way, whose engine says this of itself."""
    job = world.service(name, job=True, state=ServiceState.STARTING, **spec)
    row = world.instance(job, world.engine(), JOB_ROUTES)
    with world.store.write() as tx:  # an instance that is not ready yet
        tx.execute(instances.instances.delete().where(instances.instances.c.id == row.id))
        row = instances.insert(tx, row.launch, version="1", platform="process", engine="stub", now=0.0)
        if progress is not None:
            instances.update(tx, row, 0.0, state=InstanceState.INITIALIZING, progress=progress)
        services.update(tx, services.find(tx, job.id), 0.0, reason="")
    world.settle()
    return job


def png(width: int = 4, height: int = 4) -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize("path", [v1, v2])
def test_inference_goes_to_the_engine_at_both_versions(world: World, ready: Service, path: Any) -> None:
    answer = world.http.post(path(ready.id), json={"prompt": "hello", "model": "nvidia/nvdino-v2"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"]["response"] == "hello"
    assert answer.json()["status"] == "completed"


def test_it_is_metered_by_what_the_engine_says(world: World, ready: Service) -> None:
    before = world.usage(ready.name)
    answer = world.http.post(v2(ready.id), json={"prompt": "count me"})
    line = world.line(answer.headers["x-request-id"])
    assert line["route"] == "/api/v1/inference"
    assert line["output_tokens"] == 3
    assert before is None or world.usage(ready.name).requests >= before.requests


def test_pictures_reach_the_engine_as_they_came(world: World, ready: Service) -> None:
    pictures = [png(4), png(5)]
    answer = world.http.post(v2(ready.id), json={"images": pictures, "batch_size": 2})
    assert answer.json()["results"]["media"] == pictures
    one = world.http.post(v2(ready.id), json={"media": png(6), "prompt": "?"})
    assert one.json()["results"]["media"] == png(6)


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ("/etc/passwd", "base64"),
        ("file:///etc/passwd", "must be"),
        ("s3://bucket/cat.png", "workspace"),
        ("http://169.254.169.254/latest", "must be"),
        ("data:image/png;base64,!!!!", "base64"),
        ("data:image/png;base64,aGVsbG8=", "picture"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_sentence(world: World, ready: Service, media: str, words: str) -> None:
    answer = world.http.post(v2(ready.id), json={"media": media, "prompt": "?"})
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error_desc"]
    assert answer.json()["error_code"] == 1


def test_a_form_with_a_picture_is_passed_on(world: World, ready: Service) -> None:
    picture = base64.b64decode(png().partition(",")[2])
    answer = world.http.post(v2(ready.id), files={"image": ("cat.png", picture, "image/png")}, data={"top_k": "3"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"]["bytes"] > len(picture)


def test_a_form_is_counted_and_looked_at_like_anything_else(world: World) -> None:
    job = world.service("net-form", job=True, price={"image": 1})
    with world.store.write() as tx:
        services.update(tx, services.find(tx, job.id), 0.0, plan={"task": "classify", "context_tokens": 0})
    world.instance(job, world.engine(), JOB_ROUTES)
    world.settle()
    picture = base64.b64decode(png().partition(",")[2])
    texts = {"images[]": [png(), png(5)], "image": png(6), "top_k": "1"}
    answer = world.http.post(v2(job.id), files={"file": ("a.png", picture, "image/png")}, data=texts)
    assert answer.status_code == 200, answer.text
    assert world.line(answer.headers["x-request-id"])["images"] == 4
    for data, files, words in (
        ({"images": "http://127.0.0.1/x.png"}, {}, "must be"),
        ({"image": "hello"}, {}, "base64"),
        ({}, {"image": ("a.png", b"no picture", "image/png")}, "picture"),
        ({"max_new_tokens[]": "many"}, {}, "whole number"),
        ({"chat_template[]": "x"}, {}, "chat_template"),
    ):
        refused = world.http.post(v2(job.id), data=data, files=files or {"x": ("", b"", "")})
        assert refused.status_code == 400 and words in refused.json()["error_desc"], (data, refused.text)


def test_a_form_without_a_file_is_a_question_like_any_other(world: World, ready: Service) -> None:
    head = {"content-type": "multipart/form-data; boundary=b"}
    body = b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nhello\r\n--b--\r\n'
    assert world.http.post(v2(ready.id), content=body, headers=head).status_code == 200


def test_pictures_beside_a_tools_arguments_are_counted_too(world: World, ready: Service) -> None:
    answer = world.http.post(v2(ready.id), json={"type": "tool_use", "input": ["/etc/passwd"]})
    assert answer.status_code == 400 and "base64" in answer.json()["error_desc"]


def test_a_body_of_too_many_values_is_refused_before_it_is_decoded(world: World, ready: Service) -> None:
    answer = world.http.post(v2(ready.id), content=b'{"a":[' + b"{}," * 600_000 + b"{}]}")
    assert answer.status_code == 413 and "values" in answer.json()["error_desc"]


def test_cloud_addresses_are_for_services_with_a_workspace(world: World) -> None:
    job = world.service("net-ws", job=True, workspace="lab")
    world.instance(job, world.engine(), JOB_ROUTES)
    world.settle()
    answer = world.http.post(v2(job.id), json={"media": ["s3://bucket/cat.png"]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"]["media"] == ["s3://bucket/cat.png"]


@pytest.mark.parametrize(
    ("progress", "status", "word", "words"),
    [
        (None, 202, "initializing", "Server is initializing (downloading files, setting up), please wait"),
        (
            Progress(Stage.DOWNLOADING),
            202,
            "initializing",
            "Server is initializing (downloading files, setting up), please wait",
        ),
        (Progress(Stage.LOADING), 202, "loading", "Model is currently loading, please wait and try again"),
    ],
)
def test_a_job_on_its_way_is_not_waited_for(
    world: World, progress: Progress | None, status: int, word: str, words: str
) -> None:
    job = starting(world, f"net-{uuid.uuid4().hex[:6]}", progress)
    answer = world.http.post(v2(job.id), json={"prompt": "hi"})
    assert (answer.status_code, answer.json()["status"]) == (status, word)
    assert answer.json()["message"] == words
    assert answer.json()["job_id"] == job.id
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("reason", ["Model failed to load: CUDA out of memory", "Server initialization failed: no net"])
def test_a_job_that_failed_says_why(world: World, reason: str) -> None:
    job = world.service(f"net-{uuid.uuid4().hex[:6]}", job=True, state=ServiceState.FAILED)
    with world.store.write() as tx:
        services.update(tx, services.find(tx, job.id), 0.0, reason=reason)
    world.settle()
    answer = world.http.post(v1(job.id), json={"prompt": "hi"})
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (503, "error", reason)


def test_a_reason_that_is_no_model_servers_own_is_its_owners_to_know(world: World) -> None:
    job = world.service("net-crash", job=True, state=ServiceState.FAILED)
    with world.store.write() as tx:
        services.update(tx, services.find(tx, job.id), 0.0, reason="its last line was: /home/ann/secret.py")
    world.settle()
    answer = world.http.post(v2(job.id), json={"prompt": "hi"})
    assert answer.status_code == 503 and "/home" not in answer.text and "its owner sees why" in answer.json()["error"]


def test_a_job_that_ended_is_gone_for_good(world: World) -> None:
    job = world.service("net-over", job=True, state=ServiceState.STOPPED)
    answer = world.http.post(v2(job.id), json={"prompt": "hi"})
    assert answer.status_code == 404
    assert "cannot be used again" in answer.json()["error_desc"]


def test_a_job_that_ended_is_in_no_list_of_models_and_has_no_health(world: World) -> None:
    job = world.service("net-listed", job=True, state=ServiceState.STOPPED)
    assert job.name not in [model["id"] for model in world.http.get("/v1/models").json()["data"]]
    assert world.http.get(f"/services/{job.name}/api/v1/status").status_code == 404


def test_a_key_for_another_model_is_told_nothing_of_a_job_on_its_way(world: World) -> None:
    job = starting(world, "net-secret", Progress(Stage.LOADING))
    other = world.client(world.key(models=("something-else",)))
    assert other.get(f"/services/{job.name}/api/v1/status").status_code == 403
    assert world.http.get(f"/services/{job.name}/api/v1/status").json()["model_loading"] is True


def test_a_job_whose_engine_was_lost_is_on_its_way_again(world: World) -> None:
    job = world.service("net-lost", job=True)
    engine = world.engine()
    world.instance(job, engine, JOB_ROUTES)
    world.settle()
    engine.stop()
    answer = world.http.post(v2(job.id), json={"prompt": "hi"})
    assert (answer.status_code, answer.json()["status"]) == (202, "initializing"), answer.text


def test_logins_may_be_tried_as_often_as_keys() -> None:
    world = World().gateway()
    try:
        assert world.http.post("/api/v1/login", content=b"x" * 20_000).status_code == 413
        world.control.status = 401
        tried = [world.http.post("/api/v2/login", json={"ngc_key": f"x{n}"}).status_code for n in range(14)]
        assert tried[:10] == [401] * 10 and tried[-1] == 429
    finally:
        world.close()


def test_unknown_jobs_and_other_organisations_are_not_found(world: World, ready: Service) -> None:
    for path in (v2(NOBODYS), v2(ready.id, "other"), v1(NOBODYS)):
        answer = world.http.post(path, json={"prompt": "hi"})
        assert (answer.status_code, answer.json()["error_code"]) == (404, 1)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (v2("not-a-uuid"), "Job ID passed is not a valid UUID"),
        (v1("x"), "Job ID passed is not a valid UUID"),
        (v1(NOBODYS, experiment="nope"), "Experiment ID passed is not a valid UUID"),
        (v2(NOBODYS, org="a%20b"), "organisation"),
    ],
)
def test_wrong_ids_are_said(world: World, path: str, words: str) -> None:
    answer = world.http.post(path, json={"prompt": "hi"})
    assert answer.status_code == 400
    assert words in answer.json()["error_desc"]


def test_no_key_and_another_models_key_are_refused_in_taos_shape(world: World, ready: Service) -> None:
    without = world.client("mp-nobody00000000")
    assert without.post(v2(ready.id), json={"prompt": "hi"}).json()["error_code"] == 1
    other = world.client(world.key(models=("something-else",)))
    answer = other.post(v2(ready.id), json={"prompt": "hi"})
    assert (answer.status_code, answer.json()["error_code"]) == (403, 2)
    own = world.client(world.key(models=(ready.name,)))
    assert own.post(v2(ready.id), json={"prompt": "hi"}).status_code == 200


def test_wrong_bodies_are_said(world: World, ready: Service) -> None:
    for body in (b"", b"[]", b"{", b'{"prompt": "a", "prompt": "b"}'):
        answer = world.http.post(v2(ready.id), content=body)
        assert answer.status_code == 400, body
        assert answer.json()["error_desc"]
    assert world.http.get(v2(ready.id)).status_code == 405


def test_by_the_common_chat_route_a_job_on_its_way_is_503_with_a_time(world: World) -> None:
    job = starting(world, "net-chat", Progress(Stage.LOADING))
    answer = world.http.post("/v1/chat/completions", json={"model": job.name, "messages": []})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_on_its_own_port_a_job_answers_as_its_container_would(world: World) -> None:
    port = free_port()
    job = starting(world, "net-port", Progress(Stage.LOADING), port=port)
    own = world.client(world.admin, port)
    assert own.get("/api/v1/health/readiness").json()["reason"] == "model_loading"
    assert own.get("/api/v1/status").json()["model_loading"] is True
    assert own.get("/api/v1/health/liveness").status_code == 200
    assert own.post("/api/v1/inference", json={"prompt": "x"}).status_code == 202
    chat = own.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    assert (chat.status_code, chat.json()["error"]["type"]) == (202, "model_loading")
    assert job.id == own.get("/api/v1/status").json()["job_id"]


def test_fifty_at_once_each_get_their_own_answer(world: World, ready: Service) -> None:
    def ask(number: int) -> bool:
        path = (v1 if number % 2 else v2)(ready.id)
        body = {"prompt": f"id-{number}", "images": [png(2 + number % 40)]}
        answer = world.http.post(path, json=body).json()
        return answer["results"] == {"response": body["prompt"], "media": body["images"]}

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(ask, range(200)))


def test_without_a_key_only_where_the_settings_have_it_and_only_from_here() -> None:
    world = World(tao_airgapped=True).gateway()
    try:
        job = world.service("net-1", job=True)
        world.instance(job, world.engine(), JOB_ROUTES)
        world.settle()
        sent = json.dumps({"prompt": "hi"}).encode()
        head = b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n%b\r\n%b"
        path = v2(job.id).encode()
        assert world.exchange(head % (path, b"localhost", len(sent), b"", sent))[0] == 200
        user = b"authorization: Bearer 5df41881-3aed-3515-88a7-2f4a814cf09e\r\n"
        assert world.exchange(head % (path, b"localhost", len(sent), user, sent))[0] == 200
        assert world.exchange(head % (path, b"evil.example", len(sent), b"", sent))[0] == 403
        wrong = b"authorization: Bearer mp-wrongwrong\r\n"
        assert world.exchange(head % (path, b"localhost", len(sent), wrong, sent))[0] == 401
        chat = b"/v1/chat/completions"
        assert world.exchange(head % (chat, b"localhost", len(sent), b"", sent))[0] == 401
    finally:
        world.close()


def test_paths_are_read_exactly() -> None:
    job = str(uuid.uuid4())
    assert job_of(v2(job)) == ("acme", job)
    assert job_of(v1(job.upper())) == ("acme", job)
