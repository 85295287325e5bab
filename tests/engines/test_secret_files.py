"""An engine that takes its key from a file only: the platform writes it, and it is nowhere else."""

import asyncio
import json
import stat
import sys
from pathlib import Path

import pytest

from modelport.domain.launch import SECRET_MARK, Labels, Launch
from modelport.errors import ModelportError
from modelport.platforms.process import ProcessPlatform
from tests.harness import until

ENGINE = "import os,sys,time\nprint(open('engine.yaml').read(), os.environ.get('HF_TOKEN'), flush=True)\ntime.sleep(60)"


def launch(instance: str, name: str = "engine.yaml", **secret_env: str) -> Launch:
    return Launch(
        argv=(sys.executable, "-c", ENGINE),
        health_path="/",
        labels=Labels("service", instance, "tests"),
        secret_files={name: f'api-key: "{SECRET_MARK}"\n'},
        secret_env=secret_env,
    )


def test_the_file_holds_the_key_for_its_owner_only_and_the_log_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a-secret-of-the-user")
    platform = ProcessPlatform(tmp_path)
    instance = asyncio.run(platform.launch(launch("files-1", HF_TOKEN="env:HF_TOKEN")))
    try:
        home = tmp_path / "instances" / "files-1"
        key, file, log = (home / "key").read_text(), home / "engine.yaml", home / "engine.log"
        assert file.read_text() == f'api-key: "{key}"\n' and not key.startswith("-")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        until(lambda: log.exists() and "api-key" in log.read_text(), 10)
        assert key not in log.read_text() and "hf_a-secret" not in log.read_text()
        written = (home / "launch.json").read_text()
        assert key not in written and "hf_a-secret" not in written
        assert json.loads(written)["secret_env"] == {"HF_TOKEN": "env:HF_TOKEN"}
    finally:
        asyncio.run(platform.stop(instance, 1))


def test_a_token_that_is_not_set_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    platform = ProcessPlatform(tmp_path)
    instance = asyncio.run(platform.launch(launch("files-2", HF_TOKEN="env:HF_TOKEN")))
    try:
        log = tmp_path / "instances" / "files-2" / "engine.log"
        assert until(lambda: log.exists() and log.read_text(), 10).strip().endswith("None")
    finally:
        asyncio.run(platform.stop(instance, 1))


@pytest.mark.parametrize("name", ["../out.yaml", "launch.json", "key", "engine.log", "a/b.yaml"])
def test_a_secret_file_cannot_take_another_s_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelportError, match="secret file"):
        asyncio.run(ProcessPlatform(tmp_path).launch(launch("files-3", name)))
    assert not (tmp_path / "instances").exists()
