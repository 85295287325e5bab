"""From a Spec to a Launch: resolve, plan, command. The first half of the launch flow, with no effect but reading."""

from dataclasses import dataclass

from modelport import catalog, engines, planner, platforms
from modelport.domain.facts import ModelFacts
from modelport.domain.launch import Launch
from modelport.domain.plan import Plan
from modelport.domain.service import PlanView
from modelport.domain.spec import Spec
from modelport.errors import CANNOT_FIT, ModelportError, nearest


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before anything is started."""

    facts: ModelFacts
    plan: Plan
    engine: str
    launch: Launch


def prepare(spec: Spec) -> Prepared:
    """Look the model up, plan it and make the engine's command. Raises ModelportError at the first thing that is wrong;
    a plan that does not fit is not an error here (`must_fit`)."""
    if spec.platform not in platforms.PLATFORMS:
        known = platforms.PLATFORMS
        raise ModelportError(
            f"platform {spec.platform!r} is not known; there is {', '.join(known)}.{nearest(spec.platform, known)}",
            param="platform",
        )
    facts = catalog.resolve(spec.model)
    engine = engines.choose(spec.engine, facts)
    devices = [device for device in planner.devices() if device.kind in engine.runs_on()]
    plan = planner.plan(facts, spec, devices)
    return Prepared(facts, plan, engine.name, engine.launch(facts, plan, spec))


def must_fit(prepared: Prepared) -> Prepared:
    """The same, or ModelportError with the plan's sentence and reasons."""
    if not prepared.plan.fits:
        raise ModelportError(" ".join([prepared.plan.sentence(), *prepared.plan.reasons]), CANNOT_FIT, param="model")
    return prepared


def view(spec: Spec, prepared: Prepared) -> PlanView:
    plan = prepared.plan
    return PlanView(
        model=spec.model,
        engine=prepared.engine,
        device=plan.device.name,
        fits=plan.fits,
        sentence=plan.sentence(),
        reasons=plan.reasons,
        parts={part.name: part.bytes for part in plan.parts},
        need_bytes=plan.need_bytes,
        high_bytes=plan.high_bytes,
        free_bytes=plan.device.free_bytes,
        context_tokens=plan.context_tokens,
        parallel=plan.parallel,
        argv=prepared.launch.argv,
    )
