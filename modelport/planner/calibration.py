"""Calibration: what an engine takes beside weights and cache, fitted to what engines printed on real GPUs.

The table is calibration.json, made by bench/calibrate.py out of bench/data/cases.jsonl. Each row holds for an engine, a
range of its versions, a class of GPU and a range of tensor parallelism, and says how many measured starts it rests on.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from modelport.domain.gpu import Gpu
from modelport.planner.defaults import Version

NEWEST: dict[str, Version] = {"vllm": (0, 32, 0), "sglang": (0, 5, 23), "tgi": (3, 3, 7)}
"""What is assumed of an engine whose version nobody said: the newest whose sources were read."""
_FAR: Version = (999,)

GpuClass = Literal["nvlink", "pcie", "unified", "amd"]
"""What sizes the buffers between GPUs, and whether the CPU shares the memory."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """One row of the table. GiB per GPU."""

    engine: str
    since: Version
    until: Version
    gpu_class: GpuClass
    tensor_from: int
    tensor_to: int
    other_low_gib: float
    other_gib: float
    other_high_gib: float
    """CUDA context as far as it counts, NCCL buffers, workspaces, fragmentation."""
    forward_scale: float
    sampler_bytes: float
    """Per logit of one sampling step."""
    graphs_gib: float
    rows: int
    """Measured starts behind it; 0 is carried over from the nearest row that has some."""


def parse_version(engine: str, text: str) -> Version:
    """The numbers a version starts with; the newest known where it says none."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found[0].split(".")) if found else NEWEST.get(engine, _FAR)


def gpu_class(gpu: Gpu) -> GpuClass:
    if gpu.vendor == "amd":
        return "amd"
    return "unified" if gpu.unified else "nvlink" if gpu.link.startswith("NVLink") else "pcie"


def overhead(engine: str, version: Version, gpu: Gpu, tensor: int, rows: Sequence[Overhead] | None = None) -> Overhead:
    """The row for an engine's version on a kind of GPU, the nearest where there is none. `rows`: another table."""
    rows = table() if rows is None else rows
    kind = gpu_class(gpu)
    known = [row for row in rows if row.engine == engine] or [row for row in rows if row.engine == "vllm"]
    return min(
        known,
        key=lambda row: (
            not row.since <= version < row.until,
            row.gpu_class != kind,
            not row.tensor_from <= tensor <= row.tensor_to,
            -row.rows,
        ),
    )


@cache
def table() -> tuple[Overhead, ...]:
    """All rows of calibration.json."""
    content = json.loads(files("modelport.planner").joinpath("calibration.json").read_text())
    return tuple(
        Overhead(**{**row, "since": tuple(row["since"]), "until": tuple(row["until"]) or _FAR})
        for row in content["rows"]
    )
