"""Real gateways in trouble: 200 at once, kill -9 under load, two on one store, a full disk, a clock that jumps."""

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelport.domain.amounts import Unit
from modelport.store import open_store
from tests.gateway.world import chat, until
from tests.money.world import ENGINE_ROUTES, Holder, Reply, Shifted, Till, kills, together
from tests.postgres import References, Server
from tests.postgres import postgres as postgres  # the fixture

TOKENS = {"tokens": 4, "delay_s": 0.1}


def storm(till: Till, key: Holder, model: str, times: int) -> list[Reply]:
    return together([(till.port, key.secret, chat(model, max_tokens=4, stub=TOKENS))] * times)


# 200 at once


@pytest.mark.parametrize(("unit", "each"), [("requests", 1), ("output_tokens", 4)])
def test_200_parallel_requests_on_a_budget_for_50_are_50(fresh: Till, unit: Unit, each: int) -> None:
    engine = fresh.engine()
    fresh.on("busy", engine, "stub", ENGINE_ROUTES, limits={"queue": 1000})
    key = fresh.holder()
    budget = fresh.budget(f"key:{key.id}", unit, 50 * each, period="day")
    fresh.gateway()
    replies = storm(fresh, key, "busy", 200)
    assert sorted(reply.status for reply in replies) == [200] * 50 + [402] * 150
    for reply in (reply for reply in replies if reply.status == 402):
        name = unit.replace("_", "-")
        assert reply.headers[f"x-ratelimit-limit-{name}"] == str(50 * each)
        assert float(reply.headers[f"x-ratelimit-remaining-{name}"]) < each
        assert 0 < float(reply.headers[f"x-ratelimit-reset-{name}"].removesuffix("s")) <= 86400
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert reply.error["code"] == "budget_spent"
    fresh.stop()
    assert fresh.agree(budget, unit) == 50 * each
    assert engine.seen()["requests"] == 50


# kill -9


def test_after_kill_9_under_load_what_was_settled_and_what_was_interrupted_is_spent(fresh: Till) -> None:
    kills(fresh, 3, 0.5)


def test_after_sigterm_under_load_nothing_was_interrupted(fresh: Till) -> None:
    kills(fresh, 2, 0.5, gently=True)


# Two on one store


@pytest.fixture
def pair(postgres: Server, tmp_path: Path) -> Iterator[tuple[Till, Till]]:
    """Two gateways with state directories of their own, one PostgreSQL, and one engine behind both."""
    references = References(tmp_path / "references", postgres.url(postgres.database()))
    made: list[Till] = []
    try:
        for _ in range(2):
            till = Till(store_url_ref=references.url_ref, pepper_ref=references.pepper_ref)
            made.append(till)
            till.store.close()
            till.store = open_store(till.directory, references.url_ref, references.pepper_ref)
            till.stack.callback(till.store.close)
            till.admin = till.key("admin")
        yield made[0], made[1]
    finally:
        for till in made:
            till.close()


def test_leak_3547_two_gateways_share_one_budget(pair: tuple[Till, Till]) -> None:
    """One kills -9 the other in between; what it had leased comes back with its journal."""
    first, second = pair
    engine = first.engine()
    first.on("shared", engine, "stub", ENGINE_ROUTES, limits={"queue": 1000})
    key = first.holder()
    budget = first.budget(f"key:{key.id}", "requests", 50)
    first.gateway()
    second.gateway()
    request = chat("shared", max_tokens=4, stub=TOKENS)
    replies = together([(till.port, key.secret, request) for till in pair for _ in range(100)])
    served = sum(reply.status == 200 for reply in replies)
    assert served <= 50 and {reply.status for reply in replies} <= {200, 402, 503}
    assert served == engine.seen()["requests"]
    second.kill()
    second.gateway()

    def spend_the_rest() -> bool:
        nonlocal served
        served += sum(reply.status == 200 for reply in storm(first, key, "shared", 4) + storm(second, key, "shared", 4))
        assert served <= 50
        return served == 50

    until(spend_the_rest, 20, "leases that nobody uses to come back")
    assert storm(first, key, "shared", 1)[0].status == storm(second, key, "shared", 1)[0].status == 402
    first.stop()
    second.stop()
    assert first.agree(budget, "requests", [second]) == 50 == engine.seen()["requests"]


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where state directories of this test lie: a disk of 4 MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_serves_nothing_and_loses_nothing_and_space_mends_it(small_disk: Path, fresh: Till) -> None:
    engine = fresh.engine()
    fresh.on("tiny", engine, "stub", ENGINE_ROUTES)
    key = fresh.holder()
    budget = fresh.budget(f"key:{key.id}", "output_tokens", 10**6)
    fresh.gateway()
    assert fresh.ask(key, "tiny").status_code == 200
    under_way: list[int] = []
    slow = threading.Thread(
        target=lambda: under_way.append(fresh.ask(key, "tiny", "slow", stub={"delay_s": 2.5}).status_code)
    )
    slow.start()
    until(lambda: engine.seen()["in_flight"] == 1)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    statuses = [fresh.ask(key, "tiny").status_code for _ in range(40)]  # some fit into what the last page has left
    assert statuses[-1] == 503 and set(statuses) <= {200, 503}
    seen = engine.seen()["requests"]
    answer = fresh.ask(key, "tiny")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert int(answer.headers["retry-after"]) >= 1 and str(fresh.directory) not in answer.text
    assert engine.seen()["requests"] == seen, "nothing is served unmetered"
    slow.join()
    assert under_way == [200], "what was dispatched before goes on"
    assert fresh.process.poll() is None

    ballast.unlink()
    until(lambda: fresh.ask(key, "tiny").status_code == 200, what="space to be noticed")
    fresh.stop()
    served = engine.seen()["requests"]
    assert fresh.agree(budget, "output_tokens") == 8 * served
    assert "Traceback" not in fresh.log.read_text()


# A clock that jumps


@pytest.mark.parametrize("seconds", [3600, -86400])
def test_a_clock_that_jumps_costs_nobody_a_request_and_keeps_the_books(shifted: Shifted, seconds: float) -> None:
    """Limits go by a clock that does not jump; budgets in all hold; a request that began before is settled where it
    began."""
    shifted.on("tiny", shifted.engine(), "stub", ENGINE_ROUTES)
    key, limited = shifted.holder(), shifted.holder(limits={"requests_per_minute": 2})
    ever = shifted.budget(f"key:{key.id}", "requests", 6)
    daily = shifted.budget(f"key:{key.id}", "output_tokens", 10**6, period="day")
    shifted.gateway()
    assert [shifted.ask(limited, "tiny").status_code for _ in range(3)] == [200, 200, 429]
    assert shifted.ask(key, "tiny").status_code == 200
    across: list[int] = []
    slow = threading.Thread(target=lambda: across.append(shifted.ask(key, "tiny", stub={"delay_s": 0.5}).status_code))
    slow.start()
    until(lambda: len(shifted.records()[0]) == 4)
    shifted.shift(seconds)
    assert shifted.ask(limited, "tiny").status_code == 429
    assert shifted.ask(key, "tiny").status_code == 200
    slow.join()
    shifted.shift(0)
    assert [shifted.ask(key, "tiny").status_code for _ in range(4)] == [200, 200, 200, 402]
    assert across == [200]
    shifted.stop()
    assert shifted.agree(ever, "requests") == 6
    now = time.time()
    days = {shifted.standing(daily, now).began, shifted.standing(daily, now + seconds).began}
    by_day = {(charge[0], charge[1]): 0 for _, done in [shifted.records()] for one in done for charge in one.charges}
    for one in shifted.records()[1]:
        for charge in one.charges:
            by_day[charge[0], charge[1]] += charge[2]
    found = {began: amount for (budget, began), amount in by_day.items() if budget == daily}
    assert set(found) <= days and sum(found.values()) == 6 * 8
    for began, amount in found.items():
        at = now if shifted.standing(daily, now).began == began else now + seconds
        assert shifted.standing(daily, at).balance.spent == amount
        assert shifted.standing(daily, at).balance.leased == 0


def test_a_key_that_expires_by_the_gateways_clock_is_refused_when_that_has_jumped(shifted: Shifted) -> None:
    shifted.on("tiny", shifted.engine(), "stub", ENGINE_ROUTES)
    key = shifted.holder(expires_in_s=1800)
    shifted.gateway()
    assert shifted.ask(key, "tiny").status_code == 200
    shifted.shift(3600)
    assert shifted.ask(key, "tiny").status_code == 401
    shifted.shift(0)
    assert shifted.ask(key, "tiny").status_code == 200
