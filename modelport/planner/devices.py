"""Devices: the memory a model could be put into on this machine."""

import subprocess

import psutil

from modelport.domain.plan import Device
from modelport.planner.cgroup import Limit, limits

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits")
_NVIDIA_SMI_TIMEOUT_S = 5.0
_MIB = 1 << 20


def devices() -> list[Device]:
    """The CPU's memory and each NVIDIA GPU's, as free as they are right now."""
    memory = psutil.virtual_memory()
    return [cpu(memory.total, memory.available, limits()), *parse_gpus(_nvidia_smi())]


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
            found.append(Device("gpu", f"GPU {index} ({name})", int(total) * _MIB, int(free) * _MIB))
    return found


def _nvidia_smi() -> str:
    """What nvidia-smi prints; nothing where it is absent, hangs or cannot reach its driver."""
    try:
        done = subprocess.run(_NVIDIA_SMI, capture_output=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
