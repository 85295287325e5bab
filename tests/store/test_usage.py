"""Usage: written once, summed by anything, priced, with exact percentiles; forgotten when it is old."""

import math
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelport.domain.spec import Spec
from modelport.domain.usage import UsageQuery
from modelport.store import Store, open_store, services, usage
from modelport.store.tables import bodies, requests

DAY = 86400.0


def row(id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id, "at": 1.0, "request_id": f"seen-{id}", "key_id": "k", "team": "", "user": "", "service_id": "s",
        "service": "chat", "instance_id": "i", "model": "m", "route": "/v1/chat/completions", "status": 200,
        "stream": False, "input_tokens": 3, "output_tokens": 4, "cached_tokens": 1, "reasoning_tokens": 0,
        "audio_ms": 0, "characters": 0, "images": 0, "gpu_ms": 0, "money_nano": 0, "estimated": False, "queue_s": 0.0,
        "first_byte_s": 0.1, "total_s": 0.2, **more,
    }  # fmt: skip


def test_a_request_written_twice_counts_once_also_within_one_batch(store: Store) -> None:
    with store.write() as tx:
        usage.add(tx, [row("r1"), row("r2", status=502), row("r1")])
        usage.add(tx, [row("r1", output_tokens=99)])
        usage.add(tx, [])
        (total,) = usage.report(tx, UsageQuery())
    assert (total.service, total.key, total.requests, total.failed) == ("chat", "k", 2, 1)
    assert (total.input_tokens, total.output_tokens, total.cached_tokens) == (6, 8, 2)


def test_every_group_and_filter_narrows_and_days_are_those_of_utc(store: Store) -> None:
    rows = [
        row("a", key_id="k1", team="red", user="anna", at=DAY - 0.1),
        row("b", key_id="k2", team="red", user="anna", at=DAY, service="other", service_id="s2", model="n"),
        row("c", key_id="k3", team="blue", at=2 * DAY - 0.1, route="/v1/embeddings"),
    ]
    with store.write() as tx:
        usage.add(tx, rows)

        def sums(**query: Any) -> list[tuple[str, ...]]:
            asked = UsageQuery(**query)
            found = usage.report(tx, asked)
            return [(*(getattr(view, group) for group in asked.by), str(view.requests)) for view in found]

        assert sums(by=("day",)) == [("1970-01-01", "1"), ("1970-01-02", "2")]
        assert sums(by=("team", "key")) == [("blue", "k3", "1"), ("red", "k1", "1"), ("red", "k2", "1")]
        assert sums(by=("user",)) == [("", "1"), ("anna", "2")]
        assert sums(by=("model", "route"), team="red") == [
            ("m", "/v1/chat/completions", "1"), ("n", "/v1/chat/completions", "1"),
        ]  # fmt: skip
        assert sums(by=(), since=DAY, until=2 * DAY - 0.1) == [("1",)], "the end is not in it"
        assert sums(by=("key",), service="other") == [("k2", "1")]
        assert sums(by=("key",), key="nobody") == []
        narrowed = usage.report(tx, UsageQuery(by=("key",), key="k3"), {"user": "anna"})
        assert narrowed == [], "another's cannot be asked for"
        assert usage.report(tx, UsageQuery(by=("key",)), {"key": ""}) == [], "nobody's is not everybody's"


def test_costs_are_as_paid_and_as_the_gpus_took(store: Store) -> None:
    with store.write() as tx:
        own = services.insert(tx, Spec(model="m", name="own", price={"gpu_hour": 3.6}), None, 1.0)  # type: ignore[arg-type]
        rows = [
            row("a", service_id=own.id, gpu_ms=1000, money_nano=2_000_000, input_tokens=500, output_tokens=500),
            row("b", service_id="gone", gpu_ms=9000, money_nano=4_000_000, input_tokens=1000, output_tokens=0),
            row("c", service_id=own.id, audio_ms=1500, characters=7, images=2, input_tokens=0, output_tokens=0),
        ]
        usage.add(tx, rows)
        (total,) = usage.report(tx, UsageQuery(by=()))
        (none,) = usage.report(tx, UsageQuery(by=("model",), key="k", since=0.5, until=2.0, model="m"), {"key": "k"})
    assert math.isclose(total.cost, 0.006) and math.isclose(total.cost_per_1k or 0, 0.003)
    assert math.isclose(total.gpu_cost_per_1k or 0, 0.001), (
        "of the service whose GPUs have a price: 1 s for 1,000 tokens"
    )
    assert (total.gpu_seconds, total.audio_seconds, total.characters, total.images) == (10.0, 1.5, 7, 2)
    assert none.requests == 3


def test_sums_beyond_32_bits_are_exact(store: Store) -> None:
    with store.write() as tx:
        usage.add(tx, [row(str(n), input_tokens=2**40 + 1, money_nano=2**52) for n in range(3)])
        (total,) = usage.report(tx, UsageQuery(by=()))
    assert total.input_tokens == 3 * (2**40 + 1)


def test_percentiles_are_of_what_went_well_and_exact(store: Store) -> None:
    with store.write() as tx:
        good = [row(str(n), total_s=float(n), first_byte_s=None, queue_s=0.5) for n in range(1, 101)]
        usage.add(tx, [*good, row("bad", status=429, total_s=0.0), row("other", key_id="k2", total_s=9.0)])
        first, second = usage.report(tx, UsageQuery(by=("key",)))
    assert (first.total_p50_s, first.total_p95_s, first.total_p99_s) == (50.0, 95.0, 99.0)
    assert first.first_byte_p50_s is None and first.queue_p99_s == 0.5 and first.failed == 1
    assert second.total_p50_s == second.total_p99_s == 9.0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(0, 1e4), min_size=1, max_size=60))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    store = open_store(tmp_path_factory.mktemp("usage"))
    with store.write() as tx:
        usage.add(tx, [row(str(n), total_s=value) for n, value in enumerate(values)])
        (total,) = usage.report(tx, UsageQuery(by=()))
    store.close()
    for percent, found in ((50, total.total_p50_s), (95, total.total_p95_s), (99, total.total_p99_s)):
        enough = [v for v in sorted(values) if sum(w <= v for w in values) * 100 >= percent * len(values)]
        assert found == enough[0]


def test_what_is_old_is_forgotten_a_portion_at_a_time(store: Store) -> None:
    with store.write() as tx:
        usage.add(tx, [row(str(n), at=float(n)) for n in range(usage.FORGET_ROWS + 10)])
        body = {"key_id": "k", "request": "{}", "response": "{}"}
        tx.execute(bodies.insert(), [{"id": "old", "at": 1.0, **body}, {"id": "new", "at": 50.0, **body}])
        assert usage.forget(tx, usage.FORGET_ROWS + 5, 50.0) == usage.FORGET_ROWS + 1
        assert usage.forget(tx, usage.FORGET_ROWS + 5, 50.0) == 5
        assert usage.forget(tx, usage.FORGET_ROWS + 5, 50.0) == 0
        assert tx.execute(sa.select(requests.c.at).order_by(requests.c.at).limit(1)).scalar() == usage.FORGET_ROWS + 5
        assert list(tx.execute(sa.select(bodies.c.id)).scalars()) == ["new"]
