"""The other ways in: /services/NAME/…, a service's own port, and /modelport/…"""

import asyncio
import contextlib
import json
import queue
import socket
import threading

import httpx
import pytest

from modelport.errors import ModelportError
from modelport.gateway.server import serve
from modelport.settings import Settings
from modelport.store import services
from tests.gateway.world import PLAIN, Engine, World, chat, free_port, until


def test_listed_paths_of_an_engine_are_reachable_by_name_and_by_id(world: World, engine: Engine) -> None:
    own = world.engine()
    service = world.service("proxied", own)
    for ref in ("proxied", service.id):
        answer = world.http.post(f"/services/{ref}/tokenize?x=1", json={"content": "a b c"})
        assert answer.json()["count"] == 3
        assert own.seen()["path"] == "/tokenize?x=1"
    assert world.http.get("/services/proxied/v1/models").json()["data"][0]["object"] == "model"
    for method, path in (("GET", "tokenize"), ("GET", "health"), ("GET", "seen"), ("DELETE", "v1/models")):
        assert world.http.request(method, f"/services/proxied/{path}").status_code == 404, path
    assert world.http.get("/services/unknown/v1/models").status_code == 404
    assert world.http.get("/services/proxied").status_code == 404


def test_inference_through_the_prefix_is_metered_and_needs_no_model(world: World, engine: Engine) -> None:
    path = "/services/tiny/v1/chat/completions"
    answer = world.http.post(path, json=chat(), headers={"x-request-id": "prefixed"})
    assert answer.status_code == 200
    assert world.line("prefixed")["output_tokens"] == 8
    assert world.line("prefixed")["route"] == "/v1/chat/completions"
    streamed = world.http.post(path, json=chat(stream=True))
    assert '"usage": {' not in streamed.text
    assert world.http.post(path, json=chat("gpt-9")).status_code == 200  # not a service: the address decides


def test_the_allow_list_holds_for_v1_through_the_prefix_too(world: World) -> None:
    own = world.engine()
    service = world.service("narrow")
    world.instance(service, own, routes=("POST /v1/embeddings",))
    world.settle()
    assert world.http.post("/services/narrow/v1/chat/completions", json=chat()).status_code == 404
    assert world.http.post("/services/narrow/v1/embeddings", json={"input": "a"}).status_code == 200
    assert own.seen()["requests"] == 1


def test_another_services_model_at_this_ones_address_is_404(world: World, engine: Engine) -> None:
    world.service("another", world.engine())
    answer = world.http.post("/services/another/v1/chat/completions", json=chat("tiny"))
    assert answer.status_code == 404 and answer.json()["error"]["param"] == "model"


def test_a_services_own_port_serves_that_service_only(world: World, engine: Engine) -> None:
    own, port = world.engine(), free_port()
    world.service("ported", own, port=port)
    until(lambda: not world.heartbeat().problems and _open(port))
    client = world.client(world.admin, port)
    assert client.post("/v1/chat/completions", json=chat()).status_code == 200
    assert client.post("/v1/chat/completions", json=chat("gpt-9")).status_code == 200
    assert client.post("/v1/chat/completions", json=chat("tiny")).status_code == 404
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["ported"]
    assert client.get("/healthz").status_code == 200
    assert client.post("/tokenize", json={"content": "a"}).json()["count"] == 1
    for path in ("/modelport/v1/services", "/metrics", "/readyz", "/services/ported/tokenize", "/seen", "//tokenize"):
        assert client.get(path).status_code == 404, path
    assert PLAIN.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=chat()).status_code == 401


def _open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_without_a_lock_needs_no_key_and_closes_with_its_service(world: World) -> None:
    port = free_port()
    service = world.service("open", world.engine(), port=port, auth="none")
    until(lambda: _open(port))
    url = f"http://127.0.0.1:{port}"
    answer = PLAIN.post(url + "/v1/chat/completions", json=chat("open"), headers={"x-request-id": "nobody"})
    assert answer.status_code == 200 and world.line("nobody")["key_id"] == "-"
    assert PLAIN.get(url + "/modelport/v1/services").status_code == 404
    assert PLAIN.post(world.url + "/v1/chat/completions", json=chat("open")).status_code == 401
    with httpx.Client(base_url=url) as kept:
        assert kept.get("/v1/models").status_code == 200
        with world.store.write() as tx:
            spec = service.spec.model_copy(update={"auth": "key"})
            services.update(tx, services.find(tx, service.id), 1.0, spec=spec)
        world.settle()
        assert kept.get("/v1/models").status_code == 401  # the open connection has no old rights
    with world.store.write() as tx:
        services.update(tx, services.find(tx, service.id), 1.0, desired="removed")
    until(lambda: not _open(port))


def test_a_port_that_is_taken_is_reported_and_opened_once_it_is_free(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = world.service("late-port", world.engine(), port=port)
        problem = until(lambda: world.heartbeat().problems.get(service.id))
        assert str(port) in problem and "use" in problem
    until(lambda: _open(port) and service.id not in world.heartbeat().problems)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_modelport_routes_go_to_control_without_the_clients_key(world: World, method: str) -> None:
    path = "/modelport/v1/services/x%2Fy?tail=3"
    content = b'{"a":1}' if method != "GET" else b""
    answer = world.http.request(method, path, content=content, headers={"x-api-key": "mp-x", "x-other": "1"})
    assert answer.status_code == 200 and answer.json() == {"got": content.decode(), "path": path}
    call = world.control.calls[-1]
    assert call["method"] == method and call["headers"]["x-other"] == "1"
    assert not {"authorization", "x-api-key"} & {name.lower() for name in call["headers"]}
    assert answer.headers["x-request-id"] and "server" not in answer.headers


def test_the_main_port_taken_is_one_sentence_and_nothing_else(fresh: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ModelportError) as caught:
            asyncio.run(serve(Settings(state_dir=fresh.directory, port=port), fresh.store))
    assert str(port) in caught.value.message and "--port" in caught.value.message
    assert fresh.heartbeat() is None


def test_serve_in_a_thread_with_the_plain_loop_ends_in_good_order_when_cancelled(fresh: World) -> None:
    engine = fresh.engine()
    fresh.service("tiny", engine)
    settings = Settings(state_dir=fresh.directory, port=0)
    urls: queue.Queue[str] = queue.Queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(serve(settings, fresh.store, urls.put))

    def main() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    url = urls.get(timeout=10)
    headers = {"x-api-key": fresh.admin}
    assert PLAIN.post(url + "/v1/chat/completions", json=chat("tiny"), headers=headers).status_code == 200
    assert fresh.heartbeat().url == url
    loop.call_soon_threadsafe(task.cancel)
    thread.join(5)
    assert not thread.is_alive() and fresh.heartbeat() is None
    assert fresh.usage("tiny").requests == 1


def test_the_heartbeat_has_the_url_and_the_revision(world: World) -> None:
    beat = world.heartbeat()
    assert beat and beat.url == world.url and beat.revision > 0
    assert json.dumps(beat.problems)


def test_a_service_answers_to_what_it_is_served_as_too(world: World, engine: Engine) -> None:
    world.service("qwen3-8b", world.engine(), served_name="Qwen/Qwen3-8B")
    for name in ("qwen3-8b", "Qwen/Qwen3-8B"):
        assert world.http.post("/v1/chat/completions", json=chat(name)).status_code == 200
        assert world.http.get(f"/v1/models/{name}").json()["id"] == name
    assert {"qwen3-8b", "Qwen/Qwen3-8B", "tiny"} <= {m["id"] for m in world.http.get("/v1/models").json()["data"]}


def test_a_key_for_a_service_holds_for_what_it_is_served_as(world: World, engine: Engine) -> None:
    world.service("mine", world.engine(), served_name="Org/Mine")
    world.service("theirs", world.engine(), served_name="Org/Theirs")
    mine = {"authorization": f"Bearer {world.key(models=['mine'])}"}
    answered = [
        httpx.post(f"{world.url}/v1/chat/completions", json=chat(name), headers=mine).status_code
        for name in ("Org/Mine", "Org/Theirs")
    ]
    assert answered == [200, 403]
    listed = httpx.get(f"{world.url}/v1/models", headers=mine).json()["data"]
    assert {model["id"] for model in listed} == {"mine", "Org/Mine"}


def test_a_service_own_name_wins_over_what_another_is_served_as(world: World) -> None:
    first, second = world.engine(), world.engine()
    world.service("wanted", first)
    world.service("other", second, served_name="wanted")
    assert world.http.post("/v1/chat/completions", json=chat("wanted")).status_code == 200
    assert (first.seen()["requests"], second.seen()["requests"]) == (1, 0)


def test_health_on_a_service_own_port_is_whether_it_is_ready(world: World) -> None:
    asleep, awake = free_port(), free_port()
    world.service("asleep", port=asleep)
    world.service("awake", world.engine(), port=awake)
    until(lambda: httpx.get(f"http://127.0.0.1:{awake}/health").status_code == 200)
    assert httpx.get(f"http://127.0.0.1:{asleep}/health").status_code == 503
    assert httpx.get(f"{world.url}/health").status_code == 200
