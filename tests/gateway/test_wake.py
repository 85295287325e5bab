"""Requests for a service that sleeps or starts."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from modelport.domain.states import ServiceState
from modelport.store import gateways, services, starts
from tests.gateway.world import PLAIN, World, chat, read_all, until

S = ServiceState


def post(world: World, name: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {world.admin}"}
    return PLAIN.post(world.url + "/v1/chat/completions", json=chat(name, **more), headers=headers)


def wakes_to_ready(world: World, service: services.Service, after_s: float = 0.0) -> None:
    """What control does about a wake call: an instance, ready after so long."""
    engine = world.engine()

    def wake() -> None:
        time.sleep(after_s)
        world.instance(service, engine)
        world.to(service, S.STARTING, S.READY)

    world.control.on_wake[service.id] = wake


def test_64_of_200_requests_are_held_and_the_others_told_to_come_back(world: World) -> None:
    service = world.service("herd", state=S.IDLE, wake_waiters=64)
    engine = world.engine()
    turned_away = threading.Semaphore(0)

    def wake() -> None:
        for _ in range(136):
            turned_away.acquire(timeout=20)
        world.instance(service, engine)
        world.to(service, S.STARTING, S.READY)

    world.control.on_wake[service.id] = wake

    def one(_: int) -> httpx.Response:
        answer = post(world, "herd")
        if answer.status_code == 503:
            turned_away.release()
        return answer

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(one, range(200)))
    assert sorted(a.status_code for a in answers) == [200] * 64 + [503] * 136
    refused = next(a for a in answers if a.status_code == 503)
    assert refused.json()["error"]["code"] == "not_ready" and refused.json()["error"]["estimate_s"] is None
    assert refused.headers["retry-after"] == "5"
    assert engine.seen()["requests"] == 64
    assert "service herd: held 64 requests for" in world.log.read_text()


def test_a_held_request_goes_on_soon_after_the_engine_is_ready(world: World) -> None:
    service = world.service("soon", state=S.IDLE)
    wakes_to_ready(world, service)
    start = time.monotonic()
    assert post(world, "soon").status_code == 200
    assert time.monotonic() - start < 1.5
    line = until(lambda: next((li for li in world.lines() if li["service"] == "soon"), None))
    assert 0 < line["queue_s"] <= line["total_s"]


def test_a_held_request_keeps_its_service_from_going_idle(world: World) -> None:
    service = world.service("held-wanted", state=S.STARTING, wake_timeout=1.5)
    with world.store.read() as tx:
        assert service.id not in gateways.last_requests(tx)
    before = time.time()
    post(world, "held-wanted")
    with world.store.read() as tx:
        assert gateways.last_requests(tx)[service.id] > before


def test_a_held_stream_hears_comments_with_the_estimate_then_the_answer(world: World) -> None:
    with world.store.write() as tx:
        starts.record(tx, model="m.gguf", engine="stub", seconds=3, planned_bytes=1, measured_bytes=1, now=1)
    service = world.service("patient", state=S.IDLE)
    wakes_to_ready(world, service, after_s=2.5)
    answer = post(world, "patient", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith(": waking patient, about 3 s\n\n")
    assert answer.text.endswith("data: [DONE]\n\n") and "tok7" in answer.text
    with world.store.write() as tx:
        tx.execute(starts.starts.delete())


@pytest.mark.parametrize("after_s", [0.3, 2.5], ids=["before anything was sent", "after the first comment"])
def test_a_wake_that_fails_ends_a_held_stream_with_an_error(world: World, after_s: float) -> None:
    service = world.service(f"fails-{after_s}".replace(".", "-"), state=S.STARTING)
    world.control.on_wake[service.id] = lambda: (time.sleep(after_s), world.to(service, S.FAILED))
    answer = post(world, service.name, stream=True)
    text = answer.text
    if after_s < 2:
        assert answer.status_code == 503
    else:
        assert answer.status_code == 200 and text.startswith(": waking") and "[DONE]" not in text
        text = text.strip().rsplit("\n\n", 1)[1].removeprefix("data: ")
    assert json.loads(text)["error"]["code"] == "service_failed"


def test_an_engine_that_refuses_after_comments_is_an_error_event(world: World) -> None:
    service = world.service("refuses", state=S.IDLE)
    wakes_to_ready(world, service, after_s=2.2)
    answer = post(world, "refuses", stream=True, stub={"status": 400, "x": 1})
    assert answer.status_code == 200 and '"code":"invalid_request"' in answer.text and "[DONE]" not in answer.text


def test_a_wait_ends_at_wake_timeout(world: World) -> None:
    world.service("never", state=S.IDLE, wake_timeout=0.5)
    start = time.monotonic()
    answer = post(world, "never")
    assert answer.status_code == 503 and 0.4 < time.monotonic() - start < 2
    assert answer.json()["error"]["code"] == "not_ready" and "retry-after" in answer.headers


def test_a_client_that_leaves_gives_its_place_back(world: World) -> None:
    service = world.service("place", state=S.IDLE, wake_waiters=1)
    key, data = world.admin, json.dumps(chat("place")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {len(data)}\r\n\r\n"
    with world.raw(head.encode() + data):
        until(lambda: 'modelport_held{service="place"} 1.0' in world.http.get("/metrics").text)
        assert post(world, "place").status_code == 503
    until(lambda: 'modelport_held{service="place"} 0.0' in world.http.get("/metrics").text)
    wakes_to_ready(world, service)
    assert post(world, "place").status_code == 200


def test_control_is_called_again_every_second_while_anybody_waits(world: World) -> None:
    service = world.service("insistent", state=S.IDLE, wake_timeout=2.3)
    post(world, "insistent")
    assert 2 <= world.control.wakes(service.id) <= 4
    assert world.control.calls[-1]["method"] == "POST"


def test_a_service_removed_while_it_is_waited_for_ends_the_wait(world: World) -> None:
    service = world.service("removed", state=S.STARTING)

    def remove() -> None:
        with world.store.write() as tx:
            services.update(tx, services.find(tx, service.id), time.time(), desired="removed")

    world.control.on_wake[service.id] = remove
    answer = post(world, "removed")
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "service_stopped"
    assert post(world, "removed").status_code == 404


def test_a_replica_that_crashed_is_waited_for_until_control_replaced_it(world: World) -> None:
    old = world.engine()
    service = world.service("crashed")
    row = world.instance(service, old)
    world.settle()
    old.stop()
    new = world.engine()

    def replace() -> None:
        time.sleep(1.2)  # the old one is tried again meanwhile
        world.drain(row)
        world.instance(service, new)

    world.control.on_wake[service.id] = replace
    assert post(world, "crashed").status_code == 200
    assert new.seen()["requests"] == 1


def test_requests_go_on_and_wakes_are_tried_while_control_is_down(fresh: World) -> None:
    engine = fresh.engine()
    fresh.service("up", engine)
    asleep = fresh.service("asleep", state=S.IDLE)
    fresh.control.stop()
    fresh.gateway()
    assert post(fresh, "up").status_code == 200
    answer = fresh.http.get("/modelport/v1/info")
    assert answer.status_code == 503 and "control" in answer.json()["error"]["message"]
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, fresh, "asleep")
        time.sleep(0.3)
        fresh.control.__post_init__()
        wakes_to_ready(fresh, asleep)
        assert held.result(10).status_code == 200


def test_a_held_stream_is_told_when_the_gateway_ends(fresh: World) -> None:
    fresh.service("asleep", state=S.IDLE, wake_timeout=1)
    fresh.gateway()
    data = json.dumps(chat("asleep")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {fresh.admin}\r\ncontent-length: {len(data)}\r\n\r\n"
    with fresh.raw(head.encode() + data) as sock:
        time.sleep(0.2)
        fresh.process.terminate()
        assert b"503 Service Unavailable" in read_all(sock)
    assert fresh.process.wait(5) == 0
