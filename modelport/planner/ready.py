"""Ready: seconds from start to the first answer: download, load, then what the engine compiles and captures.

All rates are estimates with wide bounds; what a machine really took (its recorded starts) replaces the sum.
"""

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Span

DOWNLOAD_BYTES_S = Span(30e6, 200e6, 1e9)
"""An estimate: a home line, a cloud machine, and the Hub's several streams at once on a fast one."""
LOAD_BYTES_S = Span(0.3e9, 1.5e9, 7e9)
"""Network disk, NVMe, page cache. vLLM printed 12.7 GiB in 24.8 s (vllm-project/vllm#38820), 3.4 GiB in 0.7 s (#20264)
and 70 GB in about 10 s from the page cache (#19824)."""
ENGINE_S = {
    "vllm": Span(30, 75, 240),
    "sglang": Span(20, 60, 240),
    "tgi": Span(15, 45, 180),
    "llamacpp": Span(0.3, 2, 20),
    "pictures": Span(0.5, 2, 15),
    "transformers": Span(3, 8, 40),
}
"""Start, profiling, compilation and graph capture. vLLM: init took 34 s with a warm compile cache and 59 s in all for a
3B model (#20264), 215 s for 70B on 8 GPUs (#19824). SGLang and TGI: estimated from it. llama.cpp: SmolLM2 is ready
within 2 s on CPU. Our own runtime: the digits classifier within 2 s, SmolLM2 through transformers within 10."""
EAGER_SHARE = 0.5
"""An estimate: of vLLM's start without compilation and graphs (#11005: 14 of 39 s; start-up itself stays)."""


def ready(facts: ModelFacts, engine: str, *, eager: bool = False, recorded: Span | None = None) -> Span:
    """Seconds to ready, low to high; `recorded` instead where there are starts of this model here."""
    if recorded is not None:
        return recorded
    start = ENGINE_S.get(engine, ENGINE_S["vllm"])
    share = EAGER_SHARE if eager and engine in ("vllm", "sglang") else 1.0
    return Span(
        facts.download_bytes / DOWNLOAD_BYTES_S.high + facts.weight_bytes / LOAD_BYTES_S.high + start.low * share,
        facts.download_bytes / DOWNLOAD_BYTES_S.guess + facts.weight_bytes / LOAD_BYTES_S.guess + start.guess * share,
        facts.download_bytes / DOWNLOAD_BYTES_S.low + facts.weight_bytes / LOAD_BYTES_S.low + start.high * share,
    )
