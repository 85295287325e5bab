"""What vLLM prints about memory, in the words of V0 (up to 0.8) and V1. What it calls GB and GiB is 2^30 bytes."""

import re
from collections.abc import Iterable

from modelport.domain.measured import Measured

GIB = 1 << 30
BLOCK_TOKENS = 16
"""Of one block of V0's cache, unless another was asked for (vllm/config.py, CacheConfig)."""

WEIGHTS = re.compile(r"(?:[Mm]odel loading|[Ll]oading model weights) took ([\d.]+) ?Gi?B")
PROFILE = re.compile(
    r"weights take ([\d.]+)GiB; non_torch_memory takes ([\d.]+)GiB; PyTorch activation peak memory takes ([\d.]+)GiB; "
    r"the rest of the memory reserved for KV Cache is ([\d.]+)GiB"
)
KV = re.compile(r"(?:Available KV cache memory: |Explicitly set \(|Auto set \()([\d.]+)(?: GiB|/)")
TOKENS = re.compile(r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens")
BLOCKS = re.compile(r"# (?:GPU|cuda|rocm) blocks: (\d+)")
CONCURRENCY = re.compile(r"Maximum concurrency for ([\d,]+) tokens per request: ([\d.]+)x")
GRAPHS = re.compile(r"Graph capturing finished in \d+ secs?, took (-?[\d.]+) GiB")


def measured(lines: Iterable[str]) -> Measured | None:
    """Of several workers the fullest: the most weights, the least cache. None where nothing was printed."""
    text = "\n".join(lines)
    profile = [tuple(float(number) for number in row) for row in PROFILE.findall(text)]
    weights = [float(n) for n in WEIGHTS.findall(text)] or [row[0] for row in profile]
    kv = [float(n) for n in KV.findall(text)] or [row[3] for row in profile]
    found = Measured(
        weights_bytes=round(max(weights, default=0) * GIB),
        kv_bytes=round(min(kv, default=0) * GIB),
        kv_tokens=_tokens(text),
        activation_bytes=round(max((row[2] for row in profile), default=0) * GIB),
        graph_bytes=round(max((float(n) for n in GRAPHS.findall(text)), default=0) * GIB),
        other_bytes=round(max((row[1] for row in profile), default=0) * GIB),
    )
    return found if found != Measured() else None


def _tokens(text: str) -> int:
    if tokens := [int(n.replace(",", "")) for n in TOKENS.findall(text)]:
        return min(tokens)
    blocks = min((int(n) for n in BLOCKS.findall(text)), default=0)
    said = CONCURRENCY.search(text)
    if said and blocks:
        # Length times concurrency is blocks times the block's size, rounded: it tells which power of two that is.
        size = int(said[1].replace(",", "")) * float(said[2]) / blocks
        return blocks * min((8, 16, 32, 64, 128), key=lambda power: abs(power - size))
    return blocks * BLOCK_TOKENS
