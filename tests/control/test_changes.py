"""Starting the same and different things at once, replicas, ports, and changes under load."""

import contextlib
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from tests.harness import Serving, until


def stub(name: str, **fields: object) -> Spec:
    return Spec(**{"model": "smollm2", "name": name, "engine": "stub", **fields})  # type: ignore[arg-type]


def test_ten_starts_of_one_spec_at_once_are_one_service(shared: Serving) -> None:
    with ThreadPoolExecutor(10) as pool:
        views = list(pool.map(lambda _: shared.client.start(stub("one")), range(10)))
    assert len({view.id for view in views}) == 1
    assert len(shared.ready("one").instances) == 1


def test_ten_different_ones_at_once_have_ten_ports(shared: Serving) -> None:
    specs = [stub(f"many-{n}", port="auto") for n in range(10)]
    with ThreadPoolExecutor(10) as pool:
        views = list(pool.map(shared.client.start, specs))
    assert len({view.port for view in views}) == 10
    engines = {i.url for spec in specs for i in shared.ready(spec.name).instances}
    assert len(engines) == 10
    for spec in specs:
        shared.client.remove(spec.name)


def test_another_spec_under_a_name_that_is_taken_is_refused(shared: Serving) -> None:
    shared.client.start(stub("taken"))
    with pytest.raises(ModelportError, match="exists with another spec") as caught:
        shared.client.start(stub("taken", context=128))
    assert caught.value.kind.status == 400


def test_a_rolling_change_under_load_loses_no_request(shared: Serving) -> None:
    shared.start("rolling", "--token-s 0.02", replicas=2)
    shared.ready("rolling")
    old = {i.id for i in shared.client.status("rolling").instances}
    codes: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        codes.append(shared.ask("rolling").status_code)

    def twenty_a_second() -> None:
        with ThreadPoolExecutor(40) as pool:
            while not stop.wait(0.05):
                pool.submit(ask)

    load = threading.Thread(target=twenty_a_second)
    load.start()
    time.sleep(1)
    shared.client.apply([stub("rolling", replicas=2, context=512)])

    def rolled() -> bool:
        view = shared.client.status("rolling")
        alive = {i.id for i in view.instances if i.state not in ("gone", "failed")}
        return view.state == "ready" and len(alive) == 2 and not alive & old

    until(rolled, 30, "new engines only")
    time.sleep(1)
    stop.set()
    load.join()
    assert len(codes) > 40
    assert set(codes) == {200}


def test_replicas_are_added_and_taken_away_while_the_others_go_on(shared: Serving) -> None:
    shared.start("scaled")
    first = shared.ready("scaled").instances[0].pid

    def ready_pids() -> set[int | None]:
        return {i.pid for i in shared.client.status("scaled").instances if i.state == "ready"}

    shared.client.apply([stub("scaled", replicas=3)])
    until(lambda: len(ready_pids()) == 3)
    shared.client.apply([stub("scaled")])
    until(lambda: ready_pids() == {first})


def test_a_change_to_something_that_cannot_be_is_refused_and_nothing_changes(shared: Serving) -> None:
    shared.start("careful")
    before = shared.ready("careful")
    for wrong in ({"model": "/nowhere/x.gguf"}, {"engine": "vlllm"}, {"context": 10**9}, {"platform": "moon"}):
        with pytest.raises(ModelportError):
            shared.client.apply([stub("careful", **wrong)])
    after = shared.client.status("careful")
    assert (after.spec, after.state, after.instances[0].pid) == (before.spec, "ready", before.instances[0].pid)


def test_a_change_whose_engine_fails_leaves_the_old_one_serving(shared: Serving) -> None:
    shared.start("fallback")
    old = shared.ready("fallback").instances[0].pid
    shared.switches("fallback", "--fail 'unknown model architecture: foo'")
    shared.client.apply([stub("fallback", context=512)])
    view = shared.reach("fallback", "degraded", 15)
    assert "architecture" in view.reason
    assert shared.ask("fallback").status_code == 200
    assert old in [i.pid for i in view.instances]


def test_a_service_with_a_port_of_its_own_answers_there(shared: Serving) -> None:
    view = shared.start("own-port", port="auto", auth="none")
    shared.ready("own-port")
    assert view.port and view.port not in range(8080, 8200)
    import httpx

    def models() -> list[str]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{view.port}/v1/models")
        except httpx.ConnectError:
            return []
        return [model["id"] for model in answer.json()["data"]]

    assert until(models) == ["own-port"]
    own = f"http://127.0.0.1:{view.port}/v1/models"
    assert httpx.get(own, headers={"host": f"localhost:{view.port}"}).status_code == 200
    for foreign in ({"host": "rebind.example"}, {"origin": "http://evil.example"}, {"host": "127.0.0.1.evil.example"}):
        assert httpx.get(own, headers=foreign).status_code == 403, foreign
    assert shared.client.status("own-port").url == f"http://127.0.0.1:{view.port}/v1"


def test_a_port_that_is_in_use_is_refused_with_a_sentence(shared: Serving) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ModelportError, match=f"Port {port} is in use by another program"):
            shared.client.start(stub("unlucky", port=port))
    shared.client.start(stub("lucky", port=port))
    with pytest.raises(ModelportError, match=f"Port {port} belongs to service 'lucky'"):
        shared.client.start(stub("late", port=port))


def test_stopping_lets_requests_in_flight_end_first(shared: Serving) -> None:
    shared.start("polite", "--token-s 0.2 --tokens 8")
    shared.ready("polite")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(shared.ask, "polite")
        time.sleep(0.4)
        shared.client.stop("polite")
        assert asked.result().status_code == 200
    shared.reach("polite", "stopped")
    assert shared.ask("polite").status_code == 503


def test_a_storm_of_contradictory_wishes_ends_with_what_was_wished_last(shared: Serving) -> None:
    chance, ends_at = random.Random(7), time.monotonic() + 8
    wishes = [
        lambda: shared.client.start(stub("storm")),
        lambda: shared.client.apply([stub("storm", context=chance.choice([256, 512]), replicas=chance.choice([1, 2]))]),
        lambda: shared.client.restart("storm"),
        lambda: shared.client.stop("storm"),
        lambda: shared.client.remove("storm"),
    ]

    def wish(_: int) -> None:
        while time.monotonic() < ends_at:
            with contextlib.suppress(ModelportError):  # as «there is no service» and «another spec»
                chance.choice(wishes)()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(wish, range(4)))
    last = shared.client.apply([stub("storm", context=1024, replicas=2)])[0]
    shared.ready("storm", 60)

    def only_the_last() -> bool:
        view = shared.client.status("storm")
        alive = {i.id for i in view.instances if i.state not in ("gone", "failed")}
        everything = {i.id for v in shared.client.list() for i in v.instances if i.state not in ("gone", "failed")}
        return len(alive) == 2 and set(shared.engines()) == everything and view.spec == last.spec

    until(only_the_last, 20, "two engines, and none of another wish")
    assert shared.ask("storm").status_code == 200


def test_a_removed_service_is_forgotten_and_its_name_is_free(shared: Serving) -> None:
    first = shared.start("brief")
    shared.ready("brief")
    shared.client.remove("brief")
    until(lambda: "brief" not in [view.name for view in shared.client.list()])
    assert shared.ask("brief").status_code == 404
    assert shared.start("brief", context=256).id != first.id
