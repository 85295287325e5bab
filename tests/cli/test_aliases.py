"""`modelport aliases`, as a user types it."""

import json

import pytest

from tests.harness import Serving, modelport


def command(serving: Serving, *arguments: str, code: int = 0) -> str:
    done = modelport("aliases", *arguments, state_dir=serving.state_dir)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def served(shared: Serving) -> Serving:
    """With the services ali and baba."""
    for name in ("ali", "baba"):
        shared.start(name)
        shared.ready(name)
    return shared


def test_an_alias_is_set_listed_used_and_deleted(served: Serving) -> None:
    share = ("ali:9", "baba:1", "--header", "baba=x-canary: yes", "--sticky")
    assert command(served, "set", "thieves", *share) == "thieves is ali:9 baba:1\n"
    shown = json.loads(command(served, "list", "--json"))
    assert shown[0]["targets"][1] == {"service": "baba", "weight": 1.0, "header": "x-canary: yes"}
    row = command(served, "list").splitlines()[-1]
    assert "ali:9 baba:1" in row and "baba=x-canary: yes" in row and "yes" in row
    assert served.ask("thieves").status_code == 200
    assert command(served, "delete", "thieves") == "thieves is deleted\n"
    assert json.loads(command(served, "list", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ali", "baba"), "'ali' is a service's own name"),
        (("x", "alli"), "no service 'alli'. Did you mean 'ali'?"),
        (("x", "ali:0"), "at least one target needs a weight above 0"),
        (("x", "ali:much"), "weight is 'much'"),
        (("x", "ali", "--header", "ali"), "--header is SERVICE=NAME:VALUE"),
        (("x", "ali", "--header", "baba=x:y"), "--header names 'baba'"),
    ],
)
def test_what_cannot_be_an_alias_is_one_sentence(served: Serving, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in command(served, "set", *arguments, code=1)
