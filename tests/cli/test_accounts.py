"""`keys`, `teams`, `budgets` and `usage` as a user types them, on the store alone, while no control runs."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.domain.amounts import Amounts
from modelport.domain.spec import Spec
from modelport.store import Store, journals, leases, open_store, services, usage
from tests.harness import modelport
from tests.store.test_usage import row


class Shell:
    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = modelport(*arguments, state_dir=self.store.directory)
        assert done.returncode == code, done.stderr
        self.warned = done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    store = open_store(tmp_path / "state")
    with store.write() as tx:
        services.insert(tx, Spec(model="m", name="chat"), None, 1.0)
    yield Shell(store)
    store.close()


def test_a_key_with_everything_rotated_and_revoked(shell: Shell) -> None:
    made = shell.json(
        *("keys", "create", "for me", "--scope", "infer", "--scope", "operate", "--model", "chta", "--from", "::1"),
        *("--route", "/v1/audio/*", "--team", "red", "--user", "anna", "--rpm", "60", "--tpm", "1000"),
        *("--in-flight", "4", "--max-tokens", "100", "--default-max-tokens", "50", "--priority", "3"),
        *("--weight", "2.5", "--deadline", "90s", "--expires", "30d", "--log-bodies"),
    )
    assert "no service 'chta' yet. Did you mean 'chat'?" in shell.warned
    assert made["scopes"] == ["infer", "operate"] and made["addresses"] == ["::1/128"] and made["log_bodies"]
    limits = {name: value for name, value in made["limits"].items() if value is not None}
    assert limits == {
        "requests_per_minute": 60, "tokens_per_minute": 1000, "in_flight": 4, "max_tokens": 100,
        "default_max_tokens": 50, "priority": 3, "weight": 2.5, "deadline": 90.0,
    }  # fmt: skip
    secret = shell("keys", "rotate", made["prefix"], "--overlap", "2h").strip()
    assert secret.startswith("mp-") and secret != made["secret"] and made["id"] in shell.warned
    listed = shell("keys", "list")
    assert "rotated" in listed and "rpm 60" in listed and "red" in listed and secret not in listed
    assert shell("keys", "revoke", made["id"]) == f"{made['id']} is revoked\n"
    assert "'infer', 'operate' or 'admin'" in shell("keys", "create", "--scope", "root", code=1)


def test_a_team_and_its_budget_through_a_period(shell: Shell) -> None:
    assert shell("teams", "set", "red", "--rpm", "60", "--in-flight", "4") == "red: rpm 60, in-flight 4\n"
    said = shell("budgets", "set", "team:red", "money", "12.5", "--period", "month", "--soft", "0.5", "--warn-only")
    assert "team:red may use 12.5000 money (month); 12.5000 remain" in said and shell.warned == ""
    budget = said.partition(":")[0]
    assert "15 money (month); 15 remain" in shell("budgets", "override", budget, "2.5", "--reason", "a demo")
    shown = shell("budgets", "list")
    assert "12.5000 + 2.5000" in shown and "warns only" in shown and budget in shown
    audited = shell("budgets", "audit")
    assert "budget.override" in audited and "a demo" in audited and "local" in audited
    assert shell("budgets", "delete", budget) == f"{budget} of team:red is deleted\n"
    assert "rpm 60" in shell("teams", "list")
    assert shell("teams", "delete", "red") == "red has no limits now\n"


def test_a_budget_is_counted_anew_from_the_journals(shell: Shell) -> None:
    budget = shell.json("budgets", "set", "service:chat", "tokens", "1000")["id"]
    directory = shell.store.directory / "journal" / "0"
    directory.mkdir(parents=True)
    (directory / "id").write_text("gw-1")
    records = b"".join(
        journals.encoded(record)
        for n in range(3)
        for record in (
            journals.Done(str(n), Amounts(input_tokens=7, output_tokens=3), [(budget, 0, 10)], b'{"service_id":"s"}'),  # type: ignore[arg-type]
        )
    )
    whole = journals.encoded(journals.Head(0, 0)) + records
    journals.segment_path(directory, 0).write_bytes(whole)
    with shell.store.write() as tx:
        leases.register(tx, "gw-1", 1.0)
        leases.apply(tx, "gw-1", len(whole), {(budget, 0): 20}, 1.0)
    said = shell("budgets", "recount", budget)
    assert "the journals say 30 tokens in 3 requests, the store 20: a difference of 10; --apply" in said
    assert shell.json("budgets", "recount", budget, "--reprice", "--apply")["applied"] is True
    assert "a difference of 0\n" in shell("budgets", "recount", budget, "--period-of", "2026-11-01")


def test_usage_by_anything_since_some_time_as_a_table_json_and_csv(shell: Shell) -> None:
    with shell.store.write() as tx:
        usage.add(tx, [row("a", at=1e9, team="red"), row("b", at=1e9 + 86400, money_nano=5 * 10**8)])
    assert "0.5000" in shell("usage") and "chat" in shell("usage")
    days = shell.json("usage", "--by", "day,team", "--since", "2001-09-10")
    assert [(line["day"], line["requests"]) for line in days] == [("2001-09-10", 1)]
    lines = list(csv.DictReader(io.StringIO(shell("usage", "--by", "team", "--csv"))))
    assert [(line["team"], line["requests"], line["total_p95_s"]) for line in lines] == [
        ("", "1", "0.2"),
        ("red", "1", "0.2"),
    ]
    assert shell.json("usage", "--since", "7d") == []
    assert "no point in time" in shell("usage", "--since", "soon", code=1)
