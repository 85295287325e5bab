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
from modelport.domain.plan import Device, Split
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
    T4,
    V100,
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
    said = refused("llamacpp", facts("org/m-gguf/m-Q4_0.gguf", format="gguf"), plan(), spec())
    assert f"`hf download org/m-gguf m-Q4_0.gguf --revision {COMMIT}`" in said


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


@pytest.mark.parametrize(
    ("engine", "args", "instead"),
    [
        *(
            ("vllm", arg, "set `expert_parallel`")
            for arg in ("-ep", "--enable-expert-p", "--no-enable-expert-parallel")
        ),
        *(("vllm", arg, "set `memory_fraction`") for arg in ("--kv-cache-memory-bytes=9", "--num_gpu_blocks_override")),
        *(("vllm", arg, "set `memory_fraction`") for arg in ("--performance-mode", "--skip-mm-profiling")),
        *(("vllm", arg, "engines of one machine") for arg in ("--nnodes", "-n2", "-r", "--master-addr", "-dpr")),
        *(("vllm", arg, "engines of one machine") for arg in ("--data-parallel-rank", "-dpl=1", "-dpb")),
        *(("vllm", arg, "set `task`") for arg in ("--runner", "--task", "--convert")),
        *(("vllm", arg, "set `tensor_parallel`") for arg in ("-dcp", "-dcp=2", "-t", "-pcp")),
        ("vllm", "--load-format", "follows from `model`"),
        ("vllm", "--allowed-local-media-path=/", "read files of this machine"),
        *(("sglang", arg, "set `memory_fraction`") for arg in ("--max-total-tokens", "--swa-full-tokens-ratio")),
        *(("sglang", arg, "set `memory_fraction`") for arg in ("--mamba-full-memory-ratio", "--max-mamba-cache-size")),
        *(("sglang", arg, "engines of one machine") for arg in ("--dist-init-addr", "--nnodes=2", "--node-rank")),
        ("sglang", "--delete-ckpt-after-loading", "deletes the model's files"),
        ("sglang", "--load-format", "follows from `model`"),
        ("tgi", "--max-batch-total-tokens", "set `memory_fraction`, `context` or `parallel`"),
        ("tgi", "--master-port", "engines of one machine"),
    ],
)
def test_what_would_undo_the_plan_is_refused_with_what_to_set_instead(engine: str, args: str, instead: str) -> None:
    assert instead in refused(engine, facts(), plan(), spec(engine_args=(args,)))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
def test_code_that_a_model_brings_is_run_only_as_written_and_is_said(engine: str) -> None:
    made = launch(engine, facts(), plan(), spec(engine_args=("--trust-remote-code",)))
    assert made.argv[-1] == "--trust-remote-code" and any("runs the Python files" in note for note in made.notes)
    assert not any("runs the Python files" in note for note in launch(engine, facts(), plan(), spec()).notes)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
def test_a_config_alone_is_never_named_as_a_model(engine: str) -> None:
    made = launch(engine, *CASES["config-alone"])
    assert "MODEL" in made.argv and not any("config.json" in arg for arg in made.argv)
    assert any("A config.json alone cannot be started" in note for note in made.notes)
    mtp = launch("sglang", CASES["config-alone"][0], plan(), spec(speculative=speculative("mtp")))
    assert mtp.argv[mtp.argv.index("--speculative-draft-model-path") + 1] == "MODEL"


def test_a_config_alone_is_not_started_on_this_machine(tmp_path: Path) -> None:
    install(tmp_path, "vllm", "0.32.0")
    message = refused("vllm", CASES["config-alone"][0], plan(), spec(accelerators=None))
    assert "'/configs/config.json' is a config.json alone" in message and "set `model`" in message


def test_more_gpus_than_a_machine_has_are_said_with_the_command() -> None:
    wide, one = plan(Split(tensor=8, pipeline=2)), plan(Split(tensor=8))
    for engine, option in (("vllm", "--nnodes"), ("sglang", "--dist-init-addr")):
        notes = launch(engine, facts(), wide, spec(accelerators="H100:16")).notes
        assert any("does not start as it is: 2 machines need" in n and option in n for n in notes)
        assert not any("machines" in note for note in launch(engine, facts(), one, spec()).notes)
    assert "which it does not have" in launch("tgi", facts(), plan(Split(tensor=16)), spec()).notes[0]


def test_a_machine_that_has_more_gpus_is_not_doubted(tmp_path: Path) -> None:
    install(tmp_path, "vllm", "0.32.0")
    assert launch("vllm", facts(), plan(Split(tensor=16)), spec(accelerators=None)).notes == ()


def test_sglang_shares_experts_out_over_copies_only_as_it_was_asked_to() -> None:
    plain = launch("sglang", *CASES["moe-tp4-dp2"]).argv
    assert plain[plain.index("--tp-size") + 1] == "4" and plain[plain.index("--dp-size") + 1] == "2"
    assert not {"--ep-size", "--enable-dp-attention"} & set(plain)
    assert plain[plain.index("--max-running-requests") + 1] == "32"
    shared = launch("sglang", *CASES["moe-dp8-ep8"]).argv
    assert {"--ep-size", "--enable-dp-attention"} <= set(shared)
    assert "copies of one GPU each" in refused("sglang", MOE, plan(Split(tensor=2, data=4, expert=8)), spec())


def test_dp_attention_is_for_models_that_sglang_has_it_for(tmp_path: Path) -> None:
    asked, split = spec(data_parallel=8, expert_parallel=8), plan(Split(data=8, expert=8))
    for kind in ("deepseek_v3", "kimi_k2", "llama4_text", "glm4_moe", "minimax_m2"):
        assert "--enable-dp-attention" in launch("sglang", replace(MOE, architecture=kind), split, asked).argv
    assert "not known to share experts out" in refused("sglang", replace(MOE, architecture="mixtral"), split, asked)
    install(tmp_path, "sglang", "0.5.6")
    older = refused("sglang", replace(MOE, architecture="minimax_m2"), split, asked)
    assert "sglang 0.5.6" in older and "minimax_m2" in older


def test_a_step_of_vllm_holds_a_token_of_each_request() -> None:
    message = refused("vllm", facts(), plan(), spec(parallel=128, max_batched_tokens=100))
    assert "less than the 128 requests" in message and "set max_batched_tokens 128 or more" in message
    four = spec(parallel=128, max_batched_tokens=100, data_parallel=4)
    assert "--max-num-batched-tokens" in launch("vllm", facts(), plan(Split(data=4), parallel=128), four).argv
    assert launch("sglang", facts(), plan(), spec(parallel=128, max_batched_tokens=100))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
def test_bfloat16_is_refused_where_it_was_asked_of_gpus_that_lack_it(engine: str) -> None:
    message = refused(engine, facts(), plan(gpu=T4), spec(dtype="bfloat16"))
    assert "8.0 or newer" in message and "T4 has 7.5: set dtype float16" in message
    for gpu in (H100, L4, MI300X):
        assert "bfloat16" in launch(engine, facts(), plan(gpu=gpu), spec(dtype="bfloat16")).argv
    assert launch(engine, facts(), plan(gpu=T4), spec(dtype="float16"))
    assert launch(engine, facts(), plan(device=Device("gpu", "a GPU", 1 << 34, 1 << 34)), spec(dtype="bfloat16"))


def test_fp8_keys_and_values_are_refused_by_vllm_on_older_gpus() -> None:
    for gpu in (T4, V100):
        message = refused("vllm", facts(), plan(gpu=gpu), spec(kv_cache_dtype="fp8_e5m2"))
        assert "kv_cache_dtype fp8_e5m2 with vllm needs" in message and "leave kv_cache_dtype out" in message
    assert launch("vllm", facts(), plan(gpu=L4), spec(kv_cache_dtype="fp8"))


def test_sglang_is_not_planned_on_gpus_it_does_not_run_on() -> None:
    assert "7.5 or newer (T4), and V100 has 7.0" in refused("sglang", facts(), plan(gpu=V100), spec())
    assert launch("sglang", facts(), plan(gpu=T4), spec())
