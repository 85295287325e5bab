"""The client's verbs on accounts give what the store's own do, over a real control's socket."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from modelport.client import Client
from modelport.control.accounts import StoreAccounts
from modelport.domain.alias import Alias
from modelport.domain.budget import Budget
from modelport.domain.key import KeySpec
from modelport.domain.limits import Limits
from modelport.domain.spec import Spec
from modelport.domain.usage import UsageQuery
from modelport.errors import ModelportError
from modelport.store import Store, open_store, services, usage
from tests.harness import ROOT, environment, short_directory, until
from tests.store.test_usage import row


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    for directory in short_directory():
        store = open_store(directory)
        yield store
        store.close()


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[Client]:
    command = [sys.executable, "-m", "tests.fakes.modelport", "serve", "--only", "control"]
    env = environment(store.directory, MODELPORT_REQUESTS_KEEP="1d")
    with store.write() as tx:
        usage.add(tx, [row("old", at=1.0)])
    control = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    client = Client(socket=store.directory / "control.sock")
    until(lambda: _answers(client), what="control")
    yield client
    os.kill(control.pid, 15)
    control.wait(30)


def _answers(client: Client) -> bool:
    try:
        return bool(client.info())
    except ModelportError:
        return False


def test_all_of_it(client: Client, store: Store) -> None:
    own = StoreAccounts(store)
    key = client.create_key(KeySpec(name="n", team="red", expires_in_s=60))
    assert key.secret and client.rotate_key(key.id, 5).secret != key.secret
    assert client.list_keys() == own.list_keys() and len(client.list_keys(old=True)) == 2, "and the first admin's"
    assert client.set_team("red", Limits(in_flight=3)).limits.in_flight == 3
    assert client.list_teams() == own.list_teams()
    budget = client.set_budget(Budget(subject="team:red", unit="money", cap=2.5, period="week"))
    assert client.override_budget(budget.id, 1.5, "why not").remaining == 4
    assert client.list_budgets() == own.list_budgets()
    with pytest.raises(ModelportError, match="journal"):
        client.recount_budget(budget.id, None, reprice=True, apply=False)
    assert client.delete_budget(budget.id).id == budget.id and client.delete_team("red").keys == 1
    with store.write() as tx:
        services.insert(tx, Spec(model="m", name="chat", idle_timeout=0), None, 1.0)
    alias = Alias.model_validate({"name": "a/b c", "targets": [{"service": "chat"}]})
    assert client.put_alias(alias) == alias and client.list_aliases() == [alias]
    assert client.delete_alias("a/b c") == alias
    assert client.revoke_key(key.id).revoked_at
    assert client.audit(3) == own.audit(3) and len(client.audit(100)) == 11


def test_usage_takes_a_query(client: Client, store: Store) -> None:
    with store.write() as tx:
        usage.add(tx, [row("a", at=4e9, user="anna & co"), row("b", at=4e9 + 1)])
    query = UsageQuery(by=("user", "day"), user="anna & co", since=3e9, until=4e9 + 1)
    assert [view.requests for view in client.usage(query)] == [1]
    assert client.usage(UsageQuery(by=())) == StoreAccounts(store).usage(UsageQuery(by=()))


def test_what_is_older_than_it_is_kept_is_forgotten_when_control_starts(client: Client, store: Store) -> None:
    assert client.info()
    until(lambda: not StoreAccounts(store).usage(UsageQuery(by=(), until=2.0)), what="the old request is gone")
