"""Generation: what NVIDIA GPUs of older generations cannot do, whatever an engine is told."""

from collections.abc import Iterable
from dataclasses import dataclass

from modelport.domain.plan import Device
from modelport.domain.spec import Spec
from modelport.errors import ModelportError


@dataclass(frozen=True, slots=True)
class Need:
    """A value of a Spec's field, and the compute capability from which on an engine can do it."""

    field: str
    values: tuple[str, ...]
    capability: float
    instead: str


BFLOAT16 = Need("dtype", ("bfloat16",), 8.0, "set dtype float16")
"""Tensor cores compute in it from Ampere on (CUDA C++ Programming Guide, Compute Capabilities). vLLM then refuses to
start (check_if_supports_dtype, vllm/platforms/cuda.py), SGLang computes in float16 instead, though it was not asked to
(load_model, sglang/srt/model_executor/model_runner.py)."""
FP8_CACHE = Need("kv_cache_dtype", ("fp8", "fp8_e4m3", "fp8_e5m2"), 8.0, "leave kv_cache_dtype out")


def must_do(engine: str, spec: Spec, device: Device, needs: Iterable[Need]) -> None:
    """Raises ModelportError for what the Spec asks of a GPU that is too old for it. A GPU of which nothing is known,
    and one of another maker, whose numbers mean something else, pass."""
    gpu = device.gpu
    if gpu is None or gpu.vendor != "nvidia":
        return
    for need in needs:
        wanted = getattr(spec, need.field)
        if wanted in need.values and gpu.capability < need.capability:
            raise ModelportError(
                f"{need.field} {wanted} with {engine} needs NVIDIA GPUs of compute capability {need.capability} or "
                f"newer (A100), and {device.name} has {gpu.capability}: {need.instead}.",
                param=need.field,
            )
