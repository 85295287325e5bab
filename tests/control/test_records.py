"""The REST API on workspaces, experiments, and on what a whole key is; nothing of it repeats a secret."""

import logging
from typing import Any

import pytest

from modelport.domain.spec import Spec
from modelport.store import services
from tests.control.test_accounts import ADMIN, INFER, OPERATE, Api, api

__all__ = ["api"]
S3 = {
    "name": "team",
    "cloud": "s3",
    "bucket": "models",
    "endpoint": "http://127.0.0.1:9",
    "access_key_ref": "env:TEAM_ID",
    "secret_key_ref": "env:TEAM_SECRET",
}
ID = "3b1c7a52-2f63-4c44-9d56-1f8f1d5f3a10"
TRAINED = {"id": ID, "network_arch": "vila", "checkpoints": [{"path": "s3://models/m", "epoch": 3, "score": 0.9}]}


def test_a_workspace_is_put_listed_and_deleted_and_all_is_written_down(api: Api) -> None:
    made = api.done("PUT", "/workspaces", S3, ADMIN)
    assert len(made["id"]) == 36 and api.done("PUT", "/workspaces", {**S3, "region": "x"})["id"] == made["id"]
    assert [found["region"] for found in api.done("GET", "/workspaces")] == ["x"]
    with api.store.write() as tx:
        services.insert(tx, Spec(model="m", name="user", workspace="team"), None, 1.0)
    assert "'user' uses the workspace 'team'" in api.refused("DELETE", "/workspaces/team")
    with api.store.write() as tx:
        services.delete(tx, services.find(tx, "user"))
    assert api.done("DELETE", f"/workspaces/{made['id']}", headers=ADMIN)["name"] == "team"
    assert "no workspace" in api.refused("DELETE", "/workspaces/team", status=404)
    assert [(e["actor"], e["action"], e["subject"]) for e in api.done("GET", "/audit")] == [
        ("key-admin", "workspace.delete", "workspace:team"),
        ("local", "workspace.set", "workspace:team"),
        ("key-admin", "workspace.set", "workspace:team"),
    ]


def test_a_secret_that_stands_where_its_place_belongs_is_not_repeated(api: Api, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        said = api.refused("PUT", "/workspaces", {**S3, "secret_key_ref": "open-sesame"})
    assert "env:NAME" in said and "open-sesame" not in said + caplog.text + api.ask("GET", "/audit").text


def test_a_workspace_is_checked_with_the_credentials_it_refers_to(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.done("PUT", "/workspaces", S3)
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    assert "TEAM_ID, which is not set" in api.refused("POST", "/workspaces/team/check")
    monkeypatch.setenv("TEAM_ID", "user")
    monkeypatch.setenv("TEAM_SECRET", "open-sesame")
    said = api.refused("POST", "/workspaces/team/check", status=503)
    assert "'s3://models' cannot be reached" in said and "open-sesame" not in said


def test_who_may_operate_registers_experiments_and_sees_no_workspace(api: Api) -> None:
    assert api.done("PUT", "/experiments", TRAINED, OPERATE)["status"] == "Done"
    assert [found["id"] for found in api.done("GET", "/experiments", headers=OPERATE)] == [ID]
    assert api.ask("GET", "/experiments", headers=INFER).status_code == 403
    for method, path in (("GET", "/workspaces"), ("PUT", "/workspaces"), ("POST", "/workspaces/team/check")):
        assert api.ask(method, path, S3, OPERATE).status_code == 403
    assert api.done("DELETE", f"/experiments/{ID}", headers=OPERATE)["network_arch"] == "vila"
    assert [(e["actor"], e["action"]) for e in api.done("GET", "/audit")] == [
        ("key-op", "experiment.delete"),
        ("key-op", "experiment.set"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/workspaces", {**S3, "cloud": "ftp"}, "'s3', 'az' or 'gs'"),
        ("/workspaces", {**S3, "bucket": "a/b"}, "letters, digits"),
        ("/workspaces", {**S3, "endpoint": "http://user:pass@h"}, "without credentials"),
        ("/workspaces", {**S3, "buckt": "x"}, "unknown key 'buckt'. Did you mean 'bucket'?"),
        ("/experiments", {"id": ID}, "at least one checkpoint"),
        ("/experiments", {**TRAINED, "workspace": "nowhere"}, "no workspace 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(api: Api, path: str, body: Any, said: str) -> None:
    answer = api.ask("PUT", path, body)
    assert answer.status_code in (400, 404) and said in answer.json()["error"]["message"]
    assert api.done("GET", "/audit") == []


def test_a_whole_key_is_known_until_it_is_over(api: Api) -> None:
    def check(secret: Any) -> Any:
        return api.ask("POST", "/keys/check", {"secret": secret}, ADMIN)

    made = api.done("POST", "/keys", {"name": "n", "scopes": ["operate"], "user": "anna"})
    found = check(made["secret"]).json()
    assert (found["id"], found["user"], found["scopes"], found["secret"]) == (made["id"], "anna", ["operate"], None)
    rotated = api.done("POST", f"/keys/{made['id']}/rotate", {"overlap_s": 60})["secret"]
    assert check(made["secret"]).json()["id"] == check(rotated).json()["id"] == made["id"]
    again = api.done("POST", f"/keys/{made['id']}/rotate", {"overlap_s": 0})["secret"]
    assert (check(made["secret"]).status_code, check(rotated).status_code) == (401, 401), "overlaps no more"
    api.done("DELETE", f"/keys/{made['id']}")
    assert check(again).status_code == 401
    brief = api.done("POST", "/keys", {"expires_in_s": 0.001})["secret"]
    assert check(brief).status_code == 401


@pytest.mark.parametrize("secret", ["", "mp-", "mp-abcdefgh", "x" * 54, "mp-é" + "x" * 50])
def test_what_is_no_key_is_told_in_the_same_words(api: Api, secret: str) -> None:
    made = api.done("POST", "/keys", {})["secret"]
    wrong = made[:-1] + ("a" if made[-1] != "a" else "b")
    said = {api.refused("POST", "/keys/check", {"secret": given}, 401) for given in (secret, wrong, made[:11])}
    assert said == {"This is no API key of this Modelport, or it is over."}


@pytest.mark.parametrize("body", [{}, {"secret": 7}, {"secret": ["open-sesame"]}, {"secret": "x", "open-sesame": 1}])
def test_a_body_without_a_key_is_not_repeated(api: Api, body: Any) -> None:
    assert "sesame" not in api.refused("POST", "/keys/check", body)
