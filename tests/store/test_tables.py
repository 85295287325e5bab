"""What each table's verbs promise."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.instance import Exit, Instance
from modelport.domain.key import KeySpec
from modelport.domain.launch import Labels, Launch
from modelport.domain.spec import Spec
from modelport.domain.states import IllegalTransition, InstanceState, ServiceState
from modelport.errors import ModelportError
from modelport.store import Store, gateways, instances, keys, revision, services, starts
from modelport.store.gateways import Gateway
from modelport.store.snapshot import snapshot


def launch(service_id: str, instance_id: str = "i-1") -> Launch:
    made = Launch(("engine", "{port}"), "/health", routes=("POST /tokenize",))
    return made.bind(Labels(service_id, instance_id, "owner"), "127.0.0.1", 18700, 60)


def ready_instance(store: Store, service_id: str, instance_id: str = "i-1") -> None:
    with store.write() as tx:
        bound = launch(service_id, instance_id)
        row = instances.insert(tx, bound, version="v", platform="process", engine="stub", now=1)
        assert bound.labels
        there = Instance(bound.labels, "process", "http://127.0.0.1:18700", "file:/k", {"dir": "/d"})
        instances.update(tx, row, 2, state=InstanceState.READY, instance=there, ready_at=2.0)


def test_a_key_is_kept_as_a_digest_only_and_shown_once(store: Store) -> None:
    with store.write() as tx:
        made = keys.create(tx, store.pepper, KeySpec(name="n", models=("a",), expires_in_s=8), 1.0)
    assert made.secret and made.secret.startswith(made.prefix)
    with store.read() as tx:
        assert [view.secret for view in keys.views(tx)] == [None]
        kept = keys.valid(tx)[made.prefix]
    assert kept.digest == keys.digest(store.pepper, made.secret)
    assert kept.models == {"a"} and kept.expires_at == 9.0
    on_disk = b"".join(file.read_bytes() for file in store.directory.iterdir())
    assert made.secret.encode() not in on_disk


def test_a_revoked_key_is_gone_for_gateways_and_stays_listed(store: Store) -> None:
    with store.write() as tx:
        made = keys.create(tx, store.pepper, KeySpec(name="n"), 1.0)
        before = revision.current(tx)
        assert keys.revoke(tx, made.prefix, 5.0).revoked_at == 5.0
        assert keys.revoke(tx, made.id, 6.0).revoked_at == 5.0, "twice is fine"
        assert revision.current(tx) == before + 1
        assert keys.valid(tx) == {}
        assert keys.views(tx)[0].revoked_at == 5.0
        with pytest.raises(ModelportError, match="no key"):
            keys.revoke(tx, made.secret or "", 7.0)


def test_an_instance_row_comes_back_as_it_was_written(store: Store) -> None:
    with store.write() as tx:
        service = services.insert(tx, Spec(model="m"), None, 1.0)
        row = instances.insert(tx, launch(service.id), version="v", platform="process", engine="e", now=1)
        assert row.launch == launch(service.id)
        assert row.launch.argv == ("engine", "18700")
        row = instances.update(tx, row, 2, state=InstanceState.FAILED, exit=Exit(code=3, tail=("a", "b"), at=2.0))
        assert row.exit == Exit(code=3, tail=("a", "b"), at=2.0)
        with pytest.raises(IllegalTransition):
            instances.update(tx, row, 3, state=InstanceState.READY)
        assert instances.ports(tx) == set(), "an ended instance holds no port"


def test_a_service_is_found_by_name_and_id_and_a_miss_names_the_nearest(store: Store) -> None:
    with store.write() as tx:
        service = services.insert(tx, Spec(model="smollm2"), 8701, 1.0)
        assert services.find(tx, "smollm2") == services.find(tx, service.id) == service
        with pytest.raises(ModelportError, match="no service 'smolm2'. Did you mean 'smollm2'") as caught:
            services.find(tx, "smolm2")
        assert caught.value.kind.status == 404
        with pytest.raises(IllegalTransition):
            services.update(tx, service, 2.0, state=ServiceState.READY)


def test_a_snapshot_holds_what_may_be_routed_to_and_nothing_else(store: Store) -> None:
    with store.write() as tx:
        a = services.insert(tx, Spec(model="m", name="a"), None, 1.0)
        gone = services.insert(tx, Spec(model="m", name="gone"), None, 1.0)
        services.update(tx, gone, 1.0, desired="removed")
        starts.record(tx, model="m", engine="e", seconds=3.0, planned_bytes=1, measured_bytes=2, now=1.0)
    ready_instance(store, a.id)
    with store.read() as tx:
        view = snapshot(tx)
    assert [service.name for service in view.services] == ["a"]
    assert [replica.id for replica in view.services[0].replicas] == ["i-1"]
    assert view.services[0].replicas[0].routes == ("POST /tokenize",)
    assert view.services[0].estimate_s == 3.0


def test_an_instance_is_drained_when_each_live_gateway_knows_and_none_is_busy(store: Store) -> None:
    def gateway(name: str, seen: float, at: int, *busy: str) -> Gateway:
        return Gateway(name, "http://x", seen, at, busy, {})

    with store.write() as tx:
        gateways.report(tx, gateway("one", 100, 7))
        gateways.report(tx, gateway("two", 100, 7, "i-1"))
        gateways.report(tx, gateway("dead", 90, 1, "i-1"))
        assert not gateways.drained(gateways.live(tx, 101), "i-1", 7), "two still has a request there"
        gateways.report(tx, gateway("two", 101, 6))
        assert not gateways.drained(gateways.live(tx, 101), "i-1", 7), "two does not know yet"
        gateways.report(tx, gateway("two", 101, 8))
        assert gateways.drained(gateways.live(tx, 101), "i-1", 7), "the dead one does not count"
        gateways.leave(tx, "one")
        assert [g.id for g in gateways.live(tx, 101)] == ["two"]


def test_the_last_request_never_goes_back_in_time(store: Store) -> None:
    with store.write() as tx:
        gateways.touch(tx, {"s": 5.0})
        gateways.touch(tx, {"s": 3.0, "t": 1.0})
        assert gateways.last_requests(tx) == {"s": 5.0, "t": 1.0}


def test_the_estimate_is_the_median_of_the_last_five_starts(store: Store) -> None:
    with store.write() as tx:
        for seconds in (900, 900, 1, 2, 3, 4, 50):
            starts.record(tx, model="m", engine="e", seconds=seconds, planned_bytes=None, measured_bytes=None, now=1)
        assert starts.estimates(tx) == {"m": 3}


@given(st.binary(max_size=200), st.text(max_size=100))
def test_a_keys_digest_is_the_standard_hmac(pepper: bytes, key: str) -> None:
    text = key.encode("utf-8", "replace").decode()
    assert keys.digest(pepper, text) == hmac.digest(pepper, text.encode(), "sha256")
