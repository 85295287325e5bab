"""Queue: the order of works, how they are joined, and that each ticket has exactly one answer."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.errors import ModelportError
from modelport.runtime.handler import Call, Result, Work
from modelport.runtime.work import Queue, Ticket


class Recorder:
    """A handler that keeps what it was given, and answers with the number of each work."""

    model_type, routes = "toy", frozenset(("inference",))

    def __init__(self, most: int, run: Callable[[Sequence[Work]], None] = lambda _: None) -> None:
        self.most, self.before = most, run
        self.runs: list[list[Work]] = []

    def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
        self.runs.append(list(works))
        self.before(works)
        return [Result({"number": work.ready}) for work in works]


def work(number: int, size: int = 1) -> Work:
    return Work(Call("inference", {}), size, number)


def ticket(left_s: float = 30) -> Ticket:
    return Ticket(time.monotonic() + left_s)


def serving(queue: Queue, handler: Any) -> threading.Thread:
    thread = threading.Thread(target=queue.serve, args=(handler,))
    thread.start()
    return thread


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 8))
def test_works_run_in_order_as_many_together_as_fit(sizes: list[int], most: int) -> None:
    async def scenario() -> None:
        queue, handler = Queue(100, 0.001), Recorder(most)
        tickets = [ticket() for _ in sizes]
        for number, size in enumerate(sizes):
            queue.arrive()
            queue.submit(work(number, size), tickets[number])
        thread = serving(queue, handler)
        answers = await asyncio.gather(*(one.answer for one in tickets))
        queue.close()
        thread.join(5)
        assert [answer.results["number"] for answer in answers] == list(range(len(sizes)))
        assert [one.ready for run in handler.runs for one in run] == list(range(len(sizes)))
        for run, following in zip(handler.runs, [*handler.runs[1:], None], strict=True):
            assert len(run) == 1 or sum(one.size for one in run) <= most
            assert following is None or sum(one.size for one in run) + following[0].size > most

    asyncio.run(scenario())


def test_whoever_left_or_is_too_late_is_never_run_and_frees_its_place() -> None:
    async def scenario() -> None:
        queue, handler = Queue(3, 0.0), Recorder(1)
        left, late, good = ticket(), ticket(-1), ticket()
        for number, one in enumerate((left, late, good)):
            queue.arrive()
            queue.submit(work(number), one)
        with pytest.raises(ModelportError) as full:
            queue.arrive()
        assert full.value.kind.status == 429
        assert full.value.retry_after() == "1"
        queue.leave(left)
        queue.arrive()
        away = ticket()
        queue.turn_away(away, ModelportError("It is wrong."))
        assert isinstance(await away.answer, ModelportError)
        thread = serving(queue, handler)
        answer = await good.answer
        assert isinstance(answer, Result) and answer.results["number"] == 2
        queue.close()
        thread.join(5)
        assert len(handler.runs) == 1

    asyncio.run(scenario())


def test_closing_tells_those_who_wait_and_stops_what_runs() -> None:
    async def scenario() -> None:
        began = threading.Event()
        running, waiting = ticket(), ticket()

        def until_stopped(_: Sequence[Work]) -> None:
            began.set()
            while not running.stopped():
                time.sleep(0.001)

        queue = Queue(10, 0.0)
        thread = serving(queue, Recorder(1, until_stopped))
        for number, one in enumerate((running, waiting)):
            queue.arrive()
            queue.submit(work(number), one)
        await asyncio.to_thread(began.wait)
        queue.close()
        late = ticket()
        queue.arrive()
        queue.submit(work(2), late)
        for one in (running, waiting, late):
            answer = await one.answer
            assert isinstance(answer, ModelportError) and answer.kind.status == 503
        thread.join(5)
        assert not thread.is_alive()

    asyncio.run(scenario())


def test_a_lone_request_waits_for_nobody_and_one_on_its_way_is_waited_for() -> None:
    async def scenario() -> None:
        queue, handler = Queue(10, 5.0), Recorder(4, lambda _: time.sleep(0.5))
        thread = serving(queue, handler)
        began = time.monotonic()
        alone = ticket()
        queue.arrive()
        queue.submit(work(0), alone)
        await alone.answer
        assert time.monotonic() - began < 4
        first, second = ticket(), ticket()
        queue.arrive()
        queue.arrive()
        queue.submit(work(1), first)
        await asyncio.sleep(0.05)
        queue.submit(work(2), second)
        await asyncio.gather(first.answer, second.answer)
        assert [[one.ready for one in run] for run in handler.runs] == [[0], [1, 2]]
        queue.close()
        thread.join(5)

    asyncio.run(scenario())


def test_a_handler_that_gives_too_few_answers_fails_those_requests_only() -> None:
    class Short(Recorder):
        def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
            return super().run(works)[: 1 if len(works) > 1 or works[0].ready else 0]

    async def scenario() -> None:
        queue = Queue(10, 0.0)
        tickets = [ticket() for _ in range(3)]
        for number, one in enumerate(tickets):
            queue.arrive()
            queue.submit(work(number), one)
        thread = serving(queue, Short(3))
        answers = await asyncio.gather(*(one.answer for one in tickets))
        assert isinstance(answers[0], ModelportError) and answers[0].kind.status == 500
        assert [answer.results["number"] for answer in answers[1:]] == [1, 2]
        queue.close()
        thread.join(5)

    asyncio.run(scenario())
