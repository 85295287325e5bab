"""Parts: what one llama.cpp process takes, share by share.

Measured on x86-64 with xllamacpp 2026.10 (CPU, flash attention on, no prompt cache in RAM), from the buffer sizes it
prints and from /proc/self/smaps_rollup after requests, on SmolLM2-135M Q4_1 and on models of random weights (llama:
vocabulary 1,000 to 150,000, embedding 256 to 2,048, feed-forward 2.7 to 4 times that; bert: 2 and 6 layers):

    SmolLM2, context × parallel    512×1  2,048×1  2,048×4  8,192×1  8,192×4  1,024×16
    KV buffer, MiB                 11.25    45       180      180      720      360     = tokens × kv_bytes_per_token
    compute buffer, MiB            15.14    16.64    16.64    22.64    22.64    15.64
    the whole process (PSS), MiB    159      193      331      328      871*     537    * 896 with full prompts

Each compute buffer is physical batch × (4 × (5 × embedding + 3 × feed-forward) + 2 × context) bytes: activations in
f32 and the attention mask in f16.

What counts is memory that cannot be given back. Where llama.cpp repacks weights for the CPU (Q4_0, Q4_K, IQ4_NL), PSS
also shows the file's own pages, up to the weights once more, until the kernel wants them for something else.
"""

from typing import Literal

from modelport.domain.facts import ModelFacts, Task
from modelport.domain.plan import Part
from modelport.planner.projector import vision

MIB = 1 << 20
F32_BYTES = 4
MASK_BYTES = 2
"""One f16 per pair of a batch's token and a context's token."""
PHYSICAL_BATCH = 512
"""llama.cpp's default n_ubatch. For embeddings the engine makes it the whole context."""
CONTEXT_STEP = 256
"""llama.cpp rounds the context of each sequence up to this (src/llama-context.cpp)."""

ACTIVATIONS = (8, 14, 32)
"""5 + 3 × feed-forward / embedding: 13.0 for SmolLM2, 17.0 at ratio 4, 9.0 for bert, up to 32 for wide models and
experts. Low, guess, high, as below."""
PROGRAM_BYTES = (28 * MIB, 34 * MIB, 80 * MIB)
"""Interpreter, libraries and server with a vocabulary of 1,000: 32 MiB measured."""
PROGRAM_BYTES_PER_WORD = (250, 450, 900)
"""The tokenizer in memory: 330 measured with 150,000 short words, 470 with SmolLM2's 49,152."""
CUDA_BYTES = (40 * MIB, 330 * MIB, 700 * MIB)
"""What CUDA and its libraries take of a GPU: not measured here; 0.04 to 0.33 GiB printed by vLLM on one GPU
(bench/data/cases.jsonl, non_torch_gib), doubled for cuBLAS workspaces of llama.cpp."""
SAMPLER_BYTES_PER_WORD = 16
"""Logits and candidates of one slot: 2.3 MiB measured with 150,000 words."""
WEIGHTS_SLACK = 0.03
"""Alignment and padding of repacked rows."""
SLIDING_SHARE = 6
"""A model with sliding windows may keep as little as one layer in six in full (gemma 3)."""


def parts(
    facts: ModelFacts, task: Task, device: Literal["cpu", "gpu"], context: int, parallel: int
) -> tuple[Part, ...]:
    """The memory of one replica on one device, in bytes; `context` is tokens per request.

    llama.cpp is given context × parallel tokens and splits them evenly. More of either never makes any part smaller.
    """
    kv = _round_up(context) * parallel * facts.kv_bytes_per_token
    seeing = facts.projector if task == "generate" else None  # the engine leaves it aside where nothing is generated
    weights = facts.weight_bytes - (0 if seeing else _vision_bytes(facts))
    return (
        Part("weights", weights, weights, int(weights * (1 + WEIGHTS_SLACK))),
        Part("kv cache", kv // SLIDING_SHARE, kv, kv),
        _embed_buffers(facts, context) if task == "embed" else _generate_buffers(facts, context, parallel),
        Part("cuda", *CUDA_BYTES) if device == "gpu" else _program(facts),
        *((vision(seeing, device),) if seeing else ()),
    )


def over_gpus(facts: ModelFacts, whole: tuple[Part, ...], gpus: int) -> tuple[Part, ...]:
    """What the fullest of several GPUs takes when llama.cpp splits the model by layers (`--split-mode layer`).

    The layers and the output, which counts as one more, are shared out whole; each GPU has compute buffers and CUDA's
    own of its own (src/llama-model.cpp, dev_layer and dev_output). High is the layers' even share and the output on
    top, in 8 bit (quantizers leave it finer than the layers) or what the weights have, and the whole vision tower.
    """
    layers = max(1, facts.layers)
    share = -(-(layers + 1) // gpus) / layers
    finest = max(1.0, facts.weight_bytes / max(1, facts.parameters))
    outside = min(facts.weight_bytes, int(facts.vocabulary * facts.embedding_size * finest) + _vision_bytes(facts))

    def spread(part: Part) -> Part:
        if part.name not in ("weights", "kv cache"):
            return part
        fullest = min(1.0, share)
        high = int(part.high_bytes * fullest) + (outside if part.name == "weights" else 0)
        return Part(part.name, part.low_bytes // gpus, int(part.bytes * fullest), min(part.high_bytes, high))

    return tuple(spread(part) for part in whole)


def _vision_bytes(facts: ModelFacts) -> int:
    return sum(group.bytes for group in facts.weights if group.name == "vision") if facts.projector else 0


def _generate_buffers(facts: ModelFacts, context: int, parallel: int) -> Part:
    batch = min(PHYSICAL_BATCH, _round_up(context) * parallel)
    low, guess, high = (batch * F32_BYTES * facts.embedding_size * factor for factor in ACTIVATIONS)
    mask = batch * MASK_BYTES * _round_up(context)
    sampling = parallel * SAMPLER_BYTES_PER_WORD * facts.vocabulary
    # Older builds of llama-server set aside logits for the whole batch, and share one mask among all sequences.
    older = batch * F32_BYTES * facts.vocabulary + mask * (parallel - 1)
    return Part("compute buffers", low + mask, guess + mask + sampling, high + mask + sampling + older)


def _embed_buffers(facts: ModelFacts, context: int) -> Part:
    """One physical batch holds a whole input. llama.cpp keeps a row of logits for every token of it, even where the
    model has none to compute (measured: bert with 8,000 tokens took 1,179 MiB, 932 of them logits), and a model made
    to generate computes them too (SmolLM2 at 8,192: a buffer of 1,754 MiB). Low is a server that saw short inputs.
    """
    batch = _round_up(context)
    low, guess, high = (batch * F32_BYTES * facts.embedding_size * factor for factor in ACTIVATIONS)
    mask = batch * batch * MASK_BYTES
    logits = batch * F32_BYTES * facts.vocabulary
    computed = logits if facts.kv_bytes_per_token else 0
    return Part(
        "compute buffers", low // SLIDING_SHARE, guess + mask + logits + computed, high + mask + logits + computed
    )


def _program(facts: ModelFacts) -> Part:
    sizes = (
        fixed + per_word * facts.vocabulary
        for fixed, per_word in zip(PROGRAM_BYTES, PROGRAM_BYTES_PER_WORD, strict=True)
    )
    return Part("program", *sizes)


def _round_up(tokens: int) -> int:
    return -(-tokens // CONTEXT_STEP) * CONTEXT_STEP
