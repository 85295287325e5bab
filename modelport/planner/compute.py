"""Compute: in which dtype an engine computes a model on a kind of GPU, and what it refuses whatever the memory."""

from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import Gpu
from modelport.domain.spec import Spec

BFLOAT16_CAPABILITY, SGLANG_CAPABILITY = 8.0, 7.5
NO_FLOAT16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4", "plamo2"})
"""Architectures that vLLM computes in bfloat16 or float32 only (config/model.py _FLOAT16_NOT_SUPPORTED_MODELS)."""


def quantization(facts: ModelFacts, spec: Spec) -> str:
    """What weights are quantized to while loading; empty for files that are quantized already."""
    return "" if facts.quantized else spec.quantization or ""


def refused(facts: ModelFacts, spec: Spec, gpu: Gpu, engine: str) -> str:
    """Why an engine would refuse on a kind of GPU what was asked for, whatever the memory; empty where it would not.

    FP8 weights see planner/gpus.py. bfloat16 needs compute capability 8.0 in vLLM and TGI (vLLM: platforms/cuda.py
    check_if_supports_dtype), and so do FP8 caches; SGLang computes in float16 below it, whatever was asked for, and
    needs 7.5 (model_runner.py).
    """
    if quantization(facts, spec) == "fp8" and not gpu.fp8:
        return f"{gpu.name} does not compute in FP8: that needs Hopper or newer."
    if engine == "vllm" and spec.dtype == "float16" and facts.architecture in NO_FLOAT16:
        return f"vLLM does not compute {facts.architecture} in float16, where it is not stable: set dtype to float32."
    if not _old(gpu):
        return ""
    if engine == "sglang" and gpu.capability < SGLANG_CAPABILITY:
        return f"SGLang does not run on {gpu.name}: it needs compute capability 7.5 (T4) or newer."
    if engine != "sglang" and spec.dtype == "bfloat16":
        return f"{gpu.name} does not compute in bfloat16: set dtype to float16."
    if (spec.kv_cache_dtype or "").startswith("fp8"):
        return f"{gpu.name} cannot keep the cache in FP8, which needs an A100 or newer: leave kv_cache_dtype out."
    return ""


def computed_in(facts: ModelFacts, spec: Spec, gpu: Gpu, engine: str) -> str:
    """The dtype that is asked for, or what vLLM falls back to where float16 is all that is left and not stable."""
    asked = spec.dtype or "auto"
    return "float32" if asked == "auto" and engine == "vllm" and falls_back(facts, spec, gpu) == "float32" else asked


def falls_back(facts: ModelFacts, spec: Spec, gpu: Gpu) -> str:
    """What a model that is in bfloat16 is computed in on a GPU that lacks it (vLLM: config/model.py
    _resolve_auto_dtype); empty where it is computed as it is."""
    asked = facts.dtype if spec.dtype in (None, "auto") else spec.dtype
    if asked != "bfloat16" or not _old(gpu):
        return ""
    return "float32" if facts.architecture in NO_FLOAT16 else "float16"


def _old(gpu: Gpu) -> bool:
    return gpu.vendor == "nvidia" and 0 < gpu.capability < BFLOAT16_CAPABILITY
