"""What a `model` means, which service of an alias answers, which replica of a service, and who answers instead."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.alias import Alias, Target
from modelport.domain.spec import Failover, Spec
from modelport.domain.states import ServiceState
from modelport.errors import ModelportError
from modelport.gateway.admit import Unknown
from modelport.gateway.breaker import IN_A_ROW, BreakerState
from modelport.gateway.pick import PREFIX_BYTES, at_home, home_of
from modelport.gateway.routes import MAX_HOPS, Route, Routes
from modelport.gateway.upstream import DOWN_S, ConnectFailed, Upstream
from modelport.store import aliases
from modelport.store.keys import Key
from modelport.store.snapshot import Replica, Routed, Snapshot
from tests.gateway.world import PLAIN, World, chat, free_port, until

Headers = dict[bytes, bytes]


def key(*models: str, id: str = "key-1") -> Key:
    return Key(id, "mp-12345678", b"", frozenset({"infer"}), frozenset(models), None)


ANY = key()


def routed(name: str, model: str = "/m.gguf", replicas: int = 0, **spec: Any) -> Routed:
    there = tuple(Replica(f"{name}-{i}", f"http://127.0.0.1:{9000 + i}", "", ()) for i in range(replicas))
    wanted = Spec(model=model, name=name, **spec)
    return Routed(f"id-{name}", name, wanted, ServiceState.READY, "", None, 0.0, None, there)


def alias(name: str, shares: str, sticky: bool = False, headers: dict[str, str] | None = None) -> Alias:
    """`shares` is `qwen:9 llama:1`."""
    targets = [
        Target(service=service, weight=float(weight), header=(headers or {}).get(service, ""))
        for service, _, weight in (share.partition(":") for share in shares.split())
    ]
    return Alias(name=name, targets=tuple(targets), sticky=sticky)


def routes(*services: Routed, aliases: Iterable[Alias] = (), into: Routes | None = None) -> Routes:
    found = into or Routes(on_free=lambda: None)
    engine_keys = {replica.id: "k" for service in services for replica in service.replicas}
    found.swap(Snapshot(found.revision + 1, {}, services, aliases=tuple(aliases)), engine_keys)
    return found


def asked(found: Routes, name: str, times: int = 1, headers: Headers | None = None, by: Key = ANY) -> list[str]:
    return [found.names.resolve(name, headers or {}, by).name for _ in range(times)]


# What a name means


@pytest.mark.parametrize("name", ["qwen", "id-qwen", "fast", "Qwen 3", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B@main"])
def test_a_service_is_found_by_name_id_alias_served_name_and_model(name: str) -> None:
    qwen = routed("qwen", "Qwen/Qwen3-8B@main", served_name="Qwen 3")
    assert asked(routes(qwen, routed("llama"), aliases=[alias("fast", "qwen:1")]), name) == ["qwen"]


def test_a_higher_meaning_hides_a_lower_one() -> None:
    """All of these call themselves `x`; taken away one by one, the next is what it means."""
    claims = [routed("x"), routed("served", served_name="x"), routed("model", "x"), routed("other")]
    means: list[str] = []
    for gone in range(3):
        left = [claim for i, claim in enumerate(claims) if i >= gone]
        given = [alias("x", "other:1")] if gone < 2 else []
        means += asked(routes(*left, aliases=given), "x")
    assert means == ["x", "other", "model"]
    assert asked(routes(*claims[1:]), "x") == ["served"]
    assert asked(routes(routed("a"), routed("b"), aliases=[alias("id-a", "b:1")]), "id-a") == ["a"]


@pytest.mark.parametrize("how", [{"model": "org/m"}, {"served_name": "org/m"}])
def test_a_name_of_two_services_is_refused_with_both_named_and_never_guessed(how: dict[str, Any]) -> None:
    found = routes(routed("one", **how), routed("two", **how))
    for _ in range(3):
        with pytest.raises(ModelportError, match="'one' and 'two'") as error:
            asked(found, "org/m")
        assert error.value.kind.status == 400 and error.value.param == "model"
    with pytest.raises(ModelportError) as error:
        asked(found, "org/m", by=key("one"))
    assert "two" not in error.value.message  # not this key's to know
    assert "org/m" not in dict(found.names.visible(ANY))


def test_two_revisions_of_a_model_share_its_name_but_not_their_own() -> None:
    found = routes(routed("old", "org/m@v1"), routed("new", "org/m@v2"))
    assert asked(found, "org/m@v1") == ["old"]
    with pytest.raises(ModelportError, match="'old' and 'new'"):
        asked(found, "org/m")


@pytest.mark.parametrize("model", ["/srv/m.gguf", "./m", "s3://bucket/m", "org/m/file.gguf", "m.gguf"])
def test_where_a_model_lies_is_no_name(model: str) -> None:
    found = routes(routed("mine", model))
    with pytest.raises(Unknown) as error:
        asked(found, model)
    assert "Did you mean" not in error.value.message and not found.names.means_another(model, found.by_id["id-mine"])


def test_an_unknown_name_is_told_the_nearest_that_the_key_may_use() -> None:
    found = routes(routed("qwen-large"), routed("qwen-small"), aliases=[alias("qwen-fast", "qwen-large:1")])
    for by, hint in ((key("qwen-small"), "qwen-small"), (key("qwen-large"), "qwen-large"), (key("else"), None)):
        with pytest.raises(Unknown) as error:
            asked(found, "qwen-larg", by=by)
        assert error.value.kind.status == 404
        assert (f"'{hint}'" in error.value.message) if hint else ("Did you" not in error.value.message)


# What a key may use


def test_a_key_for_a_service_holds_for_all_its_names_and_for_no_other_service() -> None:
    qwen = routed("qwen", "Qwen/Qwen3-8B", served_name="Q3")
    found = routes(qwen, routed("llama"), aliases=[alias("fast", "qwen:1")])
    for name in ("qwen", "id-qwen", "fast", "Q3", "Qwen/Qwen3-8B"):
        assert asked(found, name, by=key("qwen")) == ["qwen"]
        with pytest.raises(ModelportError) as error:
            asked(found, name, by=key("llama"))
        assert error.value.kind.status == 403
    assert [name for name, _ in found.names.visible(key("qwen"))] == ["qwen", "fast", "Q3"]
    assert [name for name, _ in found.names.visible(key("llama"))] == ["llama"]


def test_a_key_for_an_alias_may_use_what_it_stands_for_by_that_name_only() -> None:
    found = routes(routed("qwen"), routed("llama"), aliases=[alias("fast", "qwen:1 llama:1")])
    assert set(asked(found, "fast", 4, by=key("fast"))) == {"qwen", "llama"}
    with pytest.raises(ModelportError, match="may not use"):
        asked(found, "qwen", by=key("fast"))
    assert [name for name, _ in found.names.visible(key("fast"))] == ["fast"]


def test_an_alias_gives_a_key_only_those_of_its_services_that_it_may_use() -> None:
    found = routes(
        routed("qwen"), routed("llama"), aliases=[alias("fast", "qwen:1 llama:9", headers={"llama": "x: y"})]
    )
    assert asked(found, "fast", 5, by=key("qwen")) == ["qwen"] * 5
    assert asked(found, "fast", headers={b"x": b"y"}, by=key("qwen")) == ["qwen"]
    with pytest.raises(ModelportError, match="may not use"):
        asked(found, "fast", by=key("third"))


# Which service of an alias


def test_weights_are_exact_in_every_round_and_spread_evenly() -> None:
    found = routes(routed("qwen"), routed("llama"), aliases=[alias("fast", "qwen:9 llama:1")])
    order = asked(found, "fast", 40)
    assert all(order[i : i + 10].count("llama") == 1 for i in range(31))
    found = routes(routed("a"), routed("b"), routed("c"), aliases=[alias("f", "a:0.5 b:0.3 c:0.2")])
    assert Counter(asked(found, "f", 1000)) == {"a": 500, "b": 300, "c": 200}
    assert asked(routes(routed("a"), routed("b"), routed("c"), aliases=[alias("f", "a:5 b:1 c:1")]), "f", 7) == [
        "a", "a", "b", "a", "c", "a", "a"
    ]  # fmt: skip  # nginx's own example


@given(st.lists(st.integers(0, 20), min_size=2, max_size=5).filter(any))
def test_any_weights_are_exact_after_as_many_turns_as_they_add_up_to(weights: list[int]) -> None:
    given = alias("f", " ".join(f"s{i}:{weight}" for i, weight in enumerate(weights)))
    counts = Counter(asked(routes(*(routed(f"s{i}") for i in range(len(weights))), aliases=[given]), "f", sum(weights)))
    assert [counts[f"s{i}"] for i in range(len(weights))] == weights


def test_turns_go_on_where_they_were_when_something_else_changes() -> None:
    services, given = [routed("a"), routed("b")], [alias("f", "a:1 b:1")]
    found = routes(*services, aliases=given)
    order: list[str] = []
    for _ in range(4):
        order += asked(found, "f")
        routes(*services, aliases=given, into=found)
    assert order == ["a", "b", "a", "b"]


def test_a_header_reaches_the_canary_whatever_its_weight() -> None:
    given = alias("f", "old:1 new:0", headers={"new": "X-Canary: yes"})
    found = routes(routed("old"), routed("new"), aliases=[given])
    assert asked(found, "f", 5) == ["old"] * 5
    assert asked(found, "f", 3, {b"x-canary": b"yes"}) == ["new"] * 3
    assert asked(found, "f", 2, {b"x-canary": b"no"}) == ["old"] * 2
    only_canary = routes(routed("new"), aliases=[given])
    assert asked(only_canary, "f", headers={b"x-canary": b"yes"}) == ["new"]
    with pytest.raises(ModelportError, match="by header") as error:
        asked(only_canary, "f")
    assert error.value.kind.status == 404


def test_services_that_were_removed_get_no_share_and_none_left_is_404() -> None:
    given = [alias("f", "gone:9 here:1")]
    assert asked(routes(routed("here"), aliases=given), "f", 3) == ["here"] * 3
    found = routes(routed("third"), aliases=given)
    with pytest.raises(Unknown, match="not here any more"):
        asked(found, "f")
    assert "f" not in dict(found.names.visible(ANY))


def test_a_sticky_alias_keeps_a_session_at_its_service_and_moves_only_those_of_one_that_leaves() -> None:
    services = [routed("a"), routed("b"), routed("c")]
    given = [alias("f", "a:2 b:1 c:1", sticky=True)]
    found = routes(*services, aliases=given)

    def homes(found: Routes) -> dict[int, str]:
        return {i: asked(found, "f", headers={b"x-session-id": b"%d" % i})[0] for i in range(400)}

    before = homes(found)
    assert homes(found) == before
    counts = Counter(before.values())
    assert 150 < counts["a"] < 250 and 60 < counts["b"] < 140  # by weight: 200, 100, 100
    after = homes(routes(*services[:2], aliases=given))
    assert all(after[i] == home for i, home in before.items() if home != "c")
    by_key = {asked(found, "f", by=key(id=f"key-{i}"))[0] for i in range(30)}
    assert by_key == {"a", "b", "c"}  # without a session, the key is one
    assert len(set(asked(found, "f", 5, by=key(id="key-7")))) == 1


def test_a_name_of_this_service_or_of_nobody_is_no_other_service() -> None:
    given = [alias("f", "a:1 b:1"), alias("g", "b:1 c:1")]
    found = routes(routed("a", "org/m"), routed("b", "org/m"), routed("c"), aliases=given)
    a = found.by_id["id-a"]
    assert [found.names.means_another(name, a) for name in ("a", "f", "org/m", "gpt-9")] == [False] * 4
    assert [found.names.means_another(name, a) for name in ("b", "g", "id-c")] == [True] * 3


# Who answers instead


def failing(name: str, to: str, **rule: Any) -> Routed:
    return routed(name, failover=Failover(to=to, **rule))


def test_failover_follows_the_rule_of_each_service_for_its_own_reasons_only() -> None:
    found = routes(failing("a", "b", on=("full",)), failing("b", "nowhere"), routed("c"))
    a, b, c = (found.by_id[f"id-{name}"] for name in "abc")
    assert found.failover(a, "full", ANY, [a]) is b
    assert found.failover(a, "failed", ANY, [a]) is None
    assert found.failover(b, "failed", ANY, [b]) is found.failover(c, "failed", ANY, [c]) is None
    assert found.failover(a, "full", key("a"), [a]) is None
    assert found.failover(a, "full", key("a", "b"), [a]) is b


def test_failover_ends_at_a_loop_and_after_three_hops() -> None:
    def chain(found: Routes, start: str) -> list[str]:
        tried: list[Route] = [found.by_id[f"id-{start}"]]
        while (target := found.failover(tried[-1], "failed", ANY, tried)) is not None:
            tried.append(target)
        return [route.name for route in tried]

    assert chain(routes(failing("a", "b"), failing("b", "a")), "a") == ["a", "b"]
    assert chain(routes(failing("a", "a")), "a") == ["a"]
    long = [failing(f"s{i}", f"s{i + 1}") for i in range(6)]
    assert len(chain(routes(*long), "s0")) == 1 + MAX_HOPS


# Which replica


def replicas(count: int, **spec: Any) -> Route:
    return routes(routed("s", replicas=count, **spec)).by_id["id-s"]


def picked(route: Route, home: bytes = b"") -> str:
    upstream = route.pick(home)
    assert upstream is not None
    return upstream.id


def test_the_replica_with_the_fewest_in_flight_is_next_by_turns() -> None:
    route = replicas(3)
    assert Counter(picked(route) for _ in range(9)) == {"s-0": 3, "s-1": 3, "s-2": 3}
    visits = [route.upstreams[i].enter() for i in (0, 0, 1)]
    assert {picked(route) for _ in range(3)} == {"s-2"}
    route.upstreams[0].leave(visits[0])


def test_what_belongs_together_is_read_from_the_header_or_from_the_beginning_of_the_prompt() -> None:
    headers, body = {b"x-session-id": b"s1"}, b'{"model":"m","messages":[{"role":"system","content":"' + b"a" * 5000
    assert home_of("least", headers, body) == b""
    assert home_of("session", headers, body) == b"s1" and home_of("session", {}, body) == b""
    home = home_of("prefix", headers, body)
    assert home.startswith(b'[{"role"') and len(home) == PREFIX_BYTES
    assert home_of("prefix", {}, body + b"another end") == home
    assert home_of("prefix", {}, b'{"prompt": "once upon"}') == b' "once upon"}'
    assert home_of("prefix", {}, b'{"model":"m"}') == b""
    assert replicas(1, balance="session").home(headers, body) == b"s1"


def test_one_home_stays_at_one_replica_and_only_its_own_move_when_one_leaves() -> None:
    upstreams = replicas(4).upstreams
    homes = [b"%d" % i for i in range(200)]
    before = {home: at_home(upstreams, 0, home) for home in homes}
    assert min(Counter(before.values()).values()) > 25
    after = {home: at_home(upstreams[:3], 0, home) for home in homes}
    assert all(after[home] is before[home] for home in homes if before[home] is not upstreams[3])


@given(st.lists(st.sampled_from([b"x", b"y", b"z"]), max_size=80), st.integers(1, 6))
def test_no_replica_gets_far_more_than_the_others_however_alike_the_prompts_are(homes: list[bytes], count: int) -> None:
    upstreams = replicas(count).upstreams
    for i, home in enumerate(homes):
        upstream = at_home(upstreams, 0, home)
        assert upstream is not None and upstream.in_flight <= 1.25 * i / count + 1
        upstream.enter()


def test_replicas_that_are_down_or_broken_are_passed_over_and_tried_again() -> None:
    route = replicas(3)
    down, broken, good = route.upstreams
    down.down_until = time.monotonic() + 60
    for _ in range(IN_A_ROW):
        broken.breaker.failed(time.monotonic())
    assert {picked(route) for _ in range(4)} == {picked(route, b"%d" % 1), picked(route, b"2"), good.id} == {good.id}
    broken.breaker.probe_at = 0.0
    visit = good.enter()
    assert picked(route) == broken.id
    probe = broken.enter()
    good.leave(visit)
    assert {picked(route) for _ in range(4)} == {good.id}  # one probe at a time
    broken.breaker.heard(200, 0)
    broken.leave(probe)
    assert {picked(route) for _ in range(4)} == {good.id, broken.id}


def test_all_replicas_broken_is_503_until_the_earliest_probe_but_down_ones_are_waited_for() -> None:
    route = replicas(2)
    for upstream in route.upstreams:
        upstream.down_until = time.monotonic() + 60
    assert route.pick() is None and route.broken_s() is None
    route.refuse_while_broken()
    for upstream, open_s in zip(route.upstreams, (40.0, 20.0), strict=True):
        for _ in range(IN_A_ROW):
            upstream.breaker.failed(time.monotonic())
        upstream.breaker.probe_at = time.monotonic() + open_s
    with pytest.raises(ModelportError, match="'s'") as error:
        route.refuse_while_broken()
    assert error.value.kind.status == 503 and error.value.retry_after() == "20"
    assert replicas(0).broken_s() is None


# An upstream


class Clock:
    """Monotonic seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e4), st.integers(0, 100)), max_size=60))
def test_the_shares_of_all_requests_add_up_to_the_time_a_replica_was_busy(steps: list[tuple[bool, float, int]]) -> None:
    clock = Clock()
    upstream, visits, shares, busy_s = Upstream("u", "http://127.0.0.1:1", None, clock=clock), [], [], 0.0
    for enters, later_s, which in [*steps, *[(False, 1.0, 0)] * len(steps)]:
        busy_s += later_s if visits else 0.0
        clock.now += later_s
        if enters:
            visits.append(upstream.enter())
        elif visits:
            shares.append(upstream.leave(visits.pop(which % len(visits))))
    assert upstream.in_flight == 0 and all(share >= -1e-6 for share in shares)
    assert sum(shares) == pytest.approx(busy_s, rel=1e-9, abs=1e-6)


def test_a_request_alone_has_all_the_time_and_two_beside_each_other_half_each() -> None:
    clock = Clock()
    upstream = Upstream("u", "http://127.0.0.1:1", None, clock=clock)
    first = upstream.enter()
    clock.now = 4.0
    second = upstream.enter()
    clock.now = 10.0
    assert upstream.leave(first) == 7.0
    clock.now = 11.0
    assert upstream.leave(second) == 4.0
    clock.now = 100.0
    third = upstream.enter()
    clock.now = 101.0
    assert upstream.leave(third) == 1.0


def test_many_requests_refused_at_once_are_one_failure_and_five_refusals_open_the_breaker() -> None:
    clock = Clock()

    async def refused(upstream: Upstream) -> None:
        results = await asyncio.gather(*(upstream.connection() for _ in range(8)), return_exceptions=True)
        assert all(isinstance(result, ConnectFailed) for result in results)

    async def meet() -> list[bool]:
        upstream = Upstream("u", f"http://127.0.0.1:{free_port()}", None, clock=clock)
        states: list[bool] = []
        for _ in range(IN_A_ROW):
            await refused(upstream)
            assert not upstream.usable(clock.now)
            clock.now += DOWN_S
            states.append(upstream.breaker.state is BreakerState.OPEN)
        return states

    assert asyncio.run(meet()) == [False] * (IN_A_ROW - 1) + [True]


# Through the gateway


def put(world: World, given: Alias) -> None:
    with world.store.write() as tx:
        aliases.put(tx, given, time.time())
    world.settle()


def post(world: World, model: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return world.http.post("/v1/chat/completions", json=chat(model, **more), headers=headers)


def test_an_alias_shares_its_requests_by_weight_header_and_session(world: World) -> None:
    old, new = world.engine(), world.engine()
    world.service("wheel-old", old)
    world.service("wheel-new", new)
    put(world, alias("wheel", "wheel-old:3 wheel-new:1", headers={"wheel-new": "x-canary: yes"}))
    assert all(post(world, "wheel").status_code == 200 for _ in range(8))
    assert (old.seen()["requests"], new.seen()["requests"]) == (6, 2)
    assert post(world, "wheel", {"x-canary": "yes"}).status_code == 200
    assert new.seen()["requests"] == 3
    put(world, alias("wheel", "wheel-old:1 wheel-new:1", sticky=True))
    before = old.seen()["requests"], new.seen()["requests"]
    for _ in range(4):
        post(world, "wheel", {"x-session-id": "s1"})
    grown = [e.seen()["requests"] - b for e, b in zip((old, new), before, strict=True)]
    assert sorted(grown) == [0, 4]
    assert "wheel" in [m["id"] for m in world.http.get("/v1/models").json()["data"]]


def test_a_name_of_two_services_is_400_with_both_named(world: World) -> None:
    engine = world.engine()
    world.service("twin-a", engine, served_name="twin")
    world.service("twin-b", engine, served_name="twin")
    answer = post(world, "twin")
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == "model"
    assert "'twin-a'" in error["message"] and "'twin-b'" in error["message"]
    assert engine.seen()["requests"] == 0


def test_a_dead_replica_costs_nobody_an_answer(world: World) -> None:
    alive, dead = world.engine(), world.engine()
    world.service("one-dead", alive, dead)
    dead.stop()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(world, "one-dead").status_code, range(40)))
    assert set(answers) == {200}


def test_a_replica_that_answers_5xx_is_left_alone_and_comes_back_by_a_probe(world: World) -> None:
    engine = world.engine()
    service = world.service("breaks", engine)
    failures = [post(world, "breaks", stub={"status": 500}).status_code for _ in range(IN_A_ROW)]
    assert failures == [502] * IN_A_ROW
    refused = post(world, "breaks")
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "not_ready"
    assert refused.headers["retry-after"] == "1" and engine.seen()["requests"] == IN_A_ROW
    assert "works at the moment" in refused.json()["error"]["message"]
    second = world.engine()
    world.instance(service, second)
    world.settle()
    for _ in range(6):
        assert post(world, "breaks").status_code == 200
    assert second.seen()["requests"] > 0
    until(lambda: (post(world, "breaks"), engine.seen()["requests"])[1] > IN_A_ROW, what="the probe")
    assert [post(world, "breaks").status_code for _ in range(4)] == [200] * 4


def test_a_dead_replica_that_nobody_replaces_is_503_for_all_who_wait(world: World) -> None:
    dead = world.engine()
    world.service("unreplaced", dead, wake_timeout=30)
    dead.stop()
    headers = {"authorization": f"Bearer {world.admin}"}

    def one(_: int) -> httpx.Response:
        return PLAIN.post(world.url + "/v1/chat/completions", json=chat("unreplaced"), headers=headers, timeout=12)

    with ThreadPoolExecutor(3) as pool:
        assert [answer.status_code for answer in pool.map(one, range(3))] == [503] * 3


def test_while_the_probe_runs_nobody_else_is_sent_there(world: World) -> None:
    engine = world.engine()
    world.service("probed", engine)
    for _ in range(IN_A_ROW):
        post(world, "probed", stub={"cut": "start"})
    assert post(world, "probed").status_code == 503
    time.sleep(1.05)
    slow = chat("probed", stub={"delay_s": 1})
    with ThreadPoolExecutor(1) as pool:
        headers = {"authorization": f"Bearer {world.admin}"}
        probe = pool.submit(PLAIN.post, world.url + "/v1/chat/completions", json=slow, headers=headers)
        until(lambda: engine.seen()["in_flight"] == 1)
        assert post(world, "probed").status_code == 503
        assert probe.result().status_code == 200
    assert post(world, "probed").status_code == 200


def test_a_clients_errors_break_nothing(world: World) -> None:
    world.service("careless", world.engine())
    for _ in range(2 * IN_A_ROW):
        assert post(world, "careless", stub={"status": 400}).status_code == 400
        assert post(world, "careless", stub={"status": 429}).status_code == 429
    assert post(world, "careless").status_code == 200


def test_answers_between_failures_keep_a_replica(world: World) -> None:
    world.service("flaky", world.engine())
    for _ in range(2):
        for _ in range(IN_A_ROW - 1):
            assert post(world, "flaky", stub={"status": 500}).status_code == 502
        assert post(world, "flaky").status_code == 200
        assert post(world, "flaky", stream=True).status_code == 200


def test_a_service_that_failed_lets_another_answer_for_those_who_may_use_it(world: World) -> None:
    backup = world.engine()
    world.service("backup", backup)
    rule = {"to": "backup", "on": ["failed", "unreachable"]}
    world.service("fails-over", state=ServiceState.FAILED, failover=rule)
    answer = post(world, "fails-over", {"x-request-id": "over"})
    assert answer.status_code == 200 and backup.seen()["requests"] == 1
    tries = until(lambda: [li for li in world.lines() if li["request_id"] == "over" and li["service"] == "backup"])
    assert [(line["status"], line["model"]) for line in tries] == [(200, "fails-over")]
    restricted = world.client(world.key(models=("fails-over",)))
    assert restricted.post("/v1/chat/completions", json=chat("fails-over")).status_code == 503
