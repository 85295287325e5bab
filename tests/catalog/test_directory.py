"""A directory on this machine becomes facts: weights once, shards complete, and what lies beside them."""

import json
import os
from pathlib import Path

import pytest

from modelport.catalog import resolve
from modelport.errors import ModelportError
from tests.catalog.write_gguf import llama as gguf_file
from tests.catalog.write_safetensors import (
    LLAMA_CONFIG,
    LLAMA_PARAMETERS,
    LLAMA_TENSORS,
    layer,
    llama_directory,
    safetensors,
)


def refusal(source: Path) -> str:
    with pytest.raises(ModelportError) as caught:
        resolve(str(source))
    return caught.value.message


def shards(path: Path) -> Path:
    """The small model in two shards with an index."""
    llama_directory(path)
    (path / "model.safetensors").unlink()
    parts = {
        "model-00001-of-00002.safetensors": {k: v for k, v in LLAMA_TENSORS.items() if ".1." not in k},
        "model-00002-of-00002.safetensors": layer(1),
    }
    for name, tensors in parts.items():
        (path / name).write_bytes(safetensors(tensors))
    mapped = {tensor: name for name, tensors in parts.items() for tensor in tensors}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapped}))
    return path


def test_a_directory_is_read_to_the_last_tensor(tmp_path: Path) -> None:
    facts = resolve(str(llama_directory(tmp_path)))
    assert (facts.format, facts.precision, facts.path) == ("safetensors", "tensors", str(tmp_path))
    assert facts.parameters == LLAMA_PARAMETERS and facts.weight_bytes == 2 * LLAMA_PARAMETERS
    assert (facts.layers, facts.kv_heads, facts.head_size, facts.context_tokens) == (2, 2, 2, 64)


def test_shards_are_counted_together(tmp_path: Path) -> None:
    path = shards(tmp_path)
    assert resolve(str(path)).parameters == LLAMA_PARAMETERS
    (path / "model.safetensors.index.json").unlink()
    assert resolve(str(path)).parameters == LLAMA_PARAMETERS


@pytest.mark.parametrize("with_index", [True, False])
def test_a_missing_shard_is_named(tmp_path: Path, with_index: bool) -> None:
    path = shards(tmp_path)
    (path / "model-00002-of-00002.safetensors").unlink()
    if not with_index:
        (path / "model.safetensors.index.json").unlink()
    assert "lacks 1 of 2 weight files: model-00002-of-00002.safetensors" in refusal(path)


@pytest.mark.parametrize("leads", ["../m.safetensors", "/etc/passwd", ".hidden"])
def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path, leads: str) -> None:
    path = shards(tmp_path)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"t": leads}}))
    assert "names no weight files beside it" in refusal(path)


def test_the_same_weights_in_another_form_are_not_counted_again(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    whole = (path / "model.safetensors").read_bytes()
    (path / "original").mkdir()
    for name in ("pytorch_model.bin", "consolidated.safetensors", "consolidated.00.pth", "original/model.safetensors",
                 "training_args.bin", "m.gguf"):  # fmt: skip
        (path / name).write_bytes(whole)
    facts = resolve(str(path))
    assert facts.format == "safetensors" and facts.weight_bytes == 2 * LLAMA_PARAMETERS


def test_pytorch_files_are_counted_by_their_bytes(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    (path / "model.safetensors").unlink()
    for number in (1, 2):
        (path / f"pytorch_model-0000{number}-of-00002.bin").write_bytes(bytes(LLAMA_PARAMETERS))
    (path / "optimizer.bin").write_bytes(bytes(99999))
    facts = resolve(str(path))
    assert (facts.format, facts.precision) == ("pytorch", "total")
    assert facts.weight_bytes == pytest.approx(2 * LLAMA_PARAMETERS, abs=10)


def test_a_directory_with_a_config_and_no_weights_says_so(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    (path / "model.safetensors").unlink()
    assert "holds a config but no weights" in refusal(path)
    facts = resolve(str(path / "config.json"))
    assert (facts.format, facts.precision, facts.parameters) == ("config", "computed", LLAMA_PARAMETERS)


def test_a_directory_with_gguf_files_only_is_that_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    gguf_file(tmp_path / "m.gguf")
    assert resolve(str(tmp_path)).format == "gguf"


@pytest.mark.parametrize("text", ["", "[]", "{", "nonsense", "[" * 100_000, "\ud800"])
def test_a_config_that_is_none_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = llama_directory(tmp_path)
    (path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "config.json' is not a JSON object" in refusal(path)


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:-10])
    assert "model.safetensors' is truncated" in refusal(path)


def test_a_file_of_its_own_may_say_how_weights_are_quantized(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    said = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (path / "hf_quant_config.json").write_text(json.dumps(said))
    quantized = resolve(str(path)).quantized
    assert quantized and (quantized.method, quantized.bits, quantized.group_size) == ("modelopt", 4, 16)


def test_what_lies_beside_the_weights_is_read(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    plain = resolve(str(path))
    assert (plain.licence, plain.chat_template, plain.pooling, plain.task) == ("", False, False, "generate")
    (path / "README.md").write_text("---\nbase_model: x\nlicense: apache-2.0\n---\nlicense: mit\n")
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Pooling"}]))
    full = resolve(str(path))
    assert (full.licence, full.chat_template, full.pooling, full.task) == ("apache-2.0", True, True, "embed")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 141000000000\n"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "m.gguf"])
def test_a_pointer_of_git_lfs_is_no_weights(tmp_path: Path, name: str) -> None:
    path = llama_directory(tmp_path)
    (path / "model.safetensors").unlink()
    (path / name).write_text(POINTER)
    assert "only git-lfs's pointer to the file: run `git lfs pull`" in refusal(path)


def test_files_that_hold_less_than_half_of_the_model_are_refused(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 400}))
    said = refusal(path)
    assert "hold 3.6 KiB" in said and "its config describes" in said and "are not complete" in said
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(bytes(LLAMA_PARAMETERS * 2))
    assert "are not complete" in refusal(path)
    assert resolve(str(path / "config.json")).layers == 400


@pytest.mark.parametrize(
    ("config", "dtype", "divided"),
    [
        ({"torch_dtype": "float32"}, "BF16", 1),
        ({"quantization_config": {"quant_method": "fp8"}}, "F8_E4M3", 1),
        ({"quantization": {"bits": 4, "group_size": 64}}, "U32", 8),
        ({"quantization_config": {"quant_method": "torchao"}}, "U8", 2),
    ],
)
def test_files_of_other_types_than_the_config_says_are_whole(
    tmp_path: Path, config: dict[str, object], dtype: str, divided: int
) -> None:
    path = llama_directory(tmp_path)
    (path / "config.json").write_text(json.dumps({**LLAMA_CONFIG, **config}))
    tensors = {name: (dtype, (*shape[:-1], max(1, shape[-1] // divided))) for name, (_, shape) in LLAMA_TENSORS.items()}
    (path / "model.safetensors").write_bytes(safetensors(tensors))
    assert resolve(str(path)).layers == 2


def test_a_header_without_tensors_is_no_model(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    (path / "model.safetensors").write_bytes(safetensors({}, {"a": "x" * 100_000}))
    assert "hold nothing" in refusal(path)


def test_notes_in_a_header_are_no_weights(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    before = resolve(str(path)).weight_bytes
    (path / "model.safetensors").write_bytes(safetensors(LLAMA_TENSORS, {"a": "x" * 100_000}))
    assert resolve(str(path)).weight_bytes == before


@pytest.mark.parametrize("text", ["[", "[]", "\ud800", '{"chat_template": '])
def test_a_damaged_tokenizer_config_stops_nothing(tmp_path: Path, text: str) -> None:
    path = llama_directory(tmp_path)
    (path / "tokenizer_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert not resolve(str(path)).chat_template


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    os.mkfifo(path / "README.md")
    os.mkfifo(path / "model.safetensors.index.json")
    assert "is not a regular file" in refusal(path)
    (path / "model.safetensors.index.json").unlink()
    assert resolve(str(path)).licence == ""


def test_words_of_the_files_are_fit_for_a_terminal(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    config = {**LLAMA_CONFIG, "model_type": "\x1b[31mllama\n\x9b", "torch_dtype": "bfloat16"}
    config["quantization_config"] = {"quant_method": "\x1b]0;pwn\x07gptq\ud800", "bits": 16}
    (path / "config.json").write_text(json.dumps(config))
    facts = resolve(str(path))
    assert facts.architecture == "[31mllama" and facts.quantized and facts.quantized.method == "]0;pwngptq"
    assert facts.quantization.isprintable()
