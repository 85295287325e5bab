"""The planner answers: will it fit? ModelFacts, a Spec and devices go in, a Plan comes out."""

from collections.abc import Sequence
from dataclasses import replace

from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import Accelerators
from modelport.domain.plan import Device, Offer, Plan, Span
from modelport.domain.spec import Spec
from modelport.errors import ModelportError, nearest
from modelport.planner import cost, local, own, served, served_cpu
from modelport.planner import offers as market
from modelport.planner.advice import changes
from modelport.planner.calibration import parse_version
from modelport.planner.compute import refused
from modelport.planner.defaults import defaults
from modelport.planner.devices import devices
from modelport.planner.gpus import GPUS, accelerators, devices_of
from modelport.planner.offers import Price, prices
from modelport.planner.ready import ready as time_to_ready
from modelport.planner.room import room_of
from modelport.planner.split import WAYS

__all__ = ["Price", "accelerators", "devices", "devices_of", "offers", "plan", "prices", "refused"]

MOST_OFFERS = 8


def plan(
    facts: ModelFacts,
    spec: Spec,
    devices: Sequence[Device],
    engine: str = "llamacpp",
    *,
    version: str = "",
    correction: float = 1.0,
    ready: Span | None = None,
    prices: Sequence[Price] | None = None,
    draft: ModelFacts | None = None,
) -> Plan:
    """How one replica of a model would run by an engine on `devices` (at least one), the machine's own or devices_of.

    `version` is the engine's (empty: the newest known). `correction` is what this host measured against what was
    planned, for all but weights and cache; `ready` its recorded seconds to ready; `prices` what is sold (by default
    the packaged list); `draft` the model that drafts for this one. A model that does not fit is a Plan with `fits`
    false, the reasons, and the changes that would make it fit. Raises ModelportError for what no memory can help: a
    context beyond the trained one, a task the model cannot do, degrees that cannot be, an engine without its device.
    """
    table = market.prices() if prices is None else prices
    if engine == "llamacpp":
        made = local.plan(facts, spec, devices, correction=correction, recorded=ready)
        gpu = made.device.gpu
        return replace(made, offer=market.cheapest(table, gpu.name, made.split, made.devices) if gpu else None)
    if engine == "modelport":
        return own.plan(facts, spec, devices, correction=correction, recorded=ready)
    if engine not in WAYS:
        known = ("llamacpp", "modelport", *WAYS)
        raise ModelportError(
            f"Engine {engine!r} cannot be planned; these can: {', '.join(known)}.{nearest(engine, known)}",
            param="engine",
        )
    seconds = time_to_ready(facts, engine, eager=spec.eager, recorded=ready)
    if engine == "vllm" and not any(device.kind == "gpu" for device in devices):
        return served_cpu.plan(facts, spec, devices, seconds, draft)
    room = room_of(devices, engine, spec)
    facts = served.with_cache(facts)
    question = served.Question(facts, spec, engine, room, version, correction, draft)
    chosen = question.choose()
    made = served.plan_of(question, chosen)
    return replace(
        made,
        ready_s=seconds,
        offer=_offer(facts, question, chosen, table),
        changes=changes(question, table) if made.verdict == "does_not_fit" else (),
    )


def offers(
    facts: ModelFacts,
    spec: Spec,
    engine: str,
    prices: Sequence[Price] | None = None,
    *,
    version: str = "",
    draft: ModelFacts | None = None,
) -> list[Plan]:
    """Plans on the cheapest machines that fit for sure, cheapest first, one per kind of GPU.

    At most MOST_OFFERS; empty where nothing that is sold fits. Raises ModelportError as `plan` does, where it does so
    on every machine.
    """
    table = market.prices() if prices is None else prices
    found: list[Plan] = []
    kinds: set[str] = set()
    impossible: ModelportError | None = None
    for name, count in market.shapes(table):
        if len(found) == MOST_OFFERS:
            break
        if name in kinds or (engine in WAYS and refused(facts, spec, GPUS[name], engine)):
            continue
        try:
            made = _quick(facts, spec, engine, devices_of(Accelerators(GPUS[name], count)), table, version, draft)
        except ModelportError as error:
            impossible = error
            continue
        if made is not None:
            found.append(made)
            kinds.add(name)
    if impossible is not None and not found:
        raise impossible
    return sorted(found, key=lambda made: made.offer.usd_per_hour if made.offer else float("inf"))


def _quick(
    facts: ModelFacts,
    spec: Spec,
    engine: str,
    on: Sequence[Device],
    table: Sequence[Price],
    version: str,
    draft: ModelFacts | None,
) -> Plan | None:
    """The plan where it fits for sure, without advice where it does not."""
    if engine not in WAYS:
        made = plan(facts, spec, on, engine, prices=table)
        return made if made.verdict == "fits" else None
    facts = served.with_cache(facts)
    question = served.Question(facts, spec, engine, room_of(on, engine, spec), version, draft=draft)
    chosen = question.choose()
    if chosen.verdict != "fits":
        return None
    seconds = time_to_ready(facts, engine, eager=spec.eager)
    return replace(served.plan_of(question, chosen), ready_s=seconds, offer=_offer(facts, question, chosen, table))


def _offer(facts: ModelFacts, question: served.Question, chosen: served.Choice, table: Sequence[Price]) -> Offer | None:
    """The cheapest price of all the plan's GPUs, idle ones too, with the estimate of what a million tokens cost."""
    room, found = question.room, chosen.estimate
    offer = market.cheapest(table, room.gpu.name, chosen.split, room.count)
    if offer is None or chosen.verdict == "does_not_fit":
        return offer
    if facts.task == "embed":  # whose tokens are read, not generated: not what cost.py estimates
        return offer
    weights = next((part.bytes for part in found.parts if part.name == "weights"), 0)
    batch = cost.requests(
        chosen.split,
        found.kv_tokens.guess,
        most_of_a_copy=defaults(
            question.engine, parse_version(question.engine, question.version), room.gpu, chosen.split, chosen.context
        ).requests,
        at_once=question.spec.parallel,
    )
    rate = cost.tokens_per_second(
        facts, room.gpu, chosen.split, weights, found.cache_bytes.guess, found.kv_tokens.guess, batch
    )
    return replace(offer, usd_per_million_tokens=cost.usd_per_million(offer.usd_per_hour, rate))
