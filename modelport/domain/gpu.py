"""Gpu: a kind of accelerator as its driver reports it, and how many of it."""

from dataclasses import dataclass
from typing import Literal

GPUS_OF_A_MACHINE = 8
"""The usual node of data centre GPUs (HGX and OAM boards hold 8)."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU. The table of them is in planner/gpus.py."""

    name: str
    """As clouds and SkyPilot write it, e.g. `H100`, `A100-80GB`, `MI300X`."""
    memory_bytes: int
    """What the driver lets a process use (torch's total_memory), which is less than the name says."""
    vendor: Literal["nvidia", "amd"]
    capability: float
    """CUDA compute capability (9.0), or for AMD the number of the gfx target (942)."""
    bandwidth_bytes_s: float
    """Of its memory, from the data sheet."""
    fp8: bool
    """Whether its tensor cores compute in FP8 as the engines need it (fp8e4nv)."""
    fp4: bool
    link: str
    """Between the GPUs of one machine, e.g. `NVLink 900 GB/s`, `PCIe 4`."""
    unified: bool = False
    """Whether it shares its memory with the CPU."""


@dataclass(frozen=True, slots=True)
class Accelerators:
    """`NAME:COUNT`, understood."""

    gpu: Gpu
    count: int

    def __str__(self) -> str:
        return f"{self.gpu.name}:{self.count}"
