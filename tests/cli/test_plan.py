"""`modelport plan`: the verdict first, on this machine or on any GPUs, at what price; without a server too."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from modelport.domain.service import PlanView
from modelport.domain.spec import Spec
from tests.harness import Serving, modelport

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
"""Meta-Llama-3.1-8B's config.json, without what a plan does not read."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("llama") / "config.json"
    file.write_text(json.dumps(LLAMA_8B))
    return str(file)


def plan(state_dir: Path, *arguments: str, code: int = 0, **more: str) -> str:
    done = modelport("plan", *arguments, state_dir=state_dir, **more)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if done.stdout else done.stderr


def planned(state_dir: Path, *arguments: str, code: int = 0) -> Any:
    return json.loads(plan(state_dir, *arguments, "--json", code=code))


def test_it_needs_no_server_and_begins_with_the_verdict(state_dir: Path) -> None:
    said = plan(state_dir, "smollm2", "--context", "2048", "--concurrency", "2")
    assert said.startswith("It fits: needs about ")
    assert "2 at once, 2,048 tokens each" in said and "weights" in said and "92.1 MiB" in said
    assert "█" in said or "#" in said
    assert "--ctx-size 4096 --parallel 2" in said
    assert "LLAMA_API_KEY" in said, "names of secrets are shown, never their values"
    assert not (state_dir / "modelport.db").exists(), "a plan leaves nothing behind"


def test_a_config_json_is_enough_for_a_plan_on_gpus_that_are_not_here(state_dir: Path, config: str) -> None:
    found = planned(
        state_dir, "--from-config", config, "--gpu", "h100:1", "--engine", "vllm", "--max-model-len", "8192"
    )
    view = PlanView.model_validate(found)
    assert view.verdict == "fits" and view.engine == "vllm" and view.accelerators == "h100:1"
    assert 14.5 < view.parts["weights"] / 2**30 < 15.5
    assert view.kv_tokens and view.kv_tokens.low > 8192 and view.max_parallel >= 1
    assert view.split.gpus == 1
    said = plan(state_dir, "--from-config", config, "--gpu", "H100:1", "--engine", "vllm")
    for words in ("kv cache", "most at once", "$", "(estimate", "ready in", "TP 1" if "split" in said else "engine"):
        assert words in said, words


def test_what_does_not_fit_says_what_would_and_exits_1(state_dir: Path, config: str) -> None:
    arguments = ("--from-config", config, "--gpu", "T4:1", "--engine", "vllm", "--context", "131072")
    said = plan(state_dir, *arguments, code=1)
    assert said.startswith("It does not fit: ")
    view = PlanView.model_validate(planned(state_dir, *arguments, code=1))
    assert not view.fits and view.changes
    assert view.changes[0].sentence in said


def test_gpu_auto_lists_offers_from_the_cheapest_on(state_dir: Path, config: str) -> None:
    said = plan(state_dir, "--from-config", config, "--gpu", "auto", "--engine", "vllm", "--context", "4096")
    assert "$/HOUR" in said and "estimate" in said
    views = [
        PlanView.model_validate(row)
        for row in planned(state_dir, "--from-config", config, "--gpu", "auto", "--engine", "vllm", "--context", "4096")
    ]
    prices = [view.offer.usd_per_hour for view in views if view.offer]
    assert len(prices) == len(views) > 1 and prices == sorted(prices)
    assert all(view.fits for view in views)


def test_compare_shows_accelerators_and_models_side_by_side(state_dir: Path, config: str) -> None:
    arguments = ("--from-config", config, "--engine", "vllm", "--context", "4096", "--compare", "H100:1,H200:2,Z9:1")
    rows = planned(state_dir, *arguments)
    assert [(row["accelerators"], row.get("verdict")) for row in rows] == [
        ("H100:1", "fits"),
        ("H200:2", "fits"),
        ("Z9:1", None),
    ]
    said = plan(state_dir, *arguments)
    assert "no plan" in said and "The GPU type 'Z9' is not known" in said
    two = planned(state_dir, "smollm2", "--compare", config)
    assert [row["model"] for row in two] == ["smollm2", config]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smollm2", "--gpu", "H100"], "accelerators are NAME:COUNT, like A100:8"),
        (["smollm2", "--gpu", "H100:0"], "at least 1, not 0"),
        (["smollm2", "--gpu", "H1000:1"], "Did you mean 'H100'"),
        (["smollm2", "--memory-fraction", "1.5"], "memory_fraction is 1.5, but"),
        (["smollm2", "--speculative-tokens", "3"], "method eagle3 needs a draft model"),
        (["/nowhere/config.json"], "/nowhere/config.json"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(state_dir: Path, arguments: list[str], words: str) -> None:
    said = plan(state_dir, *arguments, code=1)
    assert words in said and len(said.splitlines()) == 1 and said.startswith("modelport: ")


@pytest.mark.parametrize("arguments", [[], ["smollm2", "--from-config", "x"], ["a", "--gpu", "auto", "--compare", "b"]])
def test_wrong_usage_is_exit_2(state_dir: Path, arguments: list[str]) -> None:
    assert "Usage: " in plan(state_dir, *arguments, code=2)


def test_a_running_server_plans_with_what_its_starts_taught(shared: Serving) -> None:
    shared.start("taught")
    shared.ready("taught")
    found = planned(shared.state_dir, "smollm2", "--engine", "stub")
    assert found["ready_s"]["low"] > 0 and any("earlier starts" in reason for reason in found["reasons"])


def test_rest_plans_on_gpus_and_lists_offers(shared: Serving, config: str) -> None:
    wanted = Spec(model=config, engine="vllm", accelerators="A100-80GB:2", context=4096)
    view = shared.client.plan(wanted)
    assert view.fits and view.devices == 2
    assert shared.client.offers(wanted)[0].offer


def test_a_start_on_accelerators_that_are_not_here_is_refused(shared: Serving) -> None:
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("this machine has a GPU")
    done = modelport("start", "smollm2", "--gpu", "H100:1", "--name", "far", state_dir=shared.state_dir)
    assert done.returncode == 1
    assert "'far' asks for H100:1, and this machine has no GPU. Leave accelerators out" in done.stderr
    assert "far" not in [service.name for service in shared.client.list()]
