"""Own: what a model takes in Modelport's own runtime: pictures through onnxruntime, language through transformers.

Measured on x86-64, CPU, as `modelport status` shows memory: the digits classifier's process took 73 MiB when it was
ready; SmolLM2's 442 and MiniLM's 341 MiB beside their weights (docs/benchmarks.md). The rest are wide estimates.
"""

from collections.abc import Sequence

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Device, Part, Plan, Span
from modelport.domain.spec import Spec
from modelport.planner.ready import ready
from modelport.planner.task import task_of

MIB = 1 << 20
PICTURE_PROGRAM = (60 * MIB, 80 * MIB, 190 * MIB)
"""Interpreter, server, onnxruntime, Pillow."""
LANGUAGE_PROGRAM = (280 * MIB, 430 * MIB, 800 * MIB)
"""The same with torch and transformers."""
CUDA_CONTEXT = (300 * MIB, 500 * MIB, 1000 * MIB)
"""torch's or onnxruntime's own on a GPU: an estimate."""
PICTURE_WORK = (0.0, 0.5, 2.0)
"""Tensors of a batch on their way, over the weights; what large pictures take comes on top."""
PICTURES_BYTES = (8 * MIB, 64 * MIB, 512 * MIB)
"""Decoded pictures of one batch: 64 of some hundred thousand pixels, up to one of 100 megapixels."""
LANGUAGE_WORK = (0.02, 0.1, 0.4)
"""Activations, over the weights."""
PICTURE_PARALLEL = 64
"""Requests that are put into one queue, and so into one batch."""
LANGUAGE_PARALLEL = 8
UNKNOWN_CONTEXT = 4096
MOST_CONTEXT = 8192
"""What a request is taken to need where the Spec does not say: the cache grows with what is used."""


def plan(
    facts: ModelFacts, spec: Spec, devices: Sequence[Device], *, correction: float = 1.0, recorded: Span | None = None
) -> Plan:
    """How one replica would run: on the GPU with the most room if it fits there, else on the CPU.

    Raises ModelportError for a task the model cannot do. `correction` scales what is neither weights nor cache.
    """
    task = task_of(facts, spec)
    pictures = task in ("classify", "detect")
    parallel = spec.parallel or (PICTURE_PARALLEL if pictures else LANGUAGE_PARALLEL)
    context = 0 if pictures else spec.context or min(facts.context_tokens or UNKNOWN_CONTEXT, MOST_CONTEXT)
    ordered = sorted(devices, key=lambda device: (device.kind != "gpu", -device.free_bytes))
    ways = [(device, _parts(facts, device, pictures, context, parallel, correction)) for device in ordered]
    fitting = next((way for way in ways if sum(part.high_bytes for part in way[1]) <= way[0].free_bytes), None)
    possible = next((way for way in ways if sum(part.bytes for part in way[1]) <= way[0].free_bytes), None)
    device, parts = fitting or possible or max(ways, key=lambda way: way[0].free_bytes)
    return Plan(
        device=device,
        task=task,
        parts=parts,
        context_tokens=context,
        parallel=parallel,
        verdict="fits" if fitting else "too_close" if possible else "does_not_fit",
        reasons=()
        if possible
        else (
            f"The largest part is {max(parts, key=lambda part: part.bytes).name}; free memory, or take a smaller one.",
        ),
        devices=sum(other.kind == device.kind for other in devices),
        ready_s=ready(facts, "pictures" if pictures else "transformers", recorded=recorded),
    )


def _parts(
    facts: ModelFacts, device: Device, pictures: bool, context: int, parallel: int, correction: float
) -> tuple[Part, ...]:
    weights = facts.weight_bytes
    program = PICTURE_PROGRAM if pictures else LANGUAGE_PROGRAM
    if device.kind == "gpu":
        program = CUDA_CONTEXT
    work = tuple(
        int(weights * share) + fixed
        for share, fixed in zip(
            PICTURE_WORK if pictures else LANGUAGE_WORK, PICTURES_BYTES if pictures else (0, 0, 0), strict=True
        )
    )
    cache = facts.kv_bytes_per_token * context * parallel
    # onnxruntime repacks what it computes with; transformers reads weights once and may cast them to 32 bit.
    parts = [Part("weights", weights, weights, weights * 2)]
    if cache:
        parts.append(Part("kv cache", cache // parallel // 16, cache // parallel, cache))
    rest = (Part("work", *work), Part("program", *program))
    return (*parts, *(part.scaled(correction) for part in rest))
