"""An adapter is its base with something on top."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelport.catalog import resolve
from modelport.catalog.lora import facts_of_adapter
from modelport.domain.facts import Adapter
from modelport.errors import ModelportError
from tests.catalog.write_safetensors import llama_directory, safetensors


def adapter(path: Path, base: object, rank: object = 8, **more: object) -> Path:
    path.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": rank, **more}
    (path / "adapter_config.json").write_text(json.dumps(config))
    (path / "adapter_model.safetensors").write_bytes(safetensors({"lora_A": ("BF16", (8, 8))}))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelportError) as caught:
        resolve(str(path))
    return caught.value.message


def test_the_facts_are_those_of_the_base_with_the_adapter(tmp_path: Path) -> None:
    base, path = llama_directory(tmp_path / "base"), adapter(tmp_path / "lora", str(tmp_path / "base"))
    size = (path / "adapter_model.safetensors").stat().st_size
    expected = replace(resolve(str(base)), source=str(path), adapter=Adapter(str(path), 8, size))
    assert resolve(str(path)) == expected


def test_a_base_beside_the_adapter_is_found_wherever_both_lie(tmp_path: Path) -> None:
    llama_directory(tmp_path / "base")
    assert resolve(str(adapter(tmp_path / "lora", "../base"))).path == str(tmp_path / "lora" / "../base")


def test_a_base_on_the_hub_is_asked_for_by_its_id_and_revision(tmp_path: Path) -> None:
    facts, asked = resolve(str(llama_directory(tmp_path / "base"))), []

    def base(name: str):
        asked.append(name)
        return facts

    found = facts_of_adapter("x", adapter(tmp_path / "lora", "org/name", revision="v1"), base)
    assert asked == ["org/name@v1"] and found.adapter and found.adapter.rank == 8


def test_a_directory_with_a_whole_model_and_an_adapters_config_is_the_model(tmp_path: Path) -> None:
    path = llama_directory(tmp_path)
    (path / "adapter_config.json").write_text("{}")
    assert resolve(str(path)).adapter is None


@pytest.mark.parametrize(
    ("base", "rank", "says"),
    [(None, 8, "does not say what model"), (7, 8, "does not say what model"), ("org/name", None, "rank r is 'None'"),
     ("org/name", 0, "rank r is '0'"), ("org/name", 10**9, "rank r is")],
)  # fmt: skip
def test_an_adapter_that_says_too_little_is_refused(tmp_path: Path, base: object, rank: object, says: str) -> None:
    assert says in refusal(adapter(tmp_path / "lora", base, rank))


def test_an_adapter_without_weights_says_so(tmp_path: Path) -> None:
    path = adapter(tmp_path / "lora", "org/name")
    (path / "adapter_model.safetensors").unlink()
    assert "an adapter without weights" in refusal(path)


def test_adapters_of_adapters_are_refused_even_in_a_circle(tmp_path: Path) -> None:
    adapter(tmp_path / "a", str(tmp_path / "b"))
    path = adapter(tmp_path / "b", str(tmp_path / "a"))
    assert "is an adapter of another adapter" in refusal(path)
