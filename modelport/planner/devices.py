"""Devices: the memory a model could be put into on this machine."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any, cast

import psutil

from modelport.domain.plan import Device
from modelport.planner.cgroup import Limit, limits
from modelport.planner.gpus import find

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits")
_ROCM_SMI = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
_PROBE_TIMEOUT_S = 5.0
_MIB = 1 << 20
_LEAST_BYTES = 2 << 30
"""An AMD GPU with less is the graphics of a CPU (64 to 512 MiB set aside), not a place for a model."""


def devices() -> list[Device]:
    """The CPU's memory and each NVIDIA and AMD GPU's, as free as they are right now."""
    memory = psutil.virtual_memory()
    gpus = [*parse_gpus(_printed(_NVIDIA_SMI)), *parse_rocm(_printed(_ROCM_SMI))]
    return [cpu(memory.total, memory.available, limits()), *gpus]


def cpu(total_bytes: int, available_bytes: int, bounds: list[Limit]) -> Device:
    """The machine's memory, no more than any of the cgroups we are in allows."""
    return Device(
        kind="cpu",
        name="CPU",
        total_bytes=min([total_bytes, *(bound.limit_bytes for bound in bounds)]),
        free_bytes=min([available_bytes, *(bound.free_bytes for bound in bounds)]),
    )


def parse_gpus(text: str) -> list[Device]:
    """GPUs out of `nvidia-smi`'s CSV of index, name, total and free MiB.

    Rows without numbers are left out: a GPU that shares the CPU's memory says `[N/A]`, a lost one `[Unknown Error]`.
    """
    found: list[Device] = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[2].isdecimal() and fields[3].isdecimal():
            index, name, total, free = fields
            found.append(Device("gpu", f"GPU {index} ({name})", int(total) * _MIB, int(free) * _MIB, find(name)))
    return found


def parse_rocm(text: str) -> list[Device]:
    """GPUs out of `rocm-smi --showproductname --showmeminfo vram --json`: one object per card, numbers as strings.

    The product's name is under `Card Series` or, in older versions, `Card series`. What is no such JSON is no GPU.
    """
    try:
        cards: object = json.loads(text)
    except ValueError:
        return []
    found: list[Device] = []
    for card, fields in sorted(cast(dict[str, Any], cards).items()) if isinstance(cards, dict) else []:
        if not isinstance(fields, dict):
            continue
        said = {str(key).lower(): str(value) for key, value in cast(dict[str, Any], fields).items()}
        total, used = said.get("vram total memory (b)", ""), said.get("vram total used memory (b)", "")
        if total.isdecimal() and used.isdecimal() and int(total) >= _LEAST_BYTES:
            name = said.get("card series", "AMD GPU")
            number = card.removeprefix("card")
            free = max(0, int(total) - int(used))
            found.append(Device("gpu", f"GPU {number} ({name})", int(total), free, find(name)))
    return found


def _printed(command: Sequence[str]) -> str:
    """What a driver's tool prints; nothing where it is absent, hangs or cannot reach its driver."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
