"""An engine that takes its key from a file only: the platform writes it, and it is nowhere else."""

import asyncio
import json
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelport import engines
from modelport.domain.launch import ENGINE_KEY, SECRET_MARK, Labels, Launch
from modelport.errors import ModelportError
from modelport.platforms.process import ProcessPlatform
from tests.engines.cases import facts, plan, spec
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


SAYS_IT = """
import glob, os, sys, time
key = next((open(name).read().split('"')[1] for name in glob.glob("*.yaml")), None) or os.environ[sys.argv[1]]
said = f"INFO server_args=ServerArgs(model_path='m', api_key='{key}', port=1)" + chr(10)
said += "{'api_key': '" + key + "'}" + chr(10) + chr(27) + "[32m" + key + chr(27) + "[0m" + chr(10)
data = (said + "x" * (16384 - 30) + key + "x" * 40000 + key).encode()
for at in range(0, 400, 7):
    os.write(1, data[at : at + 7])  # as small as a pipe can tear it
middle = data.rindex(key.encode()) + 20
os.write(2, data[406:middle])
time.sleep(0.2)  # the shim puts away what it has of a line so long, and the rest of the key is still to come
os.write(2, data[middle:])
sys.exit(3)
"""
"""What SGLang does (`logger.info(f"{server_args=}")`, sglang/srt/entrypoints/engine.py), and worse."""


@pytest.mark.parametrize("engine", ["llamacpp", "vllm", "sglang", "tgi"])
def test_a_key_that_an_engine_prints_reaches_no_log(tmp_path: Path, engine: str) -> None:
    model = facts("/models/m.gguf", format="gguf") if engine == "llamacpp" else facts()
    made = engines.load(engine).launch(model, plan(), spec())
    variable = next((name for name, secret in made.secret_env.items() if secret == ENGINE_KEY), "")
    assert variable or any(SECRET_MARK in text for text in made.secret_files.values())
    bound = replace(made, argv=(sys.executable, "-c", SAYS_IT, variable)).bind(
        Labels("service", f"said-{engine}", "tests"), "127.0.0.1", 1, 60.0
    )
    platform = ProcessPlatform(tmp_path)

    async def all_that_is_said() -> str:
        instance = await platform.launch(bound)
        await asyncio.to_thread(until, (tmp_path / "instances" / f"said-{engine}" / "exit.json").exists, 10)
        return "\n".join([line async for line in platform.logs(instance, 1000, follow=False)])

    logs = asyncio.run(all_that_is_said())
    home = tmp_path / "instances" / f"said-{engine}"
    key, end = (home / "key").read_text(), json.loads((home / "exit.json").read_text())
    assert end["code"] == 3 and "server_args=ServerArgs(" in logs and "api_key='[engine key]'" in logs
    for text in (logs, json.dumps(end), *(path.read_text() for path in home.glob("engine.log*"))):
        joined = text.replace("\n", "")
        assert not [at for at in range(0, len(key) - 16) if key[at : at + 16] in joined]
    assert logs.replace("\n", "").count("[engine key]") == 5
