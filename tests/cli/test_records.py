"""`workspaces` and `experiments` as a user types them, on the store alone, while no control runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.store import open_store
from tests.harness import modelport
from tests.storage.conftest import s3

__all__ = ["s3"]
ID = "3b1c7a52-2f63-4c44-9d56-1f8f1d5f3a10"
REFERENCES = ("--access-key-ref", "env:TEAM_ID", "--secret-key-ref", "env:TEAM_SECRET", "--region", "us-east-1")


class Shell:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.env: dict[str, str] = {}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = modelport(*arguments, state_dir=self.state_dir, **self.env)
        assert done.returncode == code, done.stderr
        assert "open-sesame" not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    open_store(tmp_path / "state").close()
    yield Shell(tmp_path / "state")


def test_a_workspace_is_set_checked_listed_and_removed(shell: Shell, s3: str) -> None:
    said = shell("workspaces", "set", "team", "aws://models", "--endpoint", s3, *REFERENCES)
    assert said.startswith("team is s3://models (")
    row = shell("workspaces", "list").splitlines()[-1]
    assert "s3://models" in row and s3 in row and "env:TEAM_ID, env:TEAM_SECRET" in row
    assert "TEAM_ID, which is not set" in shell("workspaces", "check", "team", code=1)
    shell.env = {"TEAM_ID": "user", "TEAM_SECRET": "open-sesame"}
    assert shell("workspaces", "check", "team") == "team: ok\n"
    shell("workspaces", "set", "lost", "s3://nobucket", "--endpoint", s3, *REFERENCES)
    assert "no such bucket or container as in 's3://nobucket'" in shell("workspaces", "check", "lost", code=1)
    assert shell("workspaces", "remove", shell.json("workspaces", "list")[1]["id"]) == "team is removed\n"
    assert [found["name"] for found in shell.json("workspaces", "list")] == ["lost"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x", "s3://models/deeper"), "A workspace is a bucket, like s3://bucket"),
        (("x", "s3://models", "--secret-key-ref", "open-sesame"), "given by its place, env:NAME"),
    ],
)
def test_what_cannot_be_a_workspace_is_one_sentence(shell: Shell, arguments: tuple[str, ...], said: str) -> None:
    assert said in shell("workspaces", "set", *arguments, code=1)


def test_a_training_is_registered_with_its_models_listed_and_removed(shell: Shell) -> None:
    first = ("experiments", "register", ID, "/models/a", "--arch", "vila", "--org", "o", "--epoch", "1", "--score", "1")
    assert shell(*first) == f"{ID} is Done, with 1 model\n"
    assert shell("experiments", "register", ID, "/models/b", "--epoch", "2", "--score", "0.5").endswith("2 models\n")
    shell("experiments", "register", ID, "/models/c", "--epoch", "2", "--status", "Running")
    (found,) = shell.json("experiments", "list")
    assert (found["network_arch"], found["org"], found["status"]) == ("vila", "o", "Running")
    assert [one["path"] for one in found["checkpoints"]] == ["/models/a", "/models/c"]
    assert "/models/a" in shell("experiments", "list").splitlines()[-1], "the best"
    assert "'Pending', 'Running'" in shell("experiments", "register", ID, "/m", "--status", "Finished", code=1)
    assert shell("experiments", "remove", ID) == f"{ID} is removed\n"
