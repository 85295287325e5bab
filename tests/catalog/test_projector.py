"""The projector beside a GGUF model: found, told from others, counted; or left aside with a sentence that says why."""

from pathlib import Path

import pytest

from modelport.catalog import resolve
from modelport.catalog.gguf_projector import is_projector
from modelport.errors import ModelportError
from tests.catalog.write_gguf import llama, projector


def test_a_model_sees_by_the_projector_beside_it(tmp_path: Path) -> None:
    blind = resolve(str(llama(tmp_path / "m.gguf")))
    file = projector(tmp_path / "mmproj-m-f16.gguf")
    for source in (tmp_path, tmp_path / "m.gguf"):
        seeing = resolve(str(source))
        assert seeing.inputs == ("text", "image") and seeing.projector and seeing.projector.path == str(file)
        assert (seeing.projector.patches, seeing.projector.embedding_size) == (16, 64)
        vision = [group for group in seeing.weights if group.name == "vision"]
        assert [group.bytes for group in vision] == [seeing.weight_bytes - blind.weight_bytes]
        assert file.stat().st_size - 8192 < vision[0].bytes < file.stat().st_size
    assert blind.inputs == ("text",) and blind.projector is None


def test_of_several_forms_the_one_that_every_machine_computes_well_is_taken(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf")
    for form in ("F32", "BF16", "Q8_0"):
        projector(tmp_path / f"mmproj-{form}.gguf")
    chosen = resolve(str(tmp_path)).projector
    assert chosen and chosen.path.endswith("mmproj-BF16.gguf")
    projector(tmp_path / "m.mmproj-f16.gguf")
    chosen = resolve(str(tmp_path)).projector
    assert chosen and chosen.path.endswith("m.mmproj-f16.gguf")


def test_one_of_another_model_is_left_aside_and_said(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf")
    projector(tmp_path / "mmproj-other-f16.gguf", 576)
    facts = resolve(str(tmp_path))
    assert facts.inputs == ("text",)
    assert facts.note == "mmproj-other-f16.gguf is left aside: it is for a model of width 576, and this one has 64."
    projector(tmp_path / "mmproj-own-f32.gguf")
    own = resolve(str(tmp_path))
    assert own.note == "" and own.projector and own.projector.path.endswith("mmproj-own-f32.gguf")


def test_one_that_only_hears_is_left_aside(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf")
    projector(tmp_path / "mmproj-m.gguf", metadata={"clip.has_vision_encoder": None, "clip.has_audio_encoder": True})
    assert "turns no pictures into tokens" in resolve(str(tmp_path)).note


def test_one_that_scales_pictures_freely_counts_the_largest_it_takes(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf")
    projector(tmp_path / "mmproj-m.gguf", metadata={"clip.projector_type": "qwen2.5vl_merger"})
    found = resolve(str(tmp_path)).projector
    assert found and found.patches == 4096 * 4


@pytest.mark.parametrize("wrong", [0, -1, 1 << 30, "14", None, 3.0])
def test_a_number_that_cannot_be_is_named(tmp_path: Path, wrong: object) -> None:
    llama(tmp_path / "m.gguf")
    projector(tmp_path / "mmproj-m.gguf", metadata={"clip.vision.patch_size": wrong})
    with pytest.raises(ModelportError, match=r"mmproj-m\.gguf' cannot be used: its clip\.vision\.patch_size is"):
        resolve(str(tmp_path))


def test_half_a_projector_is_a_damaged_file(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf")
    file = projector(tmp_path / "mmproj-m.gguf")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelportError, match="truncated"):
        resolve(str(tmp_path))


def test_names_tell_projectors_from_models() -> None:
    for name in ("mmproj-m.gguf", "m-mmproj-f16.gguf", "m.mmproj.GGUF", "mmproj.gguf"):
        assert is_projector(name), name
    for name in ("m.gguf", "mmproject-7b.gguf", "mmproj-m.bin", "commproj-m.gguf"):
        assert not is_projector(name), name
