"""The requests under way, as the gateway tells them."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelport.domain.states import ServiceState
from tests.gateway.world import World, chat, until

PATH = "/modelport/v1/requests"


@pytest.fixture
def busy() -> Iterator[World]:
    world = World()
    try:
        yield world.gateway()
    finally:
        world.close()


def under_way(world: World, **wanted: Any) -> dict[str, Any]:
    """The one request that is as wanted, once there is one."""

    def look() -> dict[str, Any] | None:
        found = world.http.get(PATH).json()
        return next((view for view in found if all(view[name] == wanted[name] for name in wanted)), None)

    return until(look, what=f"a request with {wanted}")


def begin(world: World, body: dict[str, Any]) -> threading.Thread:
    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):  # its gateway ended with the test
            httpx.post(
                f"{world.url}/v1/chat/completions", json=body, timeout=20, trust_env=False,
                headers={"authorization": f"Bearer {world.admin}"},
            )  # fmt: skip

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def test_a_stream_is_seen_from_its_arrival_to_its_end(busy: World) -> None:
    busy.service("tiny", busy.engine())
    before = begin(busy, chat("tiny", stub={"delay_s": 1.0}))
    sent = under_way(busy, state="sent", service="tiny")
    assert sent["instance"].startswith("i-") and sent["key"].startswith("key-") and sent["first_byte_s"] is None
    assert (sent["route"], sent["model"], sent["stream"]) == ("/v1/chat/completions", "tiny", False)
    begin(busy, chat("tiny", stream=True, stub={"tokens": 40, "token_s": 0.05}))
    streaming = under_way(busy, state="streaming")
    assert streaming["stream"] and streaming["first_byte_s"] <= streaming["age_s"]
    more = until(lambda: (view := under_way(busy, state="streaming"))["tokens"] > streaming["tokens"] and view)
    assert more["id"] == streaming["id"]
    before.join()
    until(lambda: not busy.http.get(PATH).json())


def test_requests_that_wait_say_what_for(busy: World) -> None:
    busy.service("full", busy.engine(), limits={"in_flight": 1})
    busy.service("asleep", state=ServiceState.IDLE)
    begin(busy, chat("full", stub={"delay_s": 3}))
    under_way(busy, service="full", state="sent")
    begin(busy, chat("full"))
    begin(busy, chat("asleep"))
    queued = under_way(busy, service="full", state="queued")
    held = under_way(busy, service="asleep", state="held")
    assert not queued["instance"] and not held["instance"] and queued["tokens"] == held["tokens"] == 0
    ages = [view["age_s"] for view in busy.http.get(PATH).json()]
    assert ages == sorted(ages, reverse=True) and len(ages) == 3


def test_only_who_may_operate_sees_them(busy: World) -> None:
    assert busy.client(busy.key("infer")).get(PATH).status_code == 403
    assert busy.client("mp-nobody").get(PATH).status_code == 401
    assert busy.client(busy.key("operate")).get(PATH).json() == []
