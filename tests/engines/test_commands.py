"""The commands of the GPU engines: golden files, each held against the options the engine's own parser has.

`MODELPORT_WRITE_GOLDEN=1 pytest tests/engines/test_commands.py` writes them anew, to be read as a difference.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelport import engines
from modelport.domain.facts import Adapter
from modelport.domain.plan import Split
from modelport.errors import ModelportError
from tests.engines.cases import (
    CASES,
    COMMIT,
    CPU,
    H100,
    L4,
    MI300X,
    MOE,
    OF,
    device,
    facts,
    plan,
    spec,
    speculative,
    stored,
)
from tests.harness import ROOT

GOLDEN = Path(__file__).parent / "golden"
FLAGS: dict[str, dict[str, list[str]]] = {
    **json.loads((ROOT / "bench/data/engine_flags.json").read_text())["flags"],
    **json.loads((ROOT / "bench/data/engine_flags_tgi.json").read_text())["flags"],
}


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test puts on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def install(tmp_path: Path, engine: str, version: str) -> None:
    """An environment as pip leaves it: a script, a Python, and what says the version."""
    script = {"vllm": "vllm", "sglang": "sglang", "tgi": "text-generation-launcher"}[engine]
    (tmp_path / "bin").mkdir()
    for name in (script, "python"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / f"lib/python3.12/site-packages/{engine}-{version}.dist-info").mkdir(parents=True)


def launch(engine: str, *case: Any) -> Any:
    return engines.load(engine).launch(*case)


def refused(engine: str, *case: Any) -> str:
    with pytest.raises(ModelportError) as caught:
        launch(engine, *case)
    assert "\n" not in caught.value.message and caught.value.message.endswith(".")
    return caught.value.message


@pytest.mark.parametrize(("engine", "case"), [(engine, case) for engine, cases in OF.items() for case in cases])
def test_the_command_is_the_one_that_was_stated(engine: str, case: str) -> None:
    made = launch(engine, *CASES[case])
    text = "\n".join([f"image {made.image}", *sorted(f"env {k}={v}" for k, v in made.env.items()), *made.argv, ""])
    golden = GOLDEN / f"{engine}-{case}.txt"
    if os.environ.get("MODELPORT_WRITE_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text
    version = made.image.rpartition(":")[2].removeprefix("v")
    unknown = [arg for arg in made.argv if arg.startswith("--") and arg not in FLAGS[engine][version]]
    assert not unknown, f"{engine} {version} has no {unknown}"


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
def test_the_key_is_always_set_and_never_in_the_command(engine: str) -> None:
    for case in OF[engine]:
        made = launch(engine, *CASES[case])
        assert "engine-key" in made.secret_env.values() or "{engine-key}" in "".join(made.secret_files.values())
        assert not any("key" in arg for arg in made.argv) and ("{host}" in made.argv and "{port}" in made.argv)
        assert "--trust-remote-code" not in made.argv


def test_a_hub_model_is_pinned_to_its_commit_and_gets_the_token_by_reference() -> None:
    for engine in ("vllm", "sglang", "tgi"):
        made = launch(engine, facts(), plan(), spec())
        assert made.argv[made.argv.index("--revision") + 1] == COMMIT
        assert made.secret_env["HF_TOKEN"] == "env:HF_TOKEN"
        local = launch(engine, *CASES["local-directory"])
        assert "--revision" not in local.argv and "HF_TOKEN" not in local.secret_env


def test_gguf_is_left_to_llamacpp() -> None:
    gguf = facts("/models/m.gguf", format="gguf")
    for engine in ("vllm", "sglang", "tgi"):
        assert "GGUF" in engines.load(engine).supports(gguf) or "safetensors" in engines.load(engine).supports(gguf)
    assert engines.choose("auto", gguf).name == "llamacpp"


def test_auto_prefers_what_is_installed_here_unless_the_plan_is_for_elsewhere(tmp_path: Path) -> None:
    assert engines.choose("auto", facts()).name == "vllm"
    install(tmp_path, "sglang", "0.5.16")
    assert engines.choose("auto", facts()).name == "sglang"
    assert engines.choose("auto", facts(), here=False).name == "vllm"
    with pytest.raises(ModelportError, match="llamacpp serves GGUF.*tgi does not load exotic"):
        engines.choose("auto", facts(quantized=stored("exotic")))


def test_an_engine_that_is_not_here_says_so_instead_of_making_a_command() -> None:
    for engine in ("vllm", "sglang", "tgi"):
        assert f"{engine} is not installed" in refused(engine, facts(), plan(), spec(accelerators=None))


def test_an_installed_version_decides_which_options_are_used(tmp_path: Path) -> None:
    install(tmp_path, "vllm", "0.9.2")
    vllm = engines.load("vllm")
    assert "0.9.2" in vllm.installed()
    made = vllm.launch(*CASES["embeddings"])
    assert made.argv[0] == str(tmp_path / "bin/vllm") and made.argv[-2:] == ("--task", "embed")
    assert "0.9.2 has no speculative decoding by mtp" in refused("vllm", *CASES["mtp"])
    made = vllm.launch(facts(), plan(context=0), spec())
    assert "--max-model-len" not in made.argv and "no `--max-model-len auto`" in made.notes[0]


def test_the_context_is_left_to_vllm_only_where_it_knows_auto() -> None:
    argv = launch("vllm", facts(), plan(context=0), spec()).argv
    assert argv[argv.index("--max-model-len") + 1] == "auto"


@pytest.mark.parametrize(("engine", "version"), [("vllm", "0.6.3"), ("sglang", "0.4.6")])
def test_a_version_that_is_too_old_is_not_started(tmp_path: Path, engine: str, version: str) -> None:
    install(tmp_path, engine, version)
    assert f"{engine} {version} is installed" in refused(engine, *CASES["dense-1-gpu"])


def test_a_checkout_without_tags_is_taken_for_the_newest(tmp_path: Path) -> None:
    install(tmp_path, "vllm", "0.1.dev18496+gd4e0675a7")
    assert "--runner" in launch("vllm", *CASES["embeddings"]).argv


def test_vllm_for_cpus_runs_on_cpus_with_room_for_the_plan(tmp_path: Path) -> None:
    install(tmp_path, "vllm", "0.32.0+cpu")
    assert engines.load("vllm").runs_on() == {"cpu"}
    made = launch("vllm", facts(), plan(device=CPU, context=8192, parallel=4), spec(accelerators=None))
    assert made.env["VLLM_CPU_KVCACHE_SPACE"] == "4" and "--gpu-memory-utilization" not in made.argv


def test_sglang_runs_by_the_python_of_its_own_environment(tmp_path: Path) -> None:
    install(tmp_path, "sglang", "0.5.16")
    made = launch("sglang", facts(), plan(), spec(accelerators=None))
    assert made.argv[:3] == (str(tmp_path / "bin/python"), "-m", "sglang.launch_server")


def test_int8_is_torchao_in_the_newest_sglang_that_has_it(tmp_path: Path) -> None:
    for kind in ("int8wo", "int8dq", "int4wo-128"):
        made = launch("sglang", facts(), plan(), spec(quantization=kind))
        assert made.argv[made.argv.index("--torchao-config") + 1] == kind
        assert made.image.endswith("v0.5.16") and "--torchao-config" in FLAGS["sglang"]["0.5.16"]
        assert "newer ones" in made.notes[0]
    install(tmp_path, "sglang", "0.5.23")
    assert "only sglang the first to 0.5.16 has it" in refused("sglang", facts(), plan(), spec(quantization="int8wo"))


def test_bitsandbytes_is_never_given_to_torchao() -> None:
    argv = launch("sglang", facts(), plan(), spec(quantization="bitsandbytes")).argv
    assert "--torchao-config" not in argv and argv[argv.index("--quantization") + 1] == "bitsandbytes"
    older = launch("vllm", facts(), plan(), spec(quantization="bitsandbytes"))
    assert older.image.endswith("v0.24.0") and "is for vllm 0.24.0" in older.notes[0]


def test_what_an_engine_cannot_quantize_is_told_with_what_it_can() -> None:
    message = refused("vllm", facts(), plan(), spec(quantization="int4wo-128"))
    assert "vllm 0.32.0 cannot make weights int4wo-128" in message and "It has fp8, bitsandbytes" in message
    assert "Did you mean 'int4wo-128'" in refused("sglang", facts(), plan(), spec(quantization="int4wo128"))


def test_fp8_is_refused_where_there_are_no_fp8_cores_and_nothing_is_put_in_its_place() -> None:
    message = refused("sglang", facts(), plan(gpu=L4), spec(quantization="fp8"))
    assert "fp8 needs Hopper or newer" in message and "int8wo works on L4: set quantization int8wo" in message
    assert "int8wo works on L4" in refused("tgi", facts(), plan(gpu=L4), spec(quantization="fp8"))
    assert "set quantization int8wo" not in refused("vllm", facts(), plan(gpu=L4), spec(quantization="fp8"))
    assert "fp8 needs Hopper" in refused("vllm", facts(), plan(device=CPU), spec(quantization="fp8"))
    assert "fp8" in launch("vllm", facts(), plan(gpu=MI300X), spec(quantization="fp8")).argv


def test_quantized_files_are_not_quantized_again() -> None:
    fp8 = facts("org/dense-8b-fp8", quantized=stored("fp8", 8))
    for engine in ("vllm", "sglang", "tgi"):
        made = launch(engine, fp8, plan(), spec(quantization="fp8"))
        assert not {"--quantization", "--quantize"} & set(made.argv)
        assert made.notes[0] == "The files are fp8 already: they are loaded as they are, and not quantized again."
        awq = facts(quantized=stored("awq"))
        assert "quantized already (awq, 4 bit)" in refused(engine, awq, plan(), spec(quantization="fp8"))


def test_sglang_gets_its_three_speculative_numbers_together() -> None:
    argv = launch("sglang", *CASES["eagle3"]).argv
    numbers = [
        argv[argv.index(f"--speculative-{name}") + 1] for name in ("num-steps", "eagle-topk", "num-draft-tokens")
    ]
    assert numbers == ["3", "1", "4"]


def test_speculative_decoding_that_does_not_exist_is_a_sentence() -> None:
    ngram, draft = spec(speculative=speculative("ngram")), spec(speculative=speculative("draft", "org/d"))
    assert "NVIDIA GPUs only, and MI300X" in refused("sglang", facts(), plan(gpu=MI300X), ngram)
    assert "no speculative decoding by draft where experts" in refused(
        "sglang", MOE, plan(Split(data=8, expert=8)), draft
    )
    assert "tgi has no speculative decoding by draft" in refused("tgi", facts(), plan(), draft)
    cloud = spec(speculative=speculative("eagle3", "gs://bucket/draft"))
    assert "cloud address" in refused("vllm", facts(), plan(), cloud)
    assert "neither a Hub id" in refused("vllm", facts(), plan(), spec(speculative=speculative("eagle3", "./nowhere")))


def test_a_draft_in_a_directory_is_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "draft").mkdir()
    monkeypatch.chdir(tmp_path)
    argv = launch("vllm", facts(), plan(), spec(speculative=speculative("eagle3", "draft"))).argv
    assert json.loads(argv[argv.index("--speculative-config") + 1])["model"] == str(tmp_path / "draft")


def test_models_in_a_cloud_are_streamed_by_vllm_and_named_by_the_others() -> None:
    cloud = facts("s3://bucket/model", revision="")
    argv = launch("vllm", cloud, plan(), spec()).argv
    assert argv[argv.index("--load-format") + 1] == "runai_streamer"
    for engine in ("sglang", "tgi", "llamacpp"):
        assert "download" in refused(engine, cloud, plan(), spec())


def test_llamacpp_names_the_command_that_fetches_a_hub_file() -> None:
    assert "`hf download org/m-gguf FILE.gguf`" in refused(
        "llamacpp", facts("org/m-gguf", format="gguf"), plan(), spec()
    )


def test_llamacpp_spreads_layers_over_the_gpus_of_the_plan() -> None:
    gguf = facts("/models/m.gguf", format="gguf")
    two = launch("llamacpp", gguf, plan(Split(pipeline=2)), spec()).argv
    assert two[two.index("--tensor-split") + 1] == "1,1" and two[two.index("--split-mode") + 1] == "layer"
    one = launch("llamacpp", gguf, plan(devices=4), spec()).argv
    assert one[one.index("--split-mode") + 1] == "none" and one[one.index("--n-gpu-layers") + 1] == "999"
    assert "quantizes nothing" in refused("llamacpp", gguf, plan(), spec(quantization="fp8"))


def test_an_adapter_is_served_only_where_its_name_selects_it() -> None:
    tuned = facts(adapter=Adapter("/models/adapter", 16, 10**8))
    assert "vllm and tgi do" in engines.load("sglang").supports(tuned)
    assert "LoRA" in engines.load("llamacpp").supports(replace(tuned, format="gguf"))
    assert "up to rank 512" in engines.load("vllm").supports(facts(adapter=Adapter("/models/adapter", 1024, 10**8)))
    assert "download it" in refused("tgi", facts(adapter=Adapter("org/adapter", 16, 10**8)), plan(), spec())


def test_an_image_for_nvidia_is_not_offered_to_others() -> None:
    assert [launch(engine, facts(), plan(gpu=MI300X), spec()).image for engine in ("vllm", "sglang", "tgi")] == [""] * 3


UNDOING = ("--api-key", "--api-k", "--api-key=x", "--api_key", "--host", "--host=0.0.0.0", "--ho", "--port", "--config")


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("arg", [*UNDOING, "--served-model-name", "--served_model", "--ssl-keyfile=k", "--revision"])
def test_arguments_that_would_undo_ours_are_refused_in_every_spelling(engine: str, arg: str) -> None:
    message = refused(engine, facts(), plan(), spec(engine_args=(arg, "x")))
    assert f"not passed on to {engine}" in message and "=" not in message.split("which")[0]


@pytest.mark.parametrize(
    ("engine", "arg"),
    [
        *(("tgi", "-p80"), ("tgi", "--env"), ("tgi", "--hostname"), ("sglang", "--admin-api-key"), ("sglang", "--tp")),
        *(("vllm", "--uds"), ("vllm", "-tp=2"), ("vllm", "-qfp8"), ("vllm", "--hf-token"), ("vllm", "--middleware")),
        *(("vllm", "--grpc"), ("sglang", "--nccl-port")),
    ],
)
def test_each_engine_s_own_ways_out_are_refused_too(engine: str, arg: str) -> None:
    assert "engine_args" in refused(engine, facts(), plan(), spec(engine_args=(arg,)))


def test_other_arguments_pass_as_they_are_and_last() -> None:
    args = ("--tool-call-parser", "hermes", "--enable-auto-tool-choice", "--cpu-offload-gb=4", "-O3")
    for engine in ("vllm", "sglang"):
        assert launch(engine, facts(), plan(), spec(engine_args=args)).argv[-5:] == args


def test_tgi_splits_by_tensor_parallelism_only_and_says_who_sees_its_key() -> None:
    assert "tensor parallelism only" in refused("tgi", facts(), plan(Split(data=2)), spec())
    assert "set `replicas`" in refused("tgi", facts(), plan(), spec(data_parallel=2))
    assert "which users of this machine can read" in launch("tgi", facts(), plan(), spec()).notes[-1]


def test_check_answers_before_anything_is_planned() -> None:
    sglang = engines.load("sglang")
    assert sglang.check(facts(), spec(), device(H100)) == ()
    with pytest.raises(ModelportError, match="needs Hopper"):
        sglang.check(facts(), spec(quantization="fp8"), device(L4))
