"""Local: how llama.cpp would run a model: on one GPU, over several by layers, or on the CPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelport.domain.facts import ModelFacts, Task
from modelport.domain.plan import Device, Part, Plan, Span, Split
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.planner.local_advice import advice, most
from modelport.planner.memory import CONTEXT_STEP, over_gpus, parts
from modelport.planner.ready import ready
from modelport.planner.task import task_of

DEFAULT_PARALLEL = 4
DEFAULT_CONTEXT = 8192
UNKNOWN_CONTEXT = 4096
"""Where the file does not say what the model was trained for."""
UNTRAINED_CONTEXT = 1 << 20
"""How far the longest context is looked for where the file does not say what the model was trained for."""
MOST_PARALLEL = 256
"""The most llama.cpp works on at once (LLAMA_MAX_SEQ)."""
LEAST_CONTEXT = 2048
"""Memory that is short never lowers the context further by itself: less is of little use in a conversation."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the model could go: `device` is the one with the least room of `gpus` that share the layers."""

    device: Device
    gpus: int = 1

    @property
    def name(self) -> str:
        return f"{self.gpus} GPUs" if self.gpus > 1 else self.device.name


@dataclass(frozen=True, slots=True)
class _Choice:
    """One way to run the model: where, how much, and what that takes of one device."""

    place: _Place
    context: int
    parallel: int
    parts: tuple[Part, ...]

    @property
    def missing_bytes(self) -> int:
        """What is needed beyond what is free; negative is room to spare."""
        return sum(part.high_bytes for part in self.parts) - self.place.device.free_bytes


def plan(
    facts: ModelFacts, spec: Spec, devices: Sequence[Device], *, correction: float = 1.0, recorded: Span | None = None
) -> Plan:
    """How one replica would run on the best of `devices` (at least one).

    The GPU with the most free memory is taken if the whole fits, else as few of the GPUs as hold it together, else the
    CPU. `context` and `parallel` of the Spec are kept as they are; what it leaves open is lowered as far as memory
    asks. A model that does not fit is a Plan with `fits` false and sentences that say why and what would fit.
    `correction` scales what is neither weights nor cache. Raises ModelportError for what no memory can help.
    """
    task = task_of(facts, spec)
    for name in ("tensor_parallel", "data_parallel", "expert_parallel"):
        if (getattr(spec, name) or 1) > 1:
            raise ModelportError(f"llamacpp spreads a model over GPUs by layers; leave {name} out.", param=name)
    ways = [
        _Choice(place, context, parallel, _parts(facts, task, place, context, parallel, correction))
        for place in _places(facts, devices)
        for parallel, context in _sizes(facts, spec)
    ]
    best = next((way for way in ways if way.missing_bytes <= 0), None)
    chosen = best or min(ways, key=lambda way: way.missing_bytes)
    place = chosen.place

    tokens, longest = chosen.context * chosen.parallel, facts.context_tokens or UNTRAINED_CONTEXT

    def need(context: int, parallel: int) -> int:
        sizes = _parts(facts, task, place, context, parallel, correction)
        return sum(part.high_bytes for part in sizes)

    def fits(context: int, parallel: int) -> bool:
        return need(context, parallel) <= place.device.free_bytes

    return Plan(
        device=place.device,
        task=task,
        parts=chosen.parts,
        context_tokens=chosen.context,
        parallel=chosen.parallel,
        verdict="fits" if best else "does_not_fit",
        reasons=_decisions(facts, spec, ways[0], chosen)
        if best
        else advice(facts, spec, place.device, chosen.context, chosen.parallel, chosen.parts[0].high_bytes, need),
        devices=max(place.gpus, sum(device.kind == place.device.kind for device in devices)),
        split=Split(pipeline=place.gpus),
        kv_tokens=Span(tokens, tokens, tokens) if best else None,
        max_context=CONTEXT_STEP * most(longest // CONTEXT_STEP, lambda n: fits(n * CONTEXT_STEP, chosen.parallel)),
        max_parallel=most(MOST_PARALLEL, lambda n: fits(chosen.context, n)),
        ready_s=ready(facts, "llamacpp", recorded=recorded),
    )


def _places(facts: ModelFacts, devices: Sequence[Device]) -> list[_Place]:
    """The GPU with the most room, then several, fewest first, then the CPU."""
    gpus = sorted((d for d in devices if d.kind == "gpu"), key=lambda d: d.free_bytes, reverse=True)
    most = min(len(gpus), max(1, facts.layers))
    return [
        *(_Place(gpus[count - 1], count) for count in range(1, most + 1)),
        *(_Place(d) for d in devices if d.kind == "cpu"),
    ]


def _parts(
    facts: ModelFacts, task: Task, place: _Place, context: int, parallel: int, correction: float
) -> tuple[Part, ...]:
    whole = parts(facts, task, place.device.kind, context, parallel)
    sizes = over_gpus(facts, whole, place.gpus) if place.gpus > 1 else whole
    if correction == 1.0:
        return sizes
    return tuple(part if part.name in ("weights", "kv cache") else part.scaled(correction) for part in sizes)


def _sizes(facts: ModelFacts, spec: Spec) -> Iterator[tuple[int, int]]:
    """Parallel and context to try, best first: fewer requests at once before shorter ones."""
    most = min(facts.context_tokens or UNKNOWN_CONTEXT, DEFAULT_CONTEXT)
    context = spec.context or most
    parallel = spec.parallel or DEFAULT_PARALLEL
    yield parallel, context
    while spec.parallel is None and parallel > 1:
        parallel //= 2
        yield parallel, context
    while spec.context is None and context > LEAST_CONTEXT:
        context = max(LEAST_CONTEXT, context // 2)
        yield parallel, context


def _decisions(facts: ModelFacts, spec: Spec, first: _Choice, chosen: _Choice) -> tuple[str, ...]:
    """What was decided for the user, and why."""
    reasons: list[str] = []
    if chosen.place != first.place:
        reasons.append(f"It does not fit on {first.place.name}, so it runs on {chosen.place.name}.")
    if chosen.parallel < first.parallel:
        reasons.append(f"It works on {chosen.parallel} instead of {first.parallel} requests at once: memory is short.")
    if chosen.context < first.context:
        reasons.append(f"A request gets {chosen.context:,} instead of {first.context:,} tokens: memory is short.")
    elif spec.context is None and chosen.context < facts.context_tokens:
        reasons.append(
            f"A request gets {chosen.context:,} of the {facts.context_tokens:,} tokens the model was trained for; "
            "set `context` for more."
        )
    return tuple(reasons)
