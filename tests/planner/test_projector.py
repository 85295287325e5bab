"""What a model takes to see: the formula against the buffers that llama.cpp printed, and its place in a plan."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelport import planner
from modelport.catalog import resolve
from modelport.domain.facts import Projector
from modelport.domain.plan import Device
from modelport.domain.spec import Spec
from modelport.planner.memory import over_gpus, parts
from modelport.planner.projector import PICTURE_BYTES, vision
from tests.catalog.write_gguf import llama, projector

MIB = 1 << 20
CPU = Device("cpu", "CPU", 2**34, 2**33)
PRINTED = {
    "CLIP-L, 336 pixels": (Projector("", 576, 1024, 4096, 16), 17.05, 30.55),
    "SigLIP-B, 512 pixels": (Projector("", 1024, 768, 3072, 12), 18.01, None),
    "SigLIP-So400m, 896 pixels": (Projector("", 4096, 1152, 4304, 16), 121.25, 1132.00),
    "small": (Projector("", 1024, 256, 1024, 4), 7.30, None),
    "small, twice as wide": (Projector("", 1024, 512, 2048, 8), 12.30, None),
    "small, four times the patches": (Projector("", 4096, 256, 1024, 4), 29.22, None),
}
"""xllamacpp 2026.10 on x86-64: MiB with and without flash attention."""


@pytest.mark.parametrize("tower", PRINTED)
def test_the_interval_holds_what_llama_cpp_reserved(tower: str) -> None:
    about, printed, without = PRINTED[tower]
    for device in ("cpu", "gpu"):
        part = vision(about, device)
        pictures = about.patches * PICTURE_BYTES
        assert part.low_bytes < printed * MIB < part.high_bytes
        assert 0.9 < (part.bytes - pictures) / (printed * MIB) < 1.3
        assert part.low_bytes <= part.bytes <= part.high_bytes
    if without:
        assert 0.9 * without * MIB < vision(about, "gpu").high_bytes < 1.6 * without * MIB


def test_a_plan_counts_the_tower_where_it_is_used(tmp_path: Path) -> None:
    blind = resolve(str(llama(tmp_path / "m.gguf")))
    projector(tmp_path / "mmproj-m.gguf")
    seeing = resolve(str(tmp_path))
    spec = Spec(model="m", context=128, parallel=1)
    made = {part.name: part for part in planner.plan(seeing, spec, [CPU]).parts}
    assert made["weights"].bytes == seeing.weight_bytes and made["vision"].bytes > 0
    embedding = planner.plan(seeing, spec.model_copy(update={"task": "embed"}), [CPU]).parts
    assert {part.name: part.bytes for part in embedding}["weights"] == blind.weight_bytes
    assert "vision" not in {part.name for part in embedding}


def test_of_several_gpus_the_fullest_has_the_whole_tower(tmp_path: Path) -> None:
    llama(tmp_path / "m.gguf")
    projector(tmp_path / "mmproj-m.gguf")
    facts = replace(resolve(str(tmp_path)), vocabulary=0)
    tower = next(group.bytes for group in facts.weights if group.name == "vision")
    spread = over_gpus(facts, parts(facts, "generate", "gpu", 128, 1), 2)
    assert tower <= next(part for part in spread if part.name == "weights").high_bytes
