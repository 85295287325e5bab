"""GPUs are found by any spelling, and NAME:COUNT is understood or refused in one sentence."""

import pytest

from modelport.errors import ModelportError
from modelport.planner.gpus import ESTIMATED, GPUS, accelerators, devices_of, find

CONTRACT = {
    "T4", "L4", "A10", "A10G", "V100", "V100-32GB", "A100", "A100-80GB", "H100", "H100-MEGA-80GB", "H200", "B200", "B300",
    "MI300X", "MI325X", "RTX4090", "RTX5090", "RTX6000-Ada", "RTXPRO6000", "L40S", "A40", "A6000", "GH200", "GB10",
}  # fmt: skip
"""The contract's, and those that are asked for beyond it."""


def test_every_gpu_of_the_contract_is_in_the_table() -> None:
    assert set(GPUS) >= CONTRACT
    assert set(GPUS) >= ESTIMATED


def test_memory_is_what_a_process_may_use_never_more_than_the_name_says() -> None:
    """The contract's table, in GB of 10^9: what the name says. torch sees 1 to 9 % less than that many GiB."""
    named = {
        "T4": 16, "L4": 24, "A10": 24, "A10G": 24, "V100": 16, "V100-32GB": 32, "A100": 40, "A100-80GB": 80, "H100": 80,
        "H200": 141, "B200": 192, "B300": 288,
    }  # fmt: skip
    for name, gb in named.items():
        assert 0.9 < GPUS[name].memory_bytes / (1 << 30) / gb < 1.0, name


@pytest.mark.parametrize(
    ("spelling", "row"),
    [
        ("h100", "H100"),
        ("h100_80gb", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIE"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("A100-40GB", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100"),
        ("Tesla V100-SXM2-32GB", "V100-32GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("RTX 4090 24GB", "RTX4090"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000-Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA H20-3e", "H20-141GB"),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("Radeon AI PRO R9700", "R9700"),
        ("GB10 128GB unified (DGX Spark)", "GB10"),
    ],
)
def test_a_gpu_is_found_by_any_spelling(spelling: str, row: str) -> None:
    found = find(spelling)
    assert found is not None and found.name == row


@pytest.mark.parametrize(
    "other",
    ["", "H100 96GB", "NVIDIA A100-SXM-64GB", "NVIDIA GeForce RTX 5090 D", "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
     "NVIDIA A40-48Q", "RTX PRO 6000D", "NVIDIA GeForce RTX 3050 Ti", "24GB class x4"],
)  # fmt: skip
def test_what_only_looks_like_a_row_is_none(other: str) -> None:
    assert find(other) is None


def test_every_row_is_found_by_its_own_name() -> None:
    assert all(find(name) is gpu for name, gpu in GPUS.items())


def test_name_and_count_are_understood() -> None:
    wanted = accelerators(" h100 : 4 ")
    assert (str(wanted), wanted.count) == ("H100:4", 4)
    devices = devices_of(wanted)
    assert len(devices) == 4 and devices[0].free_bytes == GPUS["H100"].memory_bytes and devices[0].gpu is GPUS["H100"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("H100", "Accelerators are NAME:COUNT, like A100:8, not 'H100'"),
        (":4", "Accelerators are NAME:COUNT"),
        ("H100:x", "must be a whole number, not 'x'"),
        ("H100:1.5", "must be a whole number, not '1.5'"),
        ("H100:0", "from 1 to 4096, not 0"),
        ("H100:-1", "from 1 to 4096, not -1"),
        ("H1000:2", "The GPU type 'H1000' is not known. Did you mean 'H100'\\? Known are A10, A100"),
    ],
)
def test_what_is_no_accelerator_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ModelportError, match=sentence) as caught:
        accelerators(text)
    assert caught.value.param == "accelerators"


def test_fp8_and_fp4_are_where_the_engines_have_kernels_for_them() -> None:
    assert {name for name in CONTRACT if GPUS[name].fp8 and GPUS[name].vendor == "nvidia"} == {
        "H100", "H100-MEGA-80GB", "H200", "B200", "B300", "RTX5090", "RTXPRO6000", "GH200", "GB10"
    }  # fmt: skip
    assert not GPUS["L4"].fp8 and not GPUS["A100"].fp8 and GPUS["MI300X"].fp8
    assert GPUS["B200"].fp4 and not GPUS["H200"].fp4
