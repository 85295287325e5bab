"""vLLM for real, on CPU: our command starts it, it answers with the key and not without. Run by `make test-vllm`.

The command is made by modelport.engines and started by the process platform, as a service's would be; the model is
SmolLM2-135M as safetensors. scripts/vllm-cpu.sh makes both (about 4 minutes and 3.5 GB, once).
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from modelport import engines
from modelport.domain.facts import ModelFacts
from modelport.domain.instance import Instance
from modelport.domain.launch import Labels, Launch
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec
from modelport.platforms.process import ProcessPlatform
from tests.harness import until

MADE = os.environ.get("MODELPORT_TEST_VLLM", "")
if not MADE:
    pytest.skip("starts a real vLLM, which takes minutes: `make test-vllm`", allow_module_level=True)
pytestmark = pytest.mark.timeout(900)


@dataclass
class Started:
    launch: Launch
    instance: Instance
    home: Path

    def post(self, path: str, key: str) -> httpx.Response:
        body = {"model": "chat", "prompt": "The capital of France is", "max_tokens": 6, "temperature": 0}
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{self.instance.url}{path}", json=body, headers=headers, timeout=60)

    @property
    def key(self) -> str:
        return (self.home / "key").read_text()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    state = tmp_path_factory.mktemp("state")
    os.environ["PATH"] = f"{MADE}/bin:{os.environ['PATH']}"
    model = f"{MADE}/smollm2"
    facts = ModelFacts(
        source=model, path=model, format="safetensors", architecture="llama", task="generate", parameters=134515008,
        weight_bytes=269030016, largest_layer_bytes=7079040, layers=30, embedding_size=576, vocabulary=49152,
        context_tokens=8192, kv_bytes_per_token=23040, quantization="BF16", pooling=False, chat_template=True,
    )  # fmt: skip
    plan = Plan(Device("cpu", "CPU", 2**34, 2**33), "generate", (), 1024, 4, "fits", ())
    launch = engines.load("vllm").launch(facts, plan, Spec(model=model, name="chat", eager=True))
    launch = launch.bind(Labels("service", "vllm-1", "tests"), "127.0.0.1", 18993, 600)
    platform = ProcessPlatform(state)
    instance = asyncio.run(platform.launch(launch))
    home = state / "instances" / "vllm-1"

    def ready() -> bool:
        seen = asyncio.run(platform.inspect(instance))
        assert seen.running, seen.exit
        try:
            return httpx.get(f"{instance.url}{launch.health_path}", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        until(ready, 600, "vLLM becomes healthy")
        yield Started(launch, instance, home)
    finally:
        asyncio.run(platform.stop(instance, launch.grace_s))


def test_a_completion_is_answered_under_the_service_s_name_with_the_key(started: Started) -> None:
    answer = started.post("/v1/completions", started.key)
    assert answer.status_code == 200 and "Paris" in answer.json()["choices"][0]["text"]
    assert answer.json()["model"] == "chat"


def test_nobody_is_answered_without_the_key(started: Started) -> None:
    assert started.post("/v1/completions", "wrong").status_code == 401
    assert httpx.get(f"{started.instance.url}/v1/models").status_code == 401


def test_the_key_is_in_no_process_s_arguments_and_not_in_the_log(started: Started) -> None:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert started.key.encode() not in file.read_bytes()
        except OSError:
            continue  # it ended meanwhile
    assert started.key not in (started.home / "engine.log").read_text()


def test_what_it_printed_about_its_cache_is_understood(started: Started) -> None:
    said = engines.load("vllm").measured((started.home / "engine.log").read_text().splitlines())
    assert said and said.kv_bytes == 1 << 30
    assert said.kv_tokens * 23040 == pytest.approx(1 << 30, rel=0.01)


def test_its_metrics_are_where_the_launch_says(started: Started) -> None:
    assert "vllm:" in httpx.get(f"{started.instance.url}{started.launch.metrics_path}").text
