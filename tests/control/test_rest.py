"""The REST API while models are being looked up at a Hub that takes its time."""

import asyncio
import threading
from typing import Any, cast

import httpx

from modelport import lookups
from modelport.control import rest
from modelport.control.control import Control
from modelport.errors import ModelportError


class SlowControl:
    """Plans nothing before it is let."""

    def __init__(self) -> None:
        self.let, self.planning, self.lock = threading.Event(), 0, threading.Lock()

    def plan(self, _spec: object) -> None:
        with self.lock:
            self.planning += 1
        self.let.wait(60)
        raise ModelportError("It was looked up.")

    def list(self) -> list[object]:
        return []


async def _crowd(control: SlowControl, more: int) -> tuple[list[httpx.Response], httpx.Response, int]:
    transport = httpx.ASGITransport(rest.make_app(cast(Control, control)))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:

        def ask() -> Any:
            return client.post(f"{rest.PREFIX}/plan", json={"model": "org/name"})

        held = [asyncio.create_task(ask()) for _ in range(lookups.AT_A_TIME + lookups.WAITING)]
        while control.planning < lookups.AT_A_TIME:
            await asyncio.sleep(0.01)
        refused = [await asyncio.wait_for(ask(), 30) for _ in range(more)]
        services = await asyncio.wait_for(client.get(f"{rest.PREFIX}/services"), 30)
        at_once = control.planning
        control.let.set()
        return [*refused, *await asyncio.gather(*held)], services, at_once


def test_look_ups_have_threads_of_their_own_and_too_many_are_told_to_come_back() -> None:
    control = SlowControl()
    answers, services, at_once = asyncio.run(_crowd(control, 2))
    assert services.status_code == 200 and services.json() == []
    assert at_once == lookups.AT_A_TIME
    assert [(a.status_code, a.headers["retry-after"]) for a in answers[:2]] == [(503, "5")] * 2
    assert all("It was looked up." in answer.text for answer in answers[2:])
