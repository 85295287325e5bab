"""Idle stop and held wake-up: nobody asks, it sleeps; somebody asks, it wakes and answers."""

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.harness import Serving, until


def asleep(serving: Serving, name: str, switches: str = "", **fields: object) -> None:
    """A service that was ready once and sleeps now."""
    serving.start(name, switches, idle_timeout="1s", **fields)
    serving.ready(name)
    serving.reach(name, "idle", 15)
    until(lambda: not any(i.state != "gone" for i in serving.client.status(name).instances), 15, "its engines end")


def test_a_service_that_nobody_asks_sleeps_and_the_next_request_wakes_it(shared: Serving) -> None:
    asleep(shared, "sleepy", "--load-s 0.5")
    answer = shared.ask("sleepy")
    assert answer.status_code == 200
    assert re.search(r"service sleepy: instance \S+ is ready after .* s after it was woken", shared.log.read_text())


def test_requests_keep_a_service_awake_even_one_long_one(shared: Serving) -> None:
    shared.start("busy", "--token-s 0.4 --tokens 8", idle_timeout="1s")
    shared.ready("busy")
    answer = shared.ask("busy")  # takes three times the idle time
    assert answer.status_code == 200
    assert [i.state for i in shared.client.status("busy").instances].count("ready") == 1


def test_two_hundred_requests_on_a_sleeping_service_start_one_engine_and_sixty_four_wait(shared: Serving) -> None:
    asleep(shared, "herd", "--load-s 3")
    instances_before = len(shared.client.status("herd").instances)
    answers = asyncio.run(all_at_once(shared, "herd", 200))
    assert sum(answer.startswith("HTTP/1.1 200 ") for answer in answers) == 64
    refused = [answer for answer in answers if answer.startswith("HTTP/1.1 503 ")]
    assert len(refused) == 136
    for answer in refused:
        assert 1 <= int(re.findall(r"(?i)\r\nretry-after: (\d+)\r\n", answer)[0]) <= 60
        assert '"code":"not_ready"' in answer.replace(": ", ":")
    assert len(shared.client.status("herd").instances) == instances_before + 1


async def all_at_once(serving: Serving, name: str, count: int) -> list[str]:
    """So many chat requests at the same moment; the whole answers, headers and all."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hi"}]})
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {serving.admin_key}\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    )

    async def one() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(request.encode())
        answer = await reader.read()
        writer.close()
        return answer.decode()

    return list(await asyncio.wait_for(asyncio.gather(*(one() for _ in range(count))), 60))


def test_a_wake_that_fails_ends_a_held_stream_with_an_error_event(shared: Serving) -> None:
    asleep(shared, "broken")
    shared.switches("broken", "--load-s 3 --fail 'unknown model architecture: foo'")
    body = {"model": "broken", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    headers = {"authorization": f"Bearer {shared.admin_key}"}
    with httpx.stream("POST", f"{shared.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line]
    assert lines[0].startswith(": ")
    event = json.loads(lines[-1].removeprefix("data: "))
    assert event["error"]["code"] == "service_failed"
    assert shared.ask("broken").status_code == 503


def test_a_sleeping_service_that_is_changed_sleeps_on_and_wakes_as_it_is_wanted_now(shared: Serving) -> None:
    asleep(shared, "dreamer")
    spec = shared.client.status("dreamer").spec.model_copy(update={"context": 700})
    assert shared.client.apply([spec])[0].state == "idle"
    assert shared.ask("dreamer").status_code == 200
    assert shared.client.status("dreamer").spec.context == 700


def test_a_restart_wakes_a_sleeping_service(shared: Serving) -> None:
    asleep(shared, "early")
    shared.client.restart("early")
    shared.ready("early")


def test_requests_held_for_a_service_that_is_stopped_or_removed_are_told_so(shared: Serving) -> None:
    for end in (shared.client.stop, shared.client.remove):
        asleep(shared, "brief", "--load-s 20")
        with ThreadPoolExecutor(3) as pool:
            held = [pool.submit(shared.ask, "brief") for _ in range(3)]
            shared.reach("brief", "starting", 10)
            end("brief")
            answers = [request.result() for request in held]
        assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(503, "service_stopped")}
        shared.switches("brief", "")
        until(lambda: all(view.name != "brief" or view.state == "stopped" for view in shared.client.list()))


def test_a_change_of_only_the_idle_time_keeps_the_engine(shared: Serving) -> None:
    shared.start("steady")
    engine = shared.ready("steady").instances[0].pid
    spec = shared.client.status("steady").spec.model_copy(update={"idle_timeout": 7.0})
    shared.client.apply([spec])
    time.sleep(1.2)
    assert [i.pid for i in shared.client.status("steady").instances] == [engine]
    assert shared.client.status("steady").spec.idle_timeout == 7.0
