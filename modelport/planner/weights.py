"""Weights: what of them one GPU holds, after tensor, expert and pipeline parallelism and what loading does to them."""

from dataclasses import replace
from math import ceil

from modelport.domain.facts import ModelFacts, Weights
from modelport.domain.plan import Part
from modelport.planner.ask import Ask

QUANTIZED_BYTES: dict[str, dict[str, float]] = {
    "vllm": {"fp8": 1.0, "experts_int8": 1.0, "bitsandbytes": 0.53},
    "sglang": {
        "fp8": 1.0,
        "fp8wo": 1.0,
        "fp8dq": 1.0,
        "int8wo": 1.0,
        "int8dq": 1.0,
        "int4wo": 0.53,
        "bitsandbytes": 0.53,
    },
    "tgi": {
        "fp8": 1.0,
        "int8wo": 1.0,
        "eetq": 1.0,
        "bitsandbytes": 1.0,
        "bitsandbytes-nf4": 0.53,
        "bitsandbytes-fp4": 0.53,
    },
}
"""Bytes per weight after quantizing while loading, by engine: 8 bit with a scale per row; 4 bit with one per 64 to 128
weights. TGI's bitsandbytes is 8 bit (launcher/src/main.rs). What is not here is planned in 16 bit."""
TORCHAO = ("int", "fp8wo", "fp8dq")
"""SGLang's torchao methods, which change what is named `proj`, and so no fused experts (torchao_utils.py)."""
LOADED_FIRST = {"vllm": (0, 32), "sglang": (999,)}
"""Versions before these load all weights as they are before they make them FP8 or smaller: the GPU must hold both
states one after the other (vLLM 0.12 fp8.py, SGLang 0.5.6 loader.py; vLLM 0.32 quantizes layer by layer). vLLM's
bitsandbytes quantizes tensor by tensor."""
QUANTIZABLE = frozenset({"attention", "key_value", "mlp", "shared_experts", "experts", "state"})
"""What load-time quantization touches; embeddings, head, norms and towers stay as they are."""
LAST = frozenset({"head", "draft"})
"""What the last pipeline stage has beside its layers; embeddings and towers are on the first."""
SPLIT_TOWERS = ("qwen", "internvl", "llava")
"""Architectures whose vision tower tensor parallelism splits (measured: Qwen2-VL; a Gemma 3 keeps it whole)."""
MXFP4_MULTIPLES = {"nvidia": (128, 256), "amd": (256, 256)}
"""vLLM pads embedding and expert size of MXFP4 experts to multiples of these (layers/quantization/mxfp4.py); measured
in bench/data: gpt-oss-20b takes 13.72 GiB on NVIDIA and 14.31 on AMD of 12.8 stored."""
TENSORS_SLACK, TOTAL_SLACK, COMPUTED_SLACK, QUANTIZED_SLACK = 0.003, 0.01, 0.015, 0.03
"""Relative half-widths of weights whose every tensor is known, of which the total is, and which a config implies; and
what is added where they are quantized: what stays in 16 bit, scales, and engines that repack. bench/planner.py."""


def weights(facts: ModelFacts, ask: Ask) -> Part:
    """The weights that the fullest GPU holds, with the draft model's."""
    groups = facts.weights or (Weights("other", facts.parameters, facts.weight_bytes, facts.layers, "tensor"),)
    # The heads for drafting are in the files, but loaded only where something drafts.
    groups = tuple(group for group in groups if group.name != "draft" or ask.draft_tokens)
    inside = sum(_held(facts, group, ask) for group in groups if group.layers)
    # With pipeline stages the embeddings and towers are on the first and the head on the last: no stage has both.
    ends = [
        sum(_held(facts, g, ask) for g in groups if not g.layers and (g.name in LAST) is last) for last in (False, True)
    ]
    outside = max(ends) if ask.split.pipeline > 1 else sum(ends)
    guess = inside + outside + ask.draft_bytes
    slack = {"tensors": TENSORS_SLACK, "total": TOTAL_SLACK, "computed": COMPUTED_SLACK}[facts.precision]
    slack += QUANTIZED_SLACK if facts.quantized or ask.quantization else 0.0
    return Part("weights", int(guess * (1 - slack)), int(guess), int(guess * (1 + slack)))


def load_time(facts: ModelFacts, ask: Ask) -> float:
    """Bytes per weight that loading makes of what it quantizes; 0 where nothing is."""
    if facts.quantized:
        return 0.0
    known = QUANTIZED_BYTES.get(ask.engine, {})
    return known.get(ask.quantization) or known.get(ask.quantization.partition("-")[0]) or 0.0


def while_loading(facts: ModelFacts, ask: Ask, version: tuple[int, ...]) -> int:
    """Bytes that one GPU holds before what is loaded is quantized; 0 where nothing is, or piece by piece."""
    if not load_time(facts, ask) or (ask.engine == "vllm" and ask.quantization.startswith("bitsandbytes")):
        return 0
    if version >= LOADED_FIRST.get(ask.engine, (0,)):
        return 0
    return weights(facts, replace(ask, quantization="")).bytes


def _touched(ask: Ask) -> frozenset[str]:
    if ask.quantization.startswith("experts_"):
        return frozenset({"experts"})
    if ask.engine == "sglang" and ask.quantization.startswith(TORCHAO):
        return QUANTIZABLE - {"experts"}
    return QUANTIZABLE


def _held(facts: ModelFacts, group: Weights, ask: Ask) -> float:
    """Bytes of a group that one GPU holds."""
    split = ask.split
    kv_heads = max((c.heads for c in facts.caches if c.kind not in ("mla", "state")), default=1)
    shares = {
        "tensor": split.tensor,
        "key_value": min(split.tensor, max(1, kv_heads)),
        "expert": max(split.tensor, split.expert),
        "none": split.tensor if group.name == "vision" and facts.architecture.startswith(SPLIT_TOWERS) else 1,
    }[group.sharding]
    layers = ceil(group.layers / split.pipeline) / group.layers if group.layers else 1.0
    return _loaded(facts, group, ask) / shares * layers


def _loaded(facts: ModelFacts, group: Weights, ask: Ask) -> float:
    """Bytes of a group, all GPUs together, in the form the engine computes with."""
    quantized = load_time(facts, ask)
    if quantized and group.name in _touched(ask):
        return min(group.bytes, group.parameters * quantized)
    if group.name == "experts" and facts.quantized and facts.quantized.method == "mxfp4" and ask.engine == "vllm":
        sizes = (facts.embedding_size, facts.feed_forward_size // max(1, facts.experts_per_token))
        padded = [
            -(-size // unit) * unit / max(1, size)
            for size, unit in zip(sizes, MXFP4_MULTIPLES[ask.gpu.vendor], strict=True)
        ]
        return group.bytes * padded[0] * padded[1]
    if ask.dtype == "float32" and group.bytes >= 1.9 * group.parameters:
        return 4.0 * group.parameters
    if group.parameters and group.bytes >= 3.9 * group.parameters:
        return group.bytes / 2  # kept in 32 bit, computed in 16: engines convert it while they load
    return group.bytes
