"""Devices are what this process may really use."""

import os
from pathlib import Path

import pytest

from modelport.planner import devices as all_devices
from modelport.planner.cgroup import Limit, limits
from modelport.planner.devices import cpu, parse_gpus, parse_rocm

MIB = 1 << 20

# As nvidia-smi prints with --query-gpu=index,name,memory.total,memory.free --format=csv,noheader,nounits.
TWO_GPUS = "0, NVIDIA H100 80GB HBM3, 81559, 81079\n1, NVIDIA H100 80GB HBM3, 81559, 1203\n"
# As `rocm-smi --showproductname --showuse --showmeminfo vram --json` printed in marimo-team/marimo#9237, and the sizes of
# a CPU's graphics beside a card in mudler/LocalAI#7761.
ONE_AMD = """{"card0": {"GPU use (%)": "0", "VRAM Total Memory (B)": "21458059264",
"VRAM Total Used Memory (B)": "27856896", "Card Series": "Radeon RX 7900 XT", "Card Model": "0x744c",
"Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]", "Card SKU": "D70401XT", "Subsystem ID": "0x471e",
"Device Rev": "0xcc", "Node ID": "1", "GUID": "26967", "GFX Version": "gfx1100"}}"""
WITH_GRAPHICS = """{"card0": {"VRAM Total Memory (B)": "17163091968", "VRAM Total Used Memory (B)": "692142080",
"Card Series": "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]"}, "card1": {"VRAM Total Memory (B)": "67108864",
"VRAM Total Used Memory (B)": "26079232", "Card Series": "Raphael"}, "system": {"Driver version": "6.8.5"}}"""
UNIFIED = "0, NVIDIA GB10, [N/A], [N/A]\n"
BROKEN = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"


def test_gpus_are_read_from_nvidia_smi() -> None:
    first, second = parse_gpus(TWO_GPUS)
    assert (first.kind, first.name) == ("gpu", "GPU 0 (NVIDIA H100 80GB HBM3)")
    assert (first.total_bytes, first.free_bytes, second.free_bytes) == (81559 * MIB, 81079 * MIB, 1203 * MIB)


def test_a_gpu_of_the_table_is_known_by_its_name() -> None:
    known = parse_gpus(TWO_GPUS)[0].gpu
    assert known is not None and known.name == "H100"
    assert parse_gpus("0, NVIDIA NewThing, 81559, 81079\n")[0].gpu is None


def test_amd_gpus_are_read_from_rocm_smi() -> None:
    (card,) = parse_rocm(ONE_AMD)
    assert (card.name, card.total_bytes, card.free_bytes) == (
        "GPU 0 (Radeon RX 7900 XT)", 21458059264, 21458059264 - 27856896,
    )  # fmt: skip
    assert card.gpu is not None and card.gpu.name == "RX7900XT"


def test_the_graphics_of_a_cpu_are_no_place_for_a_model() -> None:
    (card,) = parse_rocm(WITH_GRAPHICS)
    assert card.total_bytes == 17163091968 and card.gpu is None


@pytest.mark.parametrize("text", ["", "[]", "3", '{"card0": 3}', '{"card0": {}}', BROKEN, ONE_AMD[:-9]])
def test_what_is_no_json_of_cards_is_no_gpu(text: str) -> None:
    assert parse_rocm(text) == []


@pytest.mark.parametrize("text", ["", UNIFIED, BROKEN, "0, x, -1, 5\n", ",,,\n"])
def test_what_is_no_gpu_with_memory_of_its_own_is_left_out(text: str) -> None:
    assert parse_gpus(text) == []


@pytest.mark.parametrize("script", ["#!/bin/sh\necho failed >&2\nexit 9\n", "not a program"])
def test_a_broken_driver_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    put_nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [device.kind for device in all_devices()] == ["cpu"]


def test_a_working_driver_adds_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_nvidia_smi(tmp_path, f"#!/bin/sh\nprintf '{TWO_GPUS}'\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [device.kind for device in all_devices()] == ["cpu", "gpu", "gpu"]


def test_a_working_rocm_adds_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "rocm-smi", f"#!/bin/sh\nprintf '%s' '{ONE_AMD}'\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [device.name for device in all_devices()] == ["CPU", "GPU 0 (Radeon RX 7900 XT)"]


def test_the_tightest_limit_counts() -> None:
    device = cpu(100, 80, [Limit(60, 50), Limit(70, 10)])
    assert (device.total_bytes, device.free_bytes) == (60, 10)
    assert cpu(100, 80, []).free_bytes == 80


def cgroup(directory: Path, version: int, limit: str, usage: int, inactive: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
             2: ("memory.max", "memory.current", "inactive_file")}[version]  # fmt: skip
    (directory / names[0]).write_text(limit + "\n")
    (directory / names[1]).write_text(f"{usage}\n")
    (directory / "memory.stat").write_text(f"anon 1\n{names[2]} {inactive}\n")


def own(root: Path, text: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


def test_limits_of_version_2_are_read_up_to_the_root(tmp_path: Path) -> None:
    own(tmp_path, "0::/user.slice/app.scope\n")
    cgroup(tmp_path / "sys/fs/cgroup/user.slice/app.scope", 2, "max", 300, 0)
    cgroup(tmp_path / "sys/fs/cgroup/user.slice", 2, "1000", 700, 200)
    assert limits(tmp_path) == [Limit(1000, 500)]


def test_limits_of_version_1_are_read(tmp_path: Path) -> None:
    own(tmp_path, "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/\n")
    cgroup(tmp_path / "sys/fs/cgroup/memory/a", 1, "2000", 2500, 100)
    cgroup(tmp_path / "sys/fs/cgroup/memory", 1, "9223372036854771712", 9000, 0)
    assert limits(tmp_path) == [Limit(2000, 0)]


def test_in_a_container_the_mount_itself_is_our_cgroup(tmp_path: Path) -> None:
    own(tmp_path, "4:memory:/docker/0123abcd\n")
    cgroup(tmp_path / "sys/fs/cgroup/memory", 1, "2000", 500, 100)
    assert limits(tmp_path) == [Limit(2000, 1600)]


@pytest.mark.parametrize("text", ["", "0::/\n", "0::/../escape\n", "4:memory:/gone\n"])
def test_without_a_limit_there_is_none(tmp_path: Path, text: str) -> None:
    own(tmp_path, text)
    assert limits(tmp_path) == []
    assert limits(tmp_path / "no-proc-here") == []


def put_nvidia_smi(directory: Path, script: str) -> None:
    put(directory / "nvidia-smi", script)


def put(path: Path, script: str) -> None:
    path.write_text(script)
    os.chmod(path, 0o755)
