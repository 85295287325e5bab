"""Advice: what to change so that a model fits. Every change named was planned, and fits for sure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from modelport.domain.gpu import GPUS_OF_A_MACHINE, Accelerators, Gpu
from modelport.domain.plan import Change, Split
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.planner.compute import refused
from modelport.planner.gpus import GPUS, devices_of
from modelport.planner.local_advice import most
from modelport.planner.offers import Price, cheapest, shapes
from modelport.planner.room import room_of
from modelport.planner.served import CONTEXT_STEP, Choice, Question
from modelport.planner.split import splits

MOST_CHANGES = 3
MOST_FRACTION = 0.95
"""Beyond it engines run out of memory while they serve (vLLM and SGLang docs both advise at most 0.9 to 0.95)."""
LEFT_OUT = ("memory_fraction", "dtype", "kv_cache_dtype")
"""Settings without which an engine may do what it refuses with them."""
COUNTS = (2, 4, 8, 16)
QUANTIZATIONS = {
    "vllm": ("fp8", "bitsandbytes"),
    "sglang": ("fp8", "int8wo", "int4wo-128"),
    "tgi": ("fp8", "int8wo", "bitsandbytes"),
}
"""What each engine quantizes to while it loads 16-bit files, the gentlest first."""
KV_FP8_CAPABILITY = 8.9
"""From Ada on, attention kernels read an FP8 cache (vLLM docs, quantized KV cache)."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A change that was planned and fits. `rank` grows with how much it changes."""

    rank: int
    sentence: str
    usd_per_hour: float | None


def changes(question: Question, table: Sequence[Price]) -> tuple[Change, ...]:
    """Up to three changes, the cheapest of each sort, by price and then by how little they change."""
    found: list[Fix] = []
    for sort in (_settings, _quantized, _more_gpus, _other_gpus):
        found += sort(question, table)
    best: dict[int, Fix] = {}
    for fix in found:
        kept = best.get(fix.rank)
        if kept is None or _price(fix) < _price(kept):
            best[fix.rank] = fix
    ordered = sorted(best.values(), key=lambda fix: (_price(fix), fix.rank))
    return tuple(Change(fix.sentence, fix.usd_per_hour) for fix in ordered[:MOST_CHANGES])


def _price(fix: Fix) -> float:
    return float("inf") if fix.usd_per_hour is None else fix.usd_per_hour


def _settings(question: Question, table: Sequence[Price]) -> Iterator[Fix]:
    """Shorter, fewer, a smaller cache, a larger share: the same GPUs."""
    spec, room = question.spec, question.room
    usd = _usd(table, room.gpu, Split(), room.count)
    for name in LEFT_OUT if question.barred else LEFT_OUT[:1]:
        if getattr(spec, name) is not None and (found := _fits(question, **{name: None})):
            instead = f" ({found.estimate.memory_fraction:.2g})" if name == "memory_fraction" else ""
            yield Fix(3, f"Leave {name} out{instead}{_told(found, spec)}.", usd)
    if question.barred:
        return
    every = splits(question.facts, question.engine, room.count, spec)
    parallel = spec.parallel or 1
    if spec.context:
        longest = max(question.longest(split, parallel, spec.context) for split in every)
        if longest >= CONTEXT_STEP:
            yield Fix(2, f"Set context to {longest:,} tokens.", usd)
    if parallel > 1 and spec.context:
        fewer = max(most(parallel - 1, _holds(question, split, spec.context)) for split in every)
        if fewer:
            yield Fix(1, f"Set parallel to {fewer}.", usd)
    fp8_cache = room.gpu.fp8 or (room.gpu.vendor == "nvidia" and room.gpu.capability >= KV_FP8_CAPABILITY)
    if fp8_cache and spec.kv_cache_dtype in (None, "auto") and (fixed := _fits(question, kv_cache_dtype="fp8")):
        yield Fix(4, f"Keep the cache in FP8: set kv_cache_dtype to fp8{_told(fixed, spec)}.", usd)
    raised = (
        question.engine == "vllm" and room.fraction == spec.memory_fraction and (room.fraction or 0) < MOST_FRACTION
    )
    if raised and (found := _fits(question, memory_fraction=MOST_FRACTION)):
        yield Fix(3, f"Raise memory_fraction to {MOST_FRACTION}{_told(found, spec)}.", usd)


def _quantized(question: Question, table: Sequence[Price]) -> Iterator[Fix]:
    facts, spec, room = question.facts, question.spec, question.room
    if facts.quantized or spec.quantization or question.barred:
        return
    for name in QUANTIZATIONS.get(question.engine, ()):
        if (name != "fp8" or room.gpu.fp8) and (choice := _fits(question, quantization=name)):
            usd = _usd(table, room.gpu, Split(), room.count)
            note = ", which vLLM has up to 0.24" if (question.engine, name) == ("vllm", "bitsandbytes") else ""
            yield Fix(5, f"Quantize while loading: set quantization to {name}{note}{_told(choice, spec)}.", usd)
            return


def _more_gpus(question: Question, table: Sequence[Price]) -> Iterator[Fix]:
    room = question.room
    if room.device.gpu is None:
        return
    for count in COUNTS:
        if count > room.count and (choice := _on(question, room.device.gpu, count)):
            name, usd = room.device.gpu.name, _usd(table, room.gpu, choice.split, count)
            yield Fix(
                6, f"Take {name}:{count} instead of {room.count}{_machines(count)}{_told(choice, question.spec)}.", usd
            )
            return


def _other_gpus(question: Question, table: Sequence[Price]) -> Iterator[Fix]:
    """The cheapest machine of another kind."""
    here = question.room.gpu.name
    for name, count in shapes(table):
        gpu = GPUS[name]
        if name == here or refused(question.facts, question.spec, gpu, question.engine):
            continue
        if choice := _on(question, gpu, count):
            usd = _usd(table, gpu, choice.split, count)
            yield Fix(7, f"Take {name}:{count}{_machines(count)}{_told(choice, question.spec)}.", usd)
            return


def _holds(question: Question, split: Split, context: int) -> Callable[[int], bool]:
    return lambda n: question.judge(split, context, n).verdict == "fits"


def _fits(question: Question, **changed: object) -> Choice | None:
    spec = Spec.model_validate({**question.spec.model_dump(), **changed})
    room = room_of([question.room.device] * question.room.count, question.engine, spec)
    choice = replace(question, spec=spec, room=room).choose()
    return choice if choice.verdict == "fits" else None


def _on(question: Question, gpu: Gpu, count: int) -> Choice | None:
    try:
        room = room_of(devices_of(Accelerators(gpu, count)), question.engine, question.spec)
        choice = replace(question, room=room).choose()
    except ModelportError:  # the Spec's own degrees cannot be split over so many
        return None
    return choice if choice.verdict == "fits" else None


def _told(choice: Choice, spec: Spec) -> str:
    """What a change gives, where the user left the context open."""
    return "" if spec.context else f" (context {choice.context:,} tokens)"


def _machines(count: int) -> str:
    return f" on {-(-count // GPUS_OF_A_MACHINE)} machines" if count > GPUS_OF_A_MACHINE else ""


def _usd(table: Sequence[Price], gpu: Gpu, split: Split, count: int) -> float | None:
    offer = cheapest(table, gpu.name, split, count)
    return offer.usd_per_hour if offer else None
