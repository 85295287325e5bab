"""Queue: who gets into a full service, when, and what becomes of those who leave while they wait."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.errors import BUSY, DEADLINE, QUEUE_TIMEOUT, ModelportError
from modelport.gateway.queue import FairQueue

pytestmark = pytest.mark.filterwarnings("error")


async def ticks(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Crowd:
    """Requests that come, are let in and stay until told to go; `order` is who was let in, as it happened."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.order: list[str] = []
        self.inside = 0
        self.tasks: list[asyncio.Task[None]] = []

    def come(self, flow: str, cost: int = 1, **how: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(self._enter(flow, cost, how))
        self.tasks.append(task)
        return task

    async def _enter(self, flow: str, cost: int, how: dict[str, Any]) -> None:
        if not self.queue.try_enter():
            await self.queue.enter(flow, cost=cost, **how)
        self.inside += 1
        self.order.append(flow)

    def go(self) -> None:
        self.inside -= 1
        self.queue.leave()

    async def drain(self, most: int = 10_000) -> None:
        """Let one out after another until nobody waits."""
        await ticks()
        while self.queue.waiting and most:
            most -= 1
            self.go()
            await ticks()


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def refusal(task: asyncio.Task[None]) -> ModelportError:
    with pytest.raises(ModelportError) as caught:
        await task
    return caught.value


def test_no_more_come_in_than_there_is_room_for_and_who_leaves_lets_the_next_in() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(2))
        await asyncio.wait_for(crowd.queue.enter("first", cost=1), 10)
        crowd.queue.leave()
        for name in "abcd":
            crowd.come(name)
        await ticks()
        assert (crowd.order, crowd.queue.waiting) == (["a", "b"], 2)
        assert crowd.queue.lengths() == {"c": 1, "d": 1}
        crowd.go()
        await ticks()
        assert crowd.order == ["a", "b", "c"]

    run(story())


def test_nobody_overtakes_those_who_wait() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1))
        crowd.come("a")
        crowd.come("b")
        await ticks()
        crowd.queue.leave()
        assert not crowd.queue.try_enter()  # the room is b's already

    run(story())


def test_without_a_capacity_everybody_comes_in() -> None:
    queue = FairQueue(None)
    assert all(queue.try_enter() for _ in range(1000))


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.01, 0.04), (100, 25)])
@pytest.mark.parametrize("costs", [(1, 1), (1000, 1000), (10, 4000), (100_000, 7)])
def test_keys_with_a_backlog_share_tokens_by_weight(weights: tuple[float, float], costs: tuple[int, int]) -> None:
    async def story() -> None:
        crowd, most = Crowd(FairQueue(0, places=10_000)), max(costs)
        share = (weights[0] / sum(weights), weights[1] / sum(weights))
        total = 40 * max(cost / part for cost, part in zip(costs, share, strict=True))
        for name, cost, weight in zip("ab", costs, weights, strict=True):
            for _ in range(min(4000, int(total / cost) + 2)):
                crowd.come(name, cost, weight=weight)
        await ticks()
        crowd.queue.capacity = 1
        served = Counter[str]()
        while len(crowd.queue.lengths()) == 2:
            await ticks()
            served[crowd.order[-1]] += costs["ab".index(crowd.order[-1])]
            gap = served["a"] / weights[0] - served["b"] / weights[1]
            # Never further apart than one request of each.
            assert abs(gap) <= costs[0] / weights[0] + costs[1] / weights[1] + 1e-6 * most
            crowd.go()
            await ticks()
        assert min(served.values()) > 0
        await stop(crowd)

    run(story())


def test_a_newcomer_with_one_small_request_does_not_wait_for_anothers_backlog() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1))
        for _ in range(200):
            crowd.come("greedy", 1000)
        await ticks()
        for _ in range(50):
            crowd.go()
            await ticks()
        crowd.come("modest", 10)
        await ticks()
        crowd.go()
        await ticks()
        assert crowd.order[-1] == "modest"
        await stop(crowd)

    run(story())


def test_a_newcomer_is_not_owed_the_time_when_it_was_away() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1))
        for _ in range(100):
            crowd.come("steady", 10)
        await ticks()
        for _ in range(50):
            crowd.go()
            await ticks()
        for _ in range(20):
            crowd.come("newcomer", 10)
        await ticks()
        for _ in range(20):
            crowd.go()
            await ticks()
        assert Counter(crowd.order[-20:]) == {"steady": 10, "newcomer": 10}
        await stop(crowd)

    run(story())


def test_higher_priorities_go_first_and_share_by_weight_among_themselves() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(0))
        for name, priority, weight in (("low", -1, 100), ("a", 5, 2), ("normal", 0, 1), ("b", 5, 1)):
            for _ in range(3):
                crowd.come(name, 10, priority=priority, weight=weight)
        await ticks()
        crowd.queue.capacity = 1
        await crowd.drain()
        assert sorted(crowd.order[:6]) == ["a", "a", "a", "b", "b", "b"]
        assert Counter(crowd.order[:3]) == {"a": 2, "b": 1}
        assert crowd.order[6:] == ["normal"] * 3 + ["low"] * 3

    run(story())


def test_a_full_queue_and_a_key_with_its_places_taken_are_refused_with_the_time_to_come_again() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1, places=3))
        crowd.come("a")
        crowd.come("b", flow_places=1)
        await ticks()
        error = await refusal(crowd.come("b", flow_places=1))
        assert error.kind is BUSY
        assert error.message == (
            "This API key has 1 requests waiting for this model, as many as it may; try again in 5.0 s."
        )
        assert (await refusal(crowd.come("none", flow_places=0))).kind is BUSY
        crowd.come("c")
        crowd.come("d")
        await ticks()
        error = await refusal(crowd.come("b"))
        assert error.message.startswith("3 requests wait for this model already")
        assert error.retry_after() == "5"
        await stop(crowd)

    run(story())


def test_the_time_to_come_again_is_measured() -> None:
    async def story() -> None:
        loop, crowd = asyncio.get_running_loop(), Crowd(FairQueue(1, places=100))
        for _ in range(60):
            crowd.come("a")
        await ticks()
        began = loop.time()
        for _ in range(20):
            await asyncio.sleep(0.04)
            crowd.go()
        mean = (loop.time() - began) / 20
        assert 0.039 * 39 <= crowd.queue.retry_after_s() <= 39 * mean * 3
        await stop(crowd)

    run(story())


def test_one_key_cannot_keep_the_others_out_by_filling_all_places() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(0, places=10))
        greedy = [crowd.come("greedy") for _ in range(10)]
        await ticks()
        for name in "abcde":
            crowd.come(name)
        await ticks()
        assert crowd.queue.lengths() == {"greedy": 5, "a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
        assert crowd.queue.waiting == 10
        assert [(await refusal(task)).kind for task in greedy[5:]] == [BUSY] * 5  # the last ones that came
        await ticks()
        assert (await refusal(crowd.come("greedy"))).kind is BUSY
        crowd.come("above", priority=1)
        await ticks()
        assert crowd.queue.lengths()["greedy"] == 4
        assert (await refusal(crowd.come("below", priority=-1))).kind is BUSY
        await stop(crowd)

    run(story())


def test_a_lower_class_gives_its_places_to_a_higher_one_however_many_that_has() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(0, places=4))
        for _ in range(4):
            crowd.come("low")
        await ticks()
        for _ in range(4):
            crowd.come("high", priority=1)
        await ticks()
        assert crowd.queue.lengths() == {"high": 4}
        await stop(crowd)

    run(story())


def test_who_waits_too_long_is_told_so_and_leaves_no_hole() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1))
        crowd.come("a")
        await ticks()
        late = crowd.come("b", timeout_s=0.02)
        later = crowd.come("b", deadline_s=0.03)
        patient = crowd.come("b", timeout_s=0.02 + 600, deadline_s=600.0)
        error = await refusal(late)
        assert (error.kind, error.message) == (
            QUEUE_TIMEOUT,
            "The model had no room for this request within 0.0 s; try again.",
        )
        assert (await refusal(later)).kind is DEADLINE
        assert crowd.queue.lengths() == {"b": 1}
        crowd.go()
        await patient
        assert crowd.queue.waiting == 0

    run(story())


def test_one_who_is_let_in_and_cancelled_at_once_hands_the_room_on() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1))
        crowd.come("a")
        leaving, next_one = crowd.come("b"), crowd.come("c")
        await ticks()
        crowd.go()  # b's now
        leaving.cancel()  # before b's task had a turn
        await asyncio.wait([leaving])
        await asyncio.wait_for(next_one, 10)
        assert crowd.order == ["a", "c"]
        crowd.go()
        assert (crowd.queue.inside, crowd.queue.waiting) == (0, 0)

    run(story())


def test_one_who_was_cancelled_in_this_tick_is_not_let_in() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1))
        crowd.come("a")
        leaving, next_one = crowd.come("b"), crowd.come("c")
        await ticks()
        leaving.cancel()
        crowd.go()  # while b still stands in the queue
        await asyncio.wait_for(next_one, 10)
        assert crowd.order == ["a", "c"]

    run(story())


def test_room_that_comes_and_goes_with_replicas_is_given_at_once_and_takes_nobody_out() -> None:
    async def story() -> None:
        crowd = Crowd(FairQueue(1))
        for _ in range(6):
            crowd.come("a")
        await ticks()
        crowd.queue.capacity = 4
        await ticks()
        assert len(crowd.order) == 4
        crowd.queue.capacity = 2
        crowd.go()
        crowd.go()
        await ticks()
        assert len(crowd.order) == 4
        crowd.go()
        await ticks()
        assert len(crowd.order) == 5
        crowd.queue.capacity = None
        await ticks()
        assert len(crowd.order) == 6

    run(story())


async def stop(crowd: Crowd) -> None:
    for task in crowd.tasks:
        task.cancel()
    await asyncio.gather(*crowd.tasks, return_exceptions=True)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("come"),
            st.tuples(st.sampled_from("abc"), st.integers(1, 5000), st.sampled_from([0.1, 1, 7]), st.integers(-1, 1)),
        ),
        st.tuples(st.just("go"), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.just(None)),
        st.tuples(st.just("capacity"), st.none() | st.integers(0, 4)),
        st.tuples(st.just("tick"), st.integers(1, 3)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(0, 3), st.integers(1, 12))
def test_whatever_happens_room_is_never_overdrawn_nor_lost(
    steps: list[tuple[str, Any]], capacity: int, places: int
) -> None:
    async def story() -> None:
        queue = FairQueue(capacity, places)
        crowd = Crowd(queue)
        for what, value in steps:
            before = queue.inside
            if what == "come":
                flow, cost, weight, priority = value
                crowd.come(flow, cost, weight=weight, priority=priority)
            elif what == "expire":
                crowd.come("c", 9, timeout_s=0)
            elif what == "go" and crowd.inside:
                crowd.go()
            elif what == "cancel" and crowd.tasks:
                crowd.tasks[value % len(crowd.tasks)].cancel()
            elif what == "capacity":
                queue.capacity = value
            elif what == "tick":
                await ticks(value)
            if queue.capacity is not None:
                assert queue.inside <= max(before, queue.capacity)
            assert queue.waiting == sum(queue.lengths().values()) <= places
            assert 0 <= crowd.inside <= queue.inside
        await ticks(5)
        assert queue.waiting == sum(not task.done() for task in crowd.tasks), "who left is not counted any more"
        assert crowd.inside == queue.inside, "every place that is taken is held by somebody"
        if queue.waiting:
            assert queue.capacity is not None
            assert queue.inside >= queue.capacity, "nobody waits while there is room"
        queue.capacity = max(1, queue.inside)
        await crowd.drain()
        assert queue.waiting == 0
        while crowd.inside:
            crowd.go()
        assert (queue.inside, queue.lengths()) == (0, {})
        for task in await asyncio.gather(*crowd.tasks, return_exceptions=True):
            assert task is None or isinstance(task, ModelportError | asyncio.CancelledError)

    run(story())
