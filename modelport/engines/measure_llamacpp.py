"""What llama.cpp prints about memory: its buffers, a line per device (llama-model.cpp, llama-kv-cache.cpp)."""

import re
from collections.abc import Iterable

from modelport.domain.measured import Measured

MIB = 1 << 20
WEIGHTS = re.compile(r"model buffer size = +([\d.]+) MiB")
KV = re.compile(r"KV buffer size = +([\d.]+) MiB")
COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")
OUTPUT = re.compile(r"output buffer size = +([\d.]+) MiB")
CONTEXT = re.compile(r"llama_context: n_ctx += (\d+)")
SLOTS = re.compile(r"n_slots = (\d+), n_ctx_slot = (\d+)")


def measured(lines: Iterable[str]) -> Measured | None:
    """The sum of all devices, which here belong to one process. None where nothing was printed.

    The xllamacpp package prints slots only: tokens without bytes.
    """
    text = "\n".join(lines)
    context, slots = CONTEXT.search(text), SLOTS.search(text)
    found = Measured(
        weights_bytes=_sum(WEIGHTS, text),
        kv_bytes=_sum(KV, text),
        kv_tokens=int(context[1]) if context else int(slots[1]) * int(slots[2]) if slots else 0,
        activation_bytes=_sum(COMPUTE, text) + _sum(OUTPUT, text),
    )
    return found if found != Measured() else None


def _sum(pattern: re.Pattern[str], text: str) -> int:
    return round(sum(float(size) for size in pattern.findall(text)) * MIB)
