"""What SGLang prints about memory. What it calls GB is 2^30 bytes (get_available_gpu_memory, memory_pool.py)."""

import re
from collections.abc import Iterable

from modelport.domain.measured import Measured

GIB = 1 << 30
BEGIN = re.compile(r"Load weight begin\. avail mem=([\d.]+) GB")
END = re.compile(r"Load weight end\..*?avail mem=([\d.]+) GB(?:, mem usage=([\d.]+) GB)?")
POOL = re.compile(
    r"KV [Cc]ache (?:is )?allocated\.[^#\n]*#tokens: (\d+), "
    r"(?:KV size: ([\d.]+) GB|K size: ([\d.]+) GB, V size: ([\d.]+) GB)"
)
TOKENS = re.compile(r"max_total_num_tokens=(\d+)")
GRAPHS = re.compile(r"Capture [\w ]*graph end\..*?mem usage=([\d.]+) GB")


def measured(lines: Iterable[str]) -> Measured | None:
    """Of several processes the fullest: the most weights, the least cache. None where nothing was printed.

    A model of several pools (sliding and full windows, a draft's) prints each: the largest is taken for tokens only
    where `max_total_num_tokens` is not said, and bytes are those of one pool.
    """
    text = "\n".join(lines)
    begin = [float(n) for n in BEGIN.findall(text)]
    end = END.findall(text)
    used = [float(usage) for _, usage in end if usage]
    # Older versions print only what is left, before and after.
    used = used or [before - float(after) for before, (after, _) in zip(begin, end, strict=False)]
    pools = [(int(tokens), float(kv) if kv else float(k) + float(v)) for tokens, kv, k, v in POOL.findall(text)]
    tokens = [int(n) for n in TOKENS.findall(text)]
    found = Measured(
        weights_bytes=round(max(used, default=0) * GIB),
        kv_bytes=round(max((size for _, size in pools), default=0) * GIB),
        kv_tokens=min(tokens) if tokens else max((count for count, _ in pools), default=0),
        graph_bytes=round(max((float(n) for n in GRAPHS.findall(text)), default=0) * GIB),
    )
    return found if found != Measured() else None
