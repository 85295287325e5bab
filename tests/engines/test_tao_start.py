"""A container server of TAO's as a bare process: started by a real Modelport, asked through its gateway, stopped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from modelport.domain.service import ServiceView
from modelport.domain.spec import Spec
from tests.catalog.write_safetensors import llama_directory
from tests.fakes.cosmos_rl import program
from tests.harness import Serving, short_directory, until

PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
BODY = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ],
        }
    ],
    "max_tokens": 64,
}


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        programs = directory.parent / "bin"
        program(programs)
        running = Serving(directory)
        running.environment["PATH"] = f"{programs}:{running.environment['PATH']}"
        running.environment["HF_TOKEN"] = "hf_verysecret"
        running.environment["HOME"] = str(directory.parent)
        with running:
            yield running


def start(serving: Serving, name: str, **fields: Any) -> ServiceView:
    folder = llama_directory(serving.state_dir.parent / name)
    return serving.client.start(Spec(**{"model": str(folder), "name": name, "engine": "cosmos-rl", **fields}))


def command(serving: Serving, view: ServiceView) -> list[str]:
    pids = [pid for pids in serving.engines().values() for pid in pids]
    lines = [psutil.Process(pid).cmdline() for pid in pids]
    return next(line for line in lines if any(str(view.id) in word for word in line))


def test_it_goes_from_loading_to_an_answer_under_the_service_s_id(serving: Serving) -> None:
    gate: Path = serving.state_dir.parent / "loading"
    gate.mkdir()
    view = start(serving, "vlm")
    until(lambda: serving.client.status("vlm").instances, 20, "it is launched")
    assert serving.client.status("vlm").state == "starting"
    (gate / "go").touch()
    serving.ready("vlm")
    argv = command(serving, view)
    job = json.loads(argv[argv.index("--job") + 1])
    assert job["job_id"] == view.id and job["neural_network_name"] == "cosmos-rl"
    assert job["specs"]["model_path"] == str(serving.state_dir.parent / "vlm")
    answer = serving.ask("vlm", **BODY).json()
    assert answer["choices"][0]["message"]["content"].endswith(f"characters for {job['specs']['model_path']}")
    assert answer["object"] == "chat.completion"


def test_the_picture_reaches_it(serving: Serving) -> None:
    headers = {"authorization": f"Bearer {serving.admin_key}"}
    seen = httpx.get(f"{serving.url}/services/vlm/api/v1/status", headers=headers).json()["asked"][-1]
    assert seen["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


def test_no_secret_is_in_its_command(serving: Serving) -> None:
    view = serving.client.status("vlm")
    assert "hf_verysecret" not in " ".join(command(serving, view))


def test_it_is_gone_after_a_stop(serving: Serving) -> None:
    view = serving.client.status("vlm")
    serving.client.stop("vlm")
    serving.reach("vlm", "stopped")
    instances = {instance.id for instance in view.instances}
    until(lambda: not instances & set(serving.engines()), 10, "its process ends")
