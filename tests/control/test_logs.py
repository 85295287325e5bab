"""Logs of running services, for many readers at once."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.harness import Serving, until


def test_the_lines_of_several_engines_say_whose_they_are(shared: Serving) -> None:
    shared.start("choir", replicas=2)
    shared.ready("choir")
    ids = {i.id for i in shared.client.status("choir").instances}
    said = list(shared.client.logs("choir", 10, follow=False))
    assert {line.split("] ")[0].strip("[") for line in said} == ids
    assert any("listening" in line for line in said)


def test_a_hundred_silent_followers_do_not_keep_control_from_answering(shared: Serving) -> None:
    shared.start("silent")
    shared.ready("silent")
    headers = {"authorization": f"Bearer {shared.admin_key}"}
    with ThreadPoolExecutor(100) as pool, httpx.Client(limits=httpx.Limits(max_connections=100)) as http:

        def follow(_: int) -> int:
            url = f"{shared.url}/modelport/v1/services/silent/logs?follow=true"
            with http.stream("GET", url, headers=headers, timeout=60) as answer:
                return len(list(answer.iter_lines()))

        followers = [pool.submit(follow, n) for n in range(100)]
        time.sleep(2)
        assert not any(follower.done() for follower in followers)
        assert shared.answers() and shared.client.status("silent").state == "ready"
        shared.client.stop("silent")  # the engine's end ends what follows it
        assert until(lambda: all(follower.done() for follower in followers), 30)
        assert all(follower.result() > 0 for follower in followers)
