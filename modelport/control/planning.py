"""From a Spec to a Launch: resolve, plan, command. The first half of the launch flow, with no effect but reading."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelport import catalog, engines, planner, platforms
from modelport.control.known import Known, cloud_env, with_environment
from modelport.domain.facts import ModelFacts
from modelport.domain.launch import Labels, Launch
from modelport.domain.plan import Device, Plan
from modelport.domain.service import PlanView
from modelport.domain.spec import Spec
from modelport.engines import Engine
from modelport.errors import CANNOT_FIT, ModelportError, nearest
from modelport.planner.split import WAYS
from modelport.platforms.docker_run import Mount, docker_run, network_of
from modelport.store.starts import Learned

NOTHING = Known()
CONTAINERS = ("process", "docker", "brev")
"""Where `docker run` is what starts an engine, or could be."""
JOB_ID = "JOB_ID"
CONTAINER_PORT = 8080
TEGRA = Path("/etc/nv_tegra_release")


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before anything is started."""

    facts: ModelFacts
    plan: Plan
    engine: str
    launch: Launch


def prepare(spec: Spec, known: Known = NOTHING) -> Prepared:
    """Look the model up, plan it on this machine and make the engine's command. Raises ModelportError at the first
    thing that is wrong; a plan that does not fit is not an error here (`must_fit`)."""
    facts, engine = _look_up(spec, known)
    if facts.format == "config":
        raise ModelportError(
            f"{spec.model!r} is a config.json alone, which can be planned and not started: name the weights' directory "
            "or Hub id.",
            param="model",
        )
    plan = _plan(facts, spec, engine, _here(spec, engine), known)
    launch = with_environment(engine.launch(facts, plan, spec), spec, known.workspace(spec))
    return Prepared(facts, plan, engine.name, launch)


def must_fit(prepared: Prepared) -> Prepared:
    """The same, or ModelportError with the plan's sentence, reasons and the changes that would help."""
    plan = prepared.plan
    if not plan.fits:
        words = [plan.sentence(), *plan.reasons, *(change.sentence for change in plan.changes)]
        raise ModelportError(" ".join(dict.fromkeys(words)), CANNOT_FIT, param="model")
    return prepared


def preview(spec: Spec, known: Known = NOTHING) -> PlanView:
    """The plan alone: on the accelerators the Spec names, be they here or not, else on this machine."""
    facts, engine = _look_up(spec, known, here=not spec.accelerators, only=True)
    if spec.accelerators:
        devices = planner.devices_of(planner.accelerators(spec.accelerators))
        known = replace(known, learned=Learned())  # it is of this machine, and those may be elsewhere
    else:
        devices = _here(spec, engine)
    return _view(spec, facts, engine, _plan(facts, spec, engine, devices, known), known)


def offers(spec: Spec, known: Known = NOTHING) -> list[PlanView]:
    """The plans on the cheapest accelerators to be had that fit, cheapest first."""
    spec = spec.model_copy(update={"accelerators": None})
    facts, engine = _look_up(spec, known, here=False)
    views: list[PlanView] = []
    modelled, version = _modelled(engine), engine.version()
    refusals: list[ModelportError] = []
    for plan in planner.offers(facts, spec, modelled, _prices(), version=version, draft=_draft(spec)):
        try:
            engine.check(facts, spec, plan.device)
        except ModelportError as error:
            refusals.append(error)
            continue
        on = f"{plan.offer.gpu}:{plan.offer.count}" if plan.offer else f"{plan.device.name}:{plan.devices}"
        views.append(_view(spec.model_copy(update={"accelerators": on}), facts, engine, plan, known))
    if refusals and not views:
        raise refusals[0]
    return views


def _look_up(spec: Spec, known: Known, here: bool = True, only: bool = False) -> tuple[ModelFacts, Engine]:
    """`only`: for a plan that nothing is started by."""
    there = (*platforms.PLATFORMS, *(platforms.PLANNED if only else ()))
    if spec.platform not in there:
        raise ModelportError(
            f"platform {spec.platform!r} is not known; there is {', '.join(there)}.{nearest(spec.platform, there)}",
            param="platform",
        )
    try:
        facts = catalog.resolve(spec.model, cloud_env(known.workspace(spec)))
    except ModelportError:
        if (blind := engines.unread(spec.engine, spec.model)) is None:
            raise
        facts = blind
    return facts, engines.choose(spec.engine, facts, here)


def _here(spec: Spec, engine: Engine) -> list[Device]:
    """The devices of this machine that a Spec may use. Raises ModelportError where it names some that are not here."""
    found = [device for device in planner.devices() if device.kind in engine.runs_on()]
    if not found:
        raise ModelportError(
            f"{engine.name} runs on GPUs, and this machine has none that can be used. `modelport plan --gpu "
            "NAME:COUNT` plans it for others; on the CPU llamacpp serves GGUF files.",
            CANNOT_FIT,
            param="engine",
        )
    if not spec.accelerators:
        return found
    wanted = planner.accelerators(spec.accelerators)
    same = [device for device in found if device.gpu and device.gpu.name == wanted.gpu.name]
    if len(same) < wanted.count:
        gpus = [device.name for device in planner.devices() if device.kind == "gpu"]
        raise ModelportError(
            f"{spec.name!r} asks for {wanted}, and this machine has {', '.join(gpus) or 'no GPU'}. Leave accelerators "
            f"out to use what is here; `modelport plan --gpu {wanted}` only plans.",
            CANNOT_FIT,
            param="accelerators",
        )
    return sorted(same, key=lambda device: device.free_bytes, reverse=True)[: wanted.count]


def _plan(facts: ModelFacts, spec: Spec, engine: Engine, devices: Sequence[Device], known: Known) -> Plan:
    for device in devices[:1]:  # they are of one kind, or the first is what it runs on
        try:
            engine.check(facts, spec, device)
        except ModelportError as error:
            # What the planner refuses too becomes a plan that says so, and which GPU or setting would do instead.
            planned = device.gpu and planner.refused(facts, spec, device.gpu, engine.name)
            if error.param == "quantization" or not planned:
                raise
    learned = known.learned
    correction = learned.corrections.get(engine.name, 1.0)
    ready = learned.ready_s.get((spec.model, engine.name))
    plan = planner.plan(
        facts,
        spec,
        devices,
        engine=_modelled(engine),
        version=engine.version(),
        correction=correction,
        ready=ready,
        prices=_prices(),
        draft=_draft(spec),
    )
    said = [facts.note] if facts.note else []
    if correction != 1.0:
        said.append(
            f"Memory beside weights and cache is multiplied by {correction:.2f}: what earlier starts of {engine.name} "
            "on this machine took, over what was planned."
        )
    if ready and plan.ready_s == ready:
        said.append("The time to ready is that of earlier starts of this model here.")
    return replace(plan, reasons=(*plan.reasons, *said))


def _modelled(engine: Engine) -> str:
    """The engine whose way with memory the planner knows: TAO's containers are taken to be like our own runtime, any
    other like llama.cpp, which takes what it asks for when it asks."""
    if engine.name in (*WAYS, "llamacpp"):
        return engine.name
    return "modelport" if engine.name in ("modelport", *engines.NAMED) else "llamacpp"


def _prices() -> tuple[planner.Price, ...]:
    """What is known of prices, the user's own first."""
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return planner.prices(configuration / "modelport" / "prices.yaml")


def _draft(spec: Spec) -> ModelFacts | None:
    """The draft model, which stands on every GPU beside the model itself. Raises ModelportError."""
    if spec.speculative is None or not spec.speculative.model:
        return None
    try:
        return catalog.resolve(spec.speculative.model)
    except ModelportError as error:
        raise ModelportError(f"The draft model: {error.message}", error.kind, param="speculative") from None


def _view(spec: Spec, facts: ModelFacts, engine: Engine, plan: Plan, known: Known) -> PlanView:
    launch, why = _launch(spec, facts, engine, plan, known)
    return PlanView(
        model=spec.model,
        engine=engine.name,
        device=plan.device.name,
        fits=plan.fits,
        verdict=plan.verdict,
        sentence=plan.sentence(),
        reasons=(*plan.reasons, *(launch.notes if launch else ())),
        accelerators=spec.accelerators or "",
        devices=plan.devices,
        split=plan.split,
        parts={part.name: part.bytes for part in plan.parts},
        intervals=plan.parts,
        need_bytes=plan.need_bytes,
        high_bytes=plan.high_bytes,
        free_bytes=plan.device.free_bytes,
        budget_bytes=plan.room_bytes,
        context_tokens=plan.context_tokens,
        parallel=plan.parallel,
        kv_tokens=plan.kv_tokens,
        max_context=plan.max_context,
        max_parallel=plan.max_parallel,
        changes=plan.changes,
        quantization=plan.quantization,
        memory_fraction=plan.memory_fraction,
        offer=plan.offer,
        ready_s=plan.ready_s,
        extrapolated=plan.extrapolated,
        argv=launch.argv if launch else (),
        env=tuple(sorted([*launch.env, *launch.secret_env])) if launch else (),
        container=_container(launch, facts, plan, spec) if launch else (),
        image=launch.image if launch else "",
        installed=engine.installed(),
        unlaunchable=why,
    )


def _container(launch: Launch, facts: ModelFacts, plan: Plan, spec: Spec) -> tuple[str, ...]:
    """The `docker run` that would start it; its name stands for the service's id, which is not given yet."""
    if spec.platform not in CONTAINERS or not (launch.image and launch.container_argv):
        return ()
    port = spec.port if isinstance(spec.port, int) else CONTAINER_PORT
    bound = launch.bind(Labels(JOB_ID, "", ""), "", port, 0)
    return docker_run(
        bound,
        JOB_ID,
        port,
        gpus=plan.split.gpus if plan.device.kind == "gpu" else 1,
        network=network_of(os.environ),
        mounts=(Mount(facts.path, facts.path),) if Path(facts.path).exists() else (),
        tegra=TEGRA.exists(),
    )


def _launch(spec: Spec, facts: ModelFacts, engine: Engine, plan: Plan, known: Known) -> tuple[Launch | None, str]:
    """The engine's command, or why there is none: it is not installed here, or its weights are not."""
    try:
        return with_environment(engine.launch(facts, plan, spec), spec, known.workspace(spec)), ""
    except ModelportError as error:
        elsewhere = facts.format == "config" or (facts.format == "gguf" and facts.download_bytes)
        if engine.installed() and plan.fits and not elsewhere:
            raise
        return None, error.message
