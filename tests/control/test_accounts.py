"""The REST API on keys, teams, budgets and usage: who may do what, what is written down, and that control checks what
the gateway says of a caller."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from modelport.client import Client
from modelport.control import rest
from modelport.control.access import HEADERS, NEEDED
from modelport.control.control import Control
from modelport.domain.spec import Spec
from modelport.domain.verbs import Accounts, Verbs
from modelport.settings import Settings
from modelport.store import Store, leases, open_store, services, usage
from tests.store.test_usage import row

ADMIN = {"x-modelport-key": "key-admin", "x-modelport-scopes": "admin"}
OPERATE = {"x-modelport-key": "key-op", "x-modelport-scopes": "infer,operate"}
INFER = {"x-modelport-key": "key-1", "x-modelport-scopes": "infer"}


class Api:
    """Control's app over a store, asked without a socket."""

    def __init__(self, store: Store) -> None:
        self.store = store
        settings = Settings(state_dir=store.directory)
        loop = asyncio.new_event_loop()
        loop.close()
        nothing: Any = None
        self.control = Control(settings, store, poke=lambda: None, platform=nothing, loop=loop)
        self.app = rest.make_app(self.control)

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
                return await client.request(method, rest.PREFIX + path, json=body, headers=headers)

        return asyncio.run(asked())

    def done(self, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        answer = self.ask(method, path, body, headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, body: Any = None, status: int = 400) -> str:
        answer = self.ask(method, path, body)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]["message"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    store = open_store(tmp_path / "state")
    with store.write() as tx:
        services.insert(tx, Spec(model="m", name="chat"), None, 1.0)
    yield Api(store)
    store.close()


# Access


def test_every_route_needs_a_scope_and_no_scope_is_for_a_route_that_is_not_there(api: Api) -> None:
    routes = [route for route in api.app.routes if isinstance(route, APIRoute)]
    assert len(routes) == len(api.app.routes), "a plain Starlette route would be checked by nobody"
    found = {(method, route.path.removeprefix(rest.PREFIX)) for route in routes for method in route.methods or ()}
    assert found == set(NEEDED)


def test_each_route_is_refused_to_who_has_less_than_it_needs(api: Api) -> None:
    less = {"any": [], "infer": [], "operate": [INFER], "admin": [INFER, OPERATE]}
    for (method, path), needed in NEEDED.items():
        path = path.replace("{service}", "x").replace("{alias:path}", "x")
        for parameter in ("{key}", "{team}", "{budget}"):
            path = path.replace(parameter, "x")
        for headers in less[needed]:
            answer = api.ask(method, path, {}, headers)
            assert answer.status_code == 403, (method, path)
            assert f"scope `{needed}`" in answer.json()["error"]["message"]
        if not path.endswith("logs"):
            assert api.ask(method, path, {}, ADMIN).status_code != 403, (method, path)


@pytest.mark.parametrize(
    "headers",
    [
        [("x-modelport-scopes", "admin")],
        [("x-modelport-key", "")],
        [("x-modelport-key", "a"), ("x-modelport-scopes", "infer"), ("x-modelport-scopes", "admin")],
        [("x-modelport-key", "a"), ("x-modelport-key", "b"), ("x-modelport-scopes", "admin")],
        [("x-modelport-user", "anna")],
    ],
)
def test_headers_that_say_by_half_or_twice_who_asks_give_no_scope(api: Api, headers: Any) -> None:
    assert all(name in HEADERS for name, _ in headers)
    assert api.ask("GET", "/keys", headers=headers).status_code == 403
    assert api.done("GET", "/usage", headers=headers) == []


def test_a_key_sees_its_own_usage_or_that_of_its_user_and_nothing_else(api: Api) -> None:
    with api.store.write() as tx:
        usage.add(
            tx,
            [
                row("a", key_id="key-1"),
                row("b", key_id="key-2", user="anna"),
                row("c", key_id="key-3", user="anna"),
                row("d", key_id="key-4", user="bert"),
            ],
        )

    def seen(headers: Any, query: str = "") -> list[str]:
        return [view["key"] for view in api.done("GET", f"/usage?by=key{query}", headers=headers)]

    assert seen(INFER) == ["key-1"]
    assert seen(INFER, "&key=key-2") == [] and seen(INFER, "&user=anna") == []
    assert seen({**INFER, "x-modelport-key": "key-2", "x-modelport-user": "anna"}) == ["key-2", "key-3"]
    assert seen({**OPERATE, "x-modelport-key": "key-4"}) == ["key-4"]
    assert seen(ADMIN) == seen(None) == ["key-1", "key-2", "key-3", "key-4"]


# What it does


def test_a_key_is_made_with_all_it_may_rotated_and_revoked_and_all_is_written_down(api: Api) -> None:
    wanted = {
        "name": "n", "scopes": ["infer", "operate"], "models": ["chat", "chta"], "routes": ["/v1/audio/*"],
        "addresses": ["10.0.0.1/8"], "team": "red", "user": "anna", "limits": {"requests_per_minute": 60},
        "expires_in_s": "30d", "log_bodies": True,
    }  # fmt: skip
    made = api.done("POST", "/keys", wanted, ADMIN)
    assert made["addresses"] == ["10.0.0.0/8"] and made["limits"]["requests_per_minute"] == 60
    assert made["notes"] == ["There is no service 'chta' yet. Did you mean 'chat'?"]
    rotated = api.done("POST", f"/keys/{made['prefix']}/rotate", {"overlap_s": "1h"})
    assert rotated["id"] == made["id"] and rotated["secret"] != made["secret"] and rotated["old_until"]
    assert api.done("DELETE", f"/keys/{made['prefix']}")["id"] == made["id"], "by the prefix from before, too"
    entries = api.done("GET", "/audit")
    assert [(e["actor"], e["action"], e["subject"]) for e in entries] == [
        ("local", "key.revoke", f"key:{made['id']}"),
        ("local", "key.rotate", f"key:{made['id']}"),
        ("key-admin", "key.create", f"key:{made['id']}"),
    ]
    text = api.ask("GET", "/audit").text + api.ask("GET", "/keys?old=true").text
    assert made["secret"] not in text and rotated["secret"] not in text
    assert "over and cannot be rotated" in api.refused("POST", f"/keys/{made['id']}/rotate", {})


def test_keys_revoked_more_than_a_day_ago_are_listed_only_when_asked_for(api: Api, monkeypatch: Any) -> None:
    made = api.done("POST", "/keys", {})
    api.done("DELETE", f"/keys/{made['id']}")
    assert [key["id"] for key in api.done("GET", "/keys")] == [made["id"]]
    monkeypatch.setattr("modelport.control.accounts.OLD_S", -1.0)
    assert api.done("GET", "/keys") == []
    assert [key["id"] for key in api.done("GET", "/keys?old=true")] == [made["id"]]


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/keys", {"scope": "admin"}, "unknown key 'scope'. Did you mean 'scopes'?"),
        ("POST", "/keys", {"scopes": ["root"]}, "'infer', 'operate' or 'admin'"),
        ("POST", "/keys", {"addresses": ["10.0.0.0/40"]}, "network such as 10.0.0.0/8"),
        ("POST", "/keys", {"limits": {"in_flight": 0}}, "greater than or equal to 1"),
        ("PUT", "/teams/-x", {}, "cannot be a team's name"),
        ("PUT", "/teams/red", {"rpm": 1}, "unknown key 'rpm'"),
        ("PUT", "/budgets", {"subject": "user:a", "unit": "money", "cap": 1}, "key:ID, team:NAME or service:NAME"),
        ("PUT", "/budgets", {"subject": "team:a", "unit": "money", "cap": -1}, "greater than or equal to 0"),
        ("GET", "/usage?by=key,colour", None, "'key', 'team', 'user'"),
        ("GET", "/usage?since=yesterday", None, "'yesterday' is no point in time"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(api: Api, method: str, path: str, body: Any, said: str) -> None:
    assert said in api.refused(method, path, body)
    assert api.done("GET", "/audit") == [], "nothing was changed"


def test_teams_are_those_with_limits_and_those_that_keys_name(api: Api) -> None:
    api.done("POST", "/keys", {"team": "blue"})
    api.done("PUT", "/teams/red", {"requests_per_minute": 5, "in_flight": 2})
    api.done("PUT", "/teams/red", {"requests_per_minute": 7})
    found = {team["name"]: (team["keys"], team["limits"]) for team in api.done("GET", "/teams")}
    assert found["blue"][0] == 1 and found["red"][1]["requests_per_minute"] == 7
    assert found["red"][1]["in_flight"] is None, "the new limits are in place of the old"
    api.done("DELETE", "/teams/red")
    assert [team["name"] for team in api.done("GET", "/teams")] == ["blue"]
    assert "No team 'blue' was set" in api.refused("DELETE", "/teams/blue", status=404)


def test_a_budget_shows_what_is_spent_leased_and_left_and_an_override_raises_it_for_now(api: Api) -> None:
    wanted = {"subject": "team:red", "unit": "money", "cap": 10, "period": "day"}
    made = api.done("PUT", "/budgets", wanted)
    assert made["remaining"] == 10 and made["notes"] == ["No key is of team 'red' yet."] and made["resets_at"]
    began = made["resets_at"] - 86400
    with api.store.write() as tx:
        leases.register(tx, "gw", 1.0)
        leases.take(tx, "gw", [leases.Want(made["id"], began, 9 * 10**9, 0)])
        leases.apply(tx, "gw", 1, {(made["id"], began): 8_500_000_000}, 1.0)
    assert api.done("PUT", "/budgets", {**wanted, "cap": 9})["id"] == made["id"], "the same one, changed"
    (shown,) = api.done("GET", "/budgets")
    assert (shown["cap"], shown["spent"], shown["leased"], shown["remaining"]) == (9, 8.5, 0.5, 0)
    assert shown["state"] == "warning"
    path = f"/budgets/{made['id']}/override"
    assert api.done("POST", path, {"extra": 2.5, "reason": "demo"}, ADMIN)["remaining"] == 2.5
    api.refused("POST", path, {"extra": -3, "reason": "too much"})
    api.refused("POST", path, {"extra": 1, "reason": " "})
    assert api.done("POST", path, {"extra": -2.5, "reason": "over"})["extra"] == 0
    entry = api.done("GET", "/audit?count=2")[1]
    assert (entry["actor"], entry["subject"], entry["reason"]) == ("key-admin", "team:red", "demo")
    assert api.done("DELETE", f"/budgets/{made['id']}")["spent"] == 8.5
    assert "no budget" in api.refused("DELETE", f"/budgets/{made['id']}", status=404)
    assert api.done("GET", "/budgets") == []


def test_a_budget_of_a_key_is_by_its_id_and_only_of_one_that_exists(api: Api) -> None:
    key = api.done("POST", "/keys", {})
    made = api.done("PUT", "/budgets", {"subject": f"key:{key['prefix']}", "unit": "tokens", "cap": 1000})
    assert made["subject"] == f"key:{key['id']}" and made["notes"] == [] and made["resets_at"] is None
    api.refused("PUT", "/budgets", {"subject": "key:key-0", "unit": "tokens", "cap": 1}, status=404)
    services_budget = api.done("PUT", "/budgets", {"subject": "service:chta", "unit": "tokens", "cap": 1})
    assert services_budget["notes"] == ["There is no service 'chta' yet. Did you mean 'chat'?"]


def test_aliases_are_of_services_that_exist_and_may_have_any_name(api: Api) -> None:
    wanted = {"name": "openai/gpt-4", "targets": [{"service": "chat"}]}
    assert api.done("PUT", "/aliases", wanted)["name"] == "openai/gpt-4"
    assert [alias["name"] for alias in api.done("GET", "/aliases")] == ["openai/gpt-4"]
    assert "service" in api.refused("PUT", "/aliases", {**wanted, "name": "chat"})
    assert "no service 'chta'" in api.refused("PUT", "/aliases", {**wanted, "targets": [{"service": "chta"}]})
    assert api.done("DELETE", "/aliases/openai%2Fgpt-4")["name"] == "openai/gpt-4"
    assert [e["action"] for e in api.done("GET", "/audit")] == ["alias.delete", "alias.set"]


def test_usage_as_csv_cannot_be_taken_for_a_formula(api: Api) -> None:
    with api.store.write() as tx:
        usage.add(tx, [row("a", model="=cmd()"), row("b", model='x,"y"')])
    answer = api.ask("GET", "/usage?by=model&format=csv&since=1970-01-01")
    assert answer.headers["content-type"].startswith("text/csv")
    head, *lines = answer.text.splitlines()
    assert head.startswith("day,team,user,key,service,model,route,requests,failed")
    assert lines[0].startswith(",,,,,'=cmd(),,1,0,0,3,4") and lines[1].startswith(',,,,,"x,""y""",,1')


def test_a_recount_without_journals_says_so(api: Api) -> None:
    made = api.done("PUT", "/budgets", {"subject": "service:chat", "unit": "tokens", "cap": 1})
    assert "journal" in api.refused("POST", f"/budgets/{made['id']}/recount", {}, status=404)


def test_client_and_control_have_every_verb() -> None:
    verbs = {name for protocol in (Accounts, Verbs) for name in vars(protocol) if not name.startswith("_")}
    for implementation in (Client, Control):
        assert {name for name in verbs if not callable(getattr(implementation, name, None))} == set()
