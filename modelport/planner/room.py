"""Room: the GPUs of one kind that an engine may use, and how much of each, as free as they are right now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelport.domain.gpu import Gpu
from modelport.domain.plan import Device
from modelport.domain.spec import Spec
from modelport.domain.units import show_bytes
from modelport.errors import ModelportError

CUDA_CONTEXT_BYTES = int(0.75 * (1 << 30))
"""Of a GPU nobody uses, gone once CUDA is there: vLLM printed 177.66 of 178.36 GiB free on a B200 (#21489)."""
IDLE_BYTES = 1 << 30
"""Drivers hold back up to this much of a GPU that nobody uses (0.3 to 0.7 GiB printed by nvidia-smi)."""
VLLM_FRACTION = 0.92
"""The largest default of vLLM's gpu_memory_utilization (config/cache.py; 0.9 before 0.20)."""
UNKNOWN_GPU_SHARE = 0.97
"""An estimate, for kinds that the table lacks: what a process may use of the memory that nvidia-smi prints; the table's
GPUs have 0.97 (T4) to 0.99 (H100)."""


@dataclass(frozen=True, slots=True)
class Room:
    """The GPUs of one kind that a plan may use."""

    device: Device
    gpu: Gpu
    count: int
    fraction: float | None
    """What the engine is told to use at most; None leaves it its own default."""
    said: tuple[str, ...] = ()
    impossible: str = ""
    """Why the engine would refuse to start here, whatever the model."""


def room_of(devices: Sequence[Device], engine: str, spec: Spec) -> Room:
    """The kind of GPU with the most memory in all, and what the engine may use of each.

    Where something else uses a GPU, vLLM's fraction, which is of the whole memory and must be free when it starts
    (v1/worker/gpu_worker.py), is lowered; SGLang and TGI count from what is free. Raises ModelportError without a GPU.
    """
    kinds: dict[str, list[Device]] = {}
    for device in devices:
        if device.kind == "gpu":
            kinds.setdefault(device.gpu.name if device.gpu else device.name, []).append(device)
    if not kinds:
        raise ModelportError(f"{engine} needs a GPU, and there is none here; name some with `accelerators`.")
    chosen = max(kinds.values(), key=lambda same: sum(device.free_bytes for device in same))
    first = min(chosen, key=lambda device: device.free_bytes)
    gpu = first.gpu or Gpu(first.name, int(first.total_bytes * UNKNOWN_GPU_SHARE), "nvidia", 0.0, 0.0, False, False, "")
    said: tuple[str, ...] = ()
    if len(kinds) > 1:
        said = (f"Only the {len(chosen)} {gpu.name} are used: an engine needs GPUs of one kind.",)
    used = first.total_bytes - first.free_bytes
    if engine != "vllm":
        left = gpu.memory_bytes - (used if used > IDLE_BYTES else 0)
        return Room(first, replace(gpu, memory_bytes=max(0, left)), len(chosen), spec.memory_fraction, said)
    allowed = max(0.0, int((gpu.memory_bytes - used - CUDA_CONTEXT_BYTES) / gpu.memory_bytes * 100) / 100)
    if spec.memory_fraction and spec.memory_fraction > allowed:
        wrong = (
            f"memory_fraction {spec.memory_fraction} asks for "
            f"{show_bytes(spec.memory_fraction * gpu.memory_bytes)} of {first.name}, but only "
            f"{show_bytes(allowed * gpu.memory_bytes)} are free there once CUDA has started: set at most {allowed}."
        )
        return Room(first, gpu, len(chosen), spec.memory_fraction, said, impossible=wrong)
    if spec.memory_fraction is None and allowed < VLLM_FRACTION:
        lowered = max(0.01, allowed)
        said = (*said, f"memory_fraction is {lowered}: something else uses {first.name} already.")
        return Room(first, gpu, len(chosen), lowered, said)
    return Room(first, gpu, len(chosen), spec.memory_fraction, said)
