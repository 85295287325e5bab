"""Defaults: what an engine takes for the settings that nobody gave. They decide what its profiling run allocates."""

from dataclasses import dataclass

from modelport.domain.gpu import Gpu
from modelport.domain.plan import Split

GIB = 1 << 30
MIB = 1 << 20
Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Defaults:
    """An engine's own choices for one GPU and split."""

    memory_fraction: float
    batched_tokens: int
    """Tokens of one step (`max_num_batched_tokens`, `chunked_prefill_size`)."""
    requests: int
    """The most at once (`max_num_seqs`)."""
    v0: bool = False
    """vLLM's first engine, which profiles and lays out its cache in another way."""


def defaults(engine: str, version: Version, gpu: Gpu, split: Split, context: int) -> Defaults:
    """The defaults of a version of an engine. Anything but SGLang and TGI is taken as vLLM."""
    if engine == "sglang":
        return _sglang(version, gpu, split)
    if engine == "tgi":
        # launcher/src/main.rs: cuda_memory_fraction 1.0; the batch is found by warming up, 4,096 tokens at least.
        return Defaults(1.0, 4096, 128)
    return _vllm_v0(version, context) if version < (0, 8) else _vllm(version, gpu)


def _vllm(version: Version, gpu: Gpu) -> Defaults:
    """engine/arg_utils.py get_batch_defaults and config/cache.py of 0.8.5 to 0.32.0, for the API server."""
    fraction = 0.92 if version >= (0, 20) else 0.9
    # NVML does not tell the memory of a GPU that shares the CPU's, and vLLM then takes it for a small one.
    memory = 0 if gpu.unified else gpu.memory_bytes
    if memory >= 160 * GIB and version >= (0, 26):
        return Defaults(fraction, 16384, 1024)
    if memory >= 70 * GIB and (version < (0, 9) or not gpu.name.startswith("A100")):
        return Defaults(fraction, 8192, 1024)
    return Defaults(fraction, 2048, 256)


def _vllm_v0(version: Version, context: int) -> Defaults:
    """config.py SchedulerConfig up to 0.7: a prompt is read in one step unless it may be longer than 32,768 tokens."""
    chunked = context > 32768 and version >= (0, 5, 4)
    tokens = (2048 if version >= (0, 6, 3) else 512) if chunked else max(context, 2048)
    return Defaults(0.9, tokens, 256, v0=True)


def _sglang(version: Version, gpu: Gpu, split: Split) -> Defaults:
    """server_args.py of 0.1.17, 0.2.12, 0.4.3, 0.4.6 (a fraction by parallelism) and 0.5.6 (by what it reserves)."""
    memory = gpu.memory_bytes / MIB
    tensor = split.tensor * (split.data if split.expert > 1 else 1)  # with dp-attention tp_size counts all copies
    gpus = tensor * split.pipeline
    if version < (0, 5):
        return Defaults(_sglang_fraction(version, memory, gpus), 8192 if memory >= 25_000 else 2048, 1024)
    chunk, graphs = _sglang_sizes(memory, tensor)
    reserved = 512 + max(chunk, 2048) * 1.5 + graphs * 2 + gpus / 8 * 1024
    if split.data > 1 and split.expert > 1:
        reserved += graphs * split.data * (4.5 if graphs > 300 else 3.0)
    if memory > 60 * 1024:
        reserved = max(reserved, 10 * 1024)
    return Defaults(round((memory - reserved) / memory, 3), chunk, graphs)


_SGLANG_FRACTIONS = (
    ((0, 2), ((8, 0.80), (4, 0.82), (2, 0.85), (0, 0.90))),
    ((0, 4), ((16, 0.79), (8, 0.83), (4, 0.85), (2, 0.87), (0, 0.88))),
    ((0, 5), ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87), (0, 0.88))),
)
"""Before a version: the fraction from so many GPUs on."""


def _sglang_fraction(version: Version, memory: float, gpus: int) -> float:
    steps = next(steps for before, steps in _SGLANG_FRACTIONS if version < before)
    if version < (0, 4, 5) or memory <= 81920:
        return next(fraction for least, fraction in steps if gpus >= least)
    if memory > 96 * 1024:
        return min(0.88 + 48 * 1024 * 0.12 / memory, (memory - 18 * 1024) / memory)
    return 0.88


def _sglang_sizes(memory: float, tensor: int) -> tuple[int, int]:
    """chunked_prefill_size and cuda_graph_max_bs by the GPU's memory in MiB."""
    few = tensor < 4
    table = (
        (20, 2048, 8),
        (35, 2048, 24 if few else 80),
        (60, 4096, 32 if few else 160),
        (160, 8192, 256 if few else 512),
    )
    for gib, chunk, graphs in table:
        if memory < gib * 1024:
            return chunk, graphs
    return 16384, 512
