"""llama.cpp's command: made of a Plan, without a secret, a path in the name, or a value of its own invention."""

import os
import sys
from pathlib import Path

import pytest

from modelport import engines
from modelport.catalog import resolve
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec
from modelport.engines.flags import extra
from modelport.engines.llamacpp import SERVER, LlamaCpp
from modelport.engines.refused_llamacpp import REFUSED
from modelport.errors import ModelportError
from tests.catalog.write_gguf import llama, projector

CPU = Device("cpu", "CPU", 2**34, 2**33)
GPU = Device("gpu", "a GPU", 2**34, 2**33)


def plan(device: Device = CPU, task: str = "generate", context: int = 128, parallel: int = 2) -> Plan:
    return Plan(device, task, (), context, parallel, "fits", ())  # type: ignore[arg-type]


def command(tmp_path: Path, made: Plan) -> tuple[str, ...]:
    facts = resolve(str(llama(tmp_path / "m.gguf")))
    return LlamaCpp().launch(facts, made, Spec(model="m", name="chat")).argv


def value(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_the_command_follows_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    argv = command(tmp_path, plan())
    assert argv[:3] == (sys.executable, "-I", str(SERVER))
    assert value(argv, "--ctx-size") == "256", "llama.cpp divides it among its slots"
    assert value(argv, "--parallel") == "2"
    assert value(argv, "--alias") == "chat"
    assert (value(argv, "--host"), value(argv, "--port")) == ("{host}", "{port}")
    assert value(argv, "--n-gpu-layers") == "0"


def test_replicas_share_the_cores_between_them(tmp_path: Path) -> None:
    facts = resolve(str(llama(tmp_path / "m.gguf")))
    cores = os.cpu_count() or 1
    for replicas, threads in ((1, cores), (2, max(1, cores // 2)), (64, max(1, cores // 64))):
        argv = LlamaCpp().launch(facts, plan(), Spec(model="m", replicas=replicas)).argv
        assert value(argv, "--threads") == str(threads)


def test_embeddings_take_their_whole_input_in_one_batch(tmp_path: Path) -> None:
    argv = command(tmp_path, plan(task="embed", context=100, parallel=1))
    assert "--embeddings" in argv and value(argv, "--ubatch-size") == "100" and value(argv, "--pooling") == "mean"


def test_a_model_with_a_projector_beside_it_is_started_with_it_unless_it_embeds(tmp_path: Path) -> None:
    assert "--mmproj" not in command(tmp_path, plan())
    projector(tmp_path / "mmproj-m.gguf")
    argv = command(tmp_path, plan())
    assert value(argv, "--mmproj") == str(tmp_path / "mmproj-m.gguf") and "--no-mmproj-offload" in argv
    assert "--no-mmproj-offload" not in command(tmp_path, plan(GPU))
    assert "--mmproj" not in command(tmp_path, plan(task="embed"))


def test_the_key_comes_by_reference_only(tmp_path: Path) -> None:
    launch = LlamaCpp().launch(resolve(str(llama(tmp_path / "m.gguf"))), plan(), Spec(model="m"))
    assert launch.secret_env == {"LLAMA_API_KEY": "engine-key"}
    assert not [argument for argument in launch.argv if argument.startswith("--api-key")]


def test_a_llama_server_on_path_is_preferred_and_may_use_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LlamaCpp().runs_on() == {"cpu"} or "llama-server" in LlamaCpp().installed()
    binary = tmp_path / "llama-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert LlamaCpp().runs_on() == {"cpu", "gpu"}
    argv = command(tmp_path, plan(GPU))
    assert argv[0] == str(binary) and value(argv, "--n-gpu-layers") == "999"


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(ModelportError, match="engine 'llamacp' is not known.*Did you mean 'llamacpp'"):
        engines.load("llamacp")


def test_arguments_pass_to_a_llama_server_save_those_that_would_undo_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = resolve(str(llama(tmp_path / "m.gguf")))
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = Spec(model="m", name="chat", engine_args=("-fa", "on", "--no-slots", "-C", "f", "-to"))
    with pytest.raises(ModelportError, match="need a `llama-server` on PATH"):
        LlamaCpp().launch(facts, plan(), wanted)
    binary = tmp_path / "llama-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert LlamaCpp().launch(facts, plan(), wanted).argv[-6:] == wanted.engine_args
    for arg in ("--api-key-file", "--api_key", "--host", "-m", "--model-url", "-hf", "--alias", "--ssl-key-file"):
        with pytest.raises(ModelportError, match="not passed on to llamacpp"):
            LlamaCpp().launch(facts, plan(), wanted.model_copy(update={"engine_args": (arg, "x")}))


@pytest.mark.parametrize(
    ("args", "instead"),
    [
        *((arg, "set `model`") for arg in ("-hfr", "-hff", "--docker-repo", "-dr", "--fim-qwen-1.5b-default")),
        *((arg, "set `model`") for arg in ("--gpt-oss-20b-default", "--embd-gemma-default", "--models-dir")),
        *((arg, "set `accelerators`") for arg in ("-ngl", "--n_gpu_layers", "-ts", "-sm", "-mg", "-dev", "-ot")),
        *((arg, "set `max_batched_tokens`") for arg in ("-ub", "--ubatch-size", "-b")),
        *((arg, "set `context` or `parallel`") for arg in ("-ctk", "--cache-type-v", "-nkvo")),
        *((arg, "without a draft model") for arg in ("-md", "-hfd", "--spec-draft-model")),
        *((arg, "run programs on this machine") for arg in ("--tools", "-ag", "--mcp-servers-json")),
        *((arg, "put it there") for arg in ("--mmproj", "-mm", "--no_mmproj")),
        ("--media-path", "read files of this machine"),
        ("--rpc", "engines of one machine"),
        ("-cram", "set `memory_fraction`, `context` or `parallel`"),
    ],
)
def test_what_would_undo_the_plan_is_refused_with_what_to_set_instead(args: str, instead: str) -> None:
    with pytest.raises(ModelportError) as caught:
        extra("llamacpp", (args, "x"), REFUSED, joined=False)
    assert caught.value.param == "engine_args" and instead in caught.value.message


def test_every_long_option_that_is_refused_is_one_of_llama_cpp() -> None:
    package = pytest.importorskip("xllamacpp")
    program = b"".join(path.read_bytes() for path in Path(package.__file__).parent.glob("*.so"))
    older = {"--embd-bge-small-en-default", "--embd-e5-small-en-default", "--embd-gte-small-default"}
    older |= {"--tts-oute-default"}
    long = {flag for flag in REFUSED if flag.startswith("--")} - older
    assert not [flag for flag in long if b"\0" + flag.encode() + b"\0" not in program]


def test_what_llamacpp_does_not_do_is_said_instead_of_left_out(tmp_path: Path) -> None:
    facts = resolve(str(llama(tmp_path / "m.gguf")))
    for field, value in (
        ("quantization", "fp8"),
        ("dtype", "float16"),
        ("kv_cache_dtype", "fp8"),
        ("data_parallel", 2),
    ):
        with pytest.raises(ModelportError) as caught:
            LlamaCpp().check(facts, Spec(model="m", **{field: value}), CPU)  # type: ignore[arg-type]
        assert caught.value.param == field
