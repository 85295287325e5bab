"""What the gateway writes down: activity, usage and lines; and that requests go on when it cannot."""

import json
import time
from pathlib import Path

import pytest

from modelport.gateway import requestlog
from modelport.gateway.requestlog import RequestLog
from modelport.store import gateways, keys
from tests.gateway.world import World, chat, until


def line(number: int) -> bytes:
    return b'{"id":"r%d","pad":"%b"}' % (number, b"x" * 80)


def test_the_log_is_private_rotates_and_keeps_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requestlog, "ROTATE_BYTES", 1000)
    log = RequestLog(tmp_path / "logs")
    for number in range(40):
        log.write([line(number)])
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert set(files) <= {"requests.jsonl", "requests.1.jsonl", "requests.2.jsonl", "requests.3.jsonl"}
    assert len(files) >= 3 and all(p.stat().st_mode & 0o777 == 0o600 for p in (tmp_path / "logs").iterdir())
    newest = (tmp_path / "logs" / "requests.1.jsonl").read_text() + "".join(
        p.read_text() for p in (tmp_path / "logs").glob("requests.jsonl")
    )
    assert json.loads(newest.splitlines()[-1])["id"] == "r39"


def test_lines_that_cannot_be_written_do_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requestlog, "WAITING", 3)
    log = RequestLog(tmp_path)
    assert [log.add(line(n), stored=n == 1) for n in range(5)] == [True, True, True, False, False]
    assert len(log.take()) == 3 and log.take() == []
    assert log.take_refused() == [line(1)] and log.take_refused() == []


def test_a_short_request_counts_as_activity_of_its_service(world: World) -> None:
    service = world.service("active", world.engine())
    before = time.time()
    assert world.http.post("/v1/chat/completions", json=chat("active")).status_code == 200

    def last() -> float:
        with world.store.read() as tx:
            return gateways.last_requests(tx).get(service.id, 0.0)

    until(lambda: last() >= before)


def test_a_log_that_cannot_be_written_breaks_no_request(fresh: World) -> None:
    fresh.service("tiny", fresh.engine())
    (fresh.directory / "logs").write_text("in the way")
    fresh.gateway()
    assert fresh.http.post("/v1/chat/completions", json=chat("tiny")).status_code == 200
    until(lambda: 'modelport_dropped_total{what="log"}' in fresh.http.get("/metrics").text)
    assert until(lambda: fresh.usage("tiny")).output_tokens == 8


def test_a_store_that_cannot_be_read_is_said_once_and_the_last_routes_stay(fresh: World) -> None:
    fresh.service("tiny", fresh.engine())
    fresh.gateway()
    with fresh.store.write() as tx:
        tx.exec_driver_sql("ALTER TABLE revision RENAME TO hidden")
    until(lambda: "store cannot be read" in fresh.log.read_text())
    time.sleep(0.8)
    assert fresh.http.post("/v1/chat/completions", json=chat("tiny")).status_code == 200
    assert fresh.log.read_text().count("the last routes and keys stay in force") == 1
    with fresh.store.write() as tx:
        tx.exec_driver_sql("ALTER TABLE hidden RENAME TO revision")
    until(lambda: "can be read again" in fresh.log.read_text())
    with fresh.store.write() as tx:
        keys.revoke(tx, fresh.admin[:11], 1.0)
    until(lambda: fresh.http.get("/v1/models").status_code == 401, 3)
    assert "Traceback" not in fresh.log.read_text()
