"""The planner answers: will it fit? ModelFacts, a Spec and devices go in, a Plan comes out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Device, Part, Plan
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.planner.advice import advice
from modelport.planner.devices import devices
from modelport.planner.memory import parts

__all__ = ["devices", "plan"]

DEFAULT_PARALLEL = 4
DEFAULT_CONTEXT = 8192
UNKNOWN_CONTEXT = 4096
"""Where the file does not say what the model was trained for."""
LEAST_CONTEXT = 2048
"""Memory that is short never lowers the context further by itself: less is of little use in a conversation."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """One way to run the model: where, how much, and what that takes."""

    device: Device
    context: int
    parallel: int
    parts: tuple[Part, ...]

    @property
    def missing_bytes(self) -> int:
        """What is needed beyond what is free; negative is room to spare."""
        return sum(part.high_bytes for part in self.parts) - self.device.free_bytes


def plan(facts: ModelFacts, spec: Spec, devices: Sequence[Device]) -> Plan:
    """How one replica of a model would run on the best of `devices` (at least one).

    The GPU with the most free memory is taken if the whole fits, else the CPU. `context` and `parallel` of the Spec
    are kept as they are; what it leaves open is lowered as far as memory asks. A model that does not fit is a Plan
    with `fits` false and sentences that say why and what would fit. Raises ModelportError for what no memory can help:
    a context beyond the trained one, or a task the model cannot do.
    """
    task = _task(facts, spec)
    if spec.context and facts.context_tokens and spec.context > facts.context_tokens:
        raise ModelportError(
            f"context is {spec.context:,}, but {facts.source!r} was trained for {facts.context_tokens:,} tokens; "
            f"ask for at most {facts.context_tokens:,}.",
            param="context",
        )
    ways = [
        _Choice(device, context, parallel, parts(facts, task, device.kind, context, parallel))
        for device in _in_order(devices)
        for parallel, context in _sizes(facts, spec)
    ]
    best = next((way for way in ways if way.missing_bytes <= 0), None)
    chosen = best or min(ways, key=lambda way: way.missing_bytes)
    return Plan(
        device=chosen.device,
        task=task,
        parts=chosen.parts,
        context_tokens=chosen.context,
        parallel=chosen.parallel,
        verdict="fits" if best else "does_not_fit",
        reasons=_decisions(facts, spec, ways[0], chosen)
        if best
        else advice(facts, spec, task, chosen.device, chosen.context, chosen.parallel),
    )


def _task(facts: ModelFacts, spec: Spec) -> Literal["generate", "embed"]:
    if spec.task == "generate" and facts.task == "embed":
        raise ModelportError(
            f"{facts.source!r} is an embedding model ({facts.architecture}) and cannot generate text; "
            "leave `task` out or set it to embed.",
            param="task",
        )
    return facts.task if spec.task == "auto" else spec.task


def _in_order(devices: Sequence[Device]) -> list[Device]:
    """The GPU with the most room, then the CPU."""
    gpus = sorted((d for d in devices if d.kind == "gpu"), key=lambda d: d.free_bytes, reverse=True)
    return [*gpus[:1], *(d for d in devices if d.kind == "cpu")]


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
    if chosen.device is not first.device:
        reasons.append(f"It does not fit on {first.device.name}, so it runs on {chosen.device.name}.")
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
