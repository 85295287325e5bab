"""What recorded starts teach: a correction of memory, the time to ready, and what was measured."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from modelport.domain.plan import Span
from modelport.store import Store, open_store, starts
from modelport.store.tables import starts as table


def record(store: Store, *ratios: float | None, engine: str = "vllm", **fields: Any) -> None:
    for ratio in ratios:
        with store.write() as tx:
            given = {"model": "m", "seconds": 1.0, "planned_bytes": None, "measured_bytes": None, "now": 1.0, **fields}
            starts.record(tx, engine=engine, overhead_ratio=ratio, **given)


def learned(store: Store) -> starts.Learned:
    with store.read() as tx:
        return starts.learned(tx)


def test_a_correction_is_the_median_of_at_least_three_measured_starts_of_that_engine(store: Store) -> None:
    record(store, 1.2, None, 1.4)
    record(store, 9.0, 9.0, 9.0, engine="sglang")
    assert learned(store).corrections == {"sglang": 2.0}, "two measured starts are too few; far ones are bounded"
    record(store, 1.3)
    assert learned(store).corrections["vllm"] == 1.3
    record(store, 0.1, 0.1, 0.1, 0.1)
    assert learned(store).corrections["vllm"] == 0.5


def test_old_starts_no_longer_count(store: Store) -> None:
    record(store, *[2.0] * 20)
    record(store, *[1.1] * 11)
    assert learned(store).corrections["vllm"] == pytest.approx(1.1)


def test_the_time_to_ready_is_that_of_the_last_starts_of_a_model_by_an_engine(store: Store) -> None:
    for seconds in (900.0, 5.0, 3.0, 4.0, 9.0, 2.0):
        record(store, None, seconds=seconds)
    record(store, None, engine="sglang", seconds=77.0)
    assert learned(store).ready_s == {("m", "vllm"): Span(2, 4, 9), ("m", "sglang"): Span(77, 77, 77)}


def test_what_an_instance_took_is_found_by_its_id(store: Store) -> None:
    record(store, 1.0, instance_id="i-1", measured_bytes=7, measured_kv_tokens=30)
    record(store, 1.0, instance_id="i-2")
    with store.read() as tx:
        assert starts.measured(tx, ["i-1", "i-2", "i-3"]) == {"i-1": (7, 30), "i-2": (None, None)}


def test_starts_are_carried_into_another_store_as_its_newest(store: Store, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other")
    record(store, 1.5, 1.5)
    record(other, 1.1, seconds=8.0)
    with store.read() as source, other.write() as into:
        starts.carry(source, into)
    assert learned(other).corrections == {"vllm": 1.5}
    assert learned(other).ready_s == {("m", "vllm"): Span(1, 1, 8)}
    other.close()


def test_a_store_of_the_first_version_keeps_its_starts_when_it_is_brought_up_to_date(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    import modelport.store

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'modelport.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(modelport.store.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            sa.text("INSERT INTO starts (model, engine, seconds, planned_bytes, at) VALUES ('m', 'e', 4, 10, 1)")
        )
    engine.dispose()
    store = open_store(tmp_path)
    with store.read() as tx:
        assert starts.estimates(tx) == {"m": 4}
        assert tx.execute(sa.select(table.c.planned_bytes, table.c.overhead_ratio)).all() == [(10, None)]
    store.close()
