"""Stated cases: a model, a plan and a Spec each, whose commands are kept as golden files."""

from dataclasses import replace
from typing import Any

from modelport.domain.facts import Adapter, ModelFacts, Quantization
from modelport.domain.gpu import Gpu
from modelport.domain.plan import Device, Plan, Split
from modelport.domain.spec import Spec, Speculative

H100 = Gpu("H100", 79 << 30, "nvidia", 9.0, 3.35e12, True, False, "NVLink 900 GB/s")
L4 = Gpu("L4", 22 << 30, "nvidia", 8.9, 3e11, False, False, "PCIe 4")
T4 = Gpu("T4", 14 << 30, "nvidia", 7.5, 3e11, False, False, "PCIe 3")
V100 = Gpu("V100", 15 << 30, "nvidia", 7.0, 9e11, False, False, "NVLink 300 GB/s")
MI300X = Gpu("MI300X", 191 << 30, "amd", 942, 5.3e12, True, False, "Infinity Fabric")
CPU = Device("cpu", "CPU", 2**34, 2**33)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def device(gpu: Gpu = H100) -> Device:
    return Device("gpu", gpu.name, gpu.memory_bytes, gpu.memory_bytes, gpu)


def facts(path: str = "org/dense-8b", **changes: Any) -> ModelFacts:
    dense = ModelFacts(
        source=path, path=path, format="safetensors", architecture="llama", task="generate", parameters=8 * 10**9,
        weight_bytes=16 * 10**9, largest_layer_bytes=4 * 10**8, layers=32, embedding_size=4096, vocabulary=128256,
        context_tokens=131072, kv_bytes_per_token=131072, quantization="BF16", pooling=False, chat_template=True,
        revision=COMMIT, dtype="bfloat16", attention_heads=32, kv_heads=8, head_size=128,
    )  # fmt: skip
    return replace(dense, **changes)


def plan(split: Split = Split(), gpu: Gpu = H100, context: int = 8192, parallel: int = 32, **changes: Any) -> Plan:  # noqa: B008
    made = Plan(
        device(gpu), "generate", (), context, parallel, "fits", (), devices=split.gpus, split=split, memory_fraction=0.9
    )
    return replace(made, **changes)


def spec(**fields: Any) -> Spec:
    return Spec(**{"model": "org/dense-8b", "name": "chat", "accelerators": "H100:8", **fields})


def speculative(method: str, model: str = "", tokens: int = 3) -> Speculative:
    return Speculative(method=method, model=model, tokens=tokens)  # type: ignore[arg-type]


def stored(method: str, bits: float = 4) -> Quantization:
    return Quantization(method, bits, 128)


MOE = facts("org/moe-235b", architecture="qwen3_moe", experts=128, experts_per_token=8, kv_heads=4)

CASES: dict[str, tuple[ModelFacts, Plan, Spec]] = {
    "dense-1-gpu": (facts(), plan(), spec(parallel=32)),
    "dense-tp4": (facts("org/dense-70b"), plan(Split(tensor=4)), spec()),
    "dense-pp2-tp8": (facts("org/dense-405b"), plan(Split(tensor=8, pipeline=2)), spec(accelerators="H100:16")),
    "dense-dp4": (facts(), plan(Split(data=4), parallel=100), spec(parallel=100)),
    "moe-ep8": (MOE, plan(Split(tensor=8, expert=8)), spec()),
    "moe-dp8-ep8": (MOE, plan(Split(data=8, expert=8), parallel=256), spec(parallel=256)),
    "moe-tp4-dp2": (MOE, plan(Split(tensor=4, data=2), parallel=64), spec(parallel=64)),
    "fp8-on-load": (facts(), plan(), spec(quantization="fp8")),
    "awq-as-stored": (facts("org/dense-8b-awq", quantized=stored("awq")), plan(gpu=L4), spec(quantization="awq")),
    "eagle3": (facts(), plan(), spec(speculative=speculative("eagle3", "org/draft@main"))),
    "ngram": (facts(), plan(), spec(speculative=speculative("ngram", tokens=4))),
    "mtp": (MOE, plan(Split(tensor=8)), spec(speculative=speculative("mtp", tokens=1))),
    "draft": (facts("org/dense-70b"), plan(Split(tensor=4)), spec(speculative=speculative("draft", "org/dense-1b", 5))),
    "lora": (facts(adapter=Adapter("/models/adapter", 24, 10**8)), plan(), spec()),
    "embeddings": (facts(task="embed"), plan(task="embed", context=512), spec()),
    "long-context-fp8-kv": (
        facts(), plan(context=131072, parallel=4), spec(kv_cache_dtype="fp8", max_batched_tokens=8192, dtype="bfloat16")
    ),
    "eager-and-more": (facts(), plan(), spec(eager=True, engine_args=("--tool-call-parser", "hermes"))),
    "config-alone": (facts("/configs/config.json", revision="", format="config"), plan(), spec()),
    "local-directory": (facts("/models/dense-8b", revision=""), plan(), spec()),
}  # fmt: skip

OF = {
    "vllm": tuple(CASES),
    "sglang": tuple(name for name in CASES if name != "lora"),
    "tgi": (
        "dense-1-gpu",
        "dense-tp4",
        "fp8-on-load",
        "awq-as-stored",
        "ngram",
        "lora",
        "local-directory",
        "config-alone",
    ),
}
"""Which cases each engine can do; test_commands.py shows what it says of the others."""
