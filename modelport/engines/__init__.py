"""Programs that serve a model. Each engine is one file and one line of the table."""

from importlib import import_module
from typing import Protocol, cast

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec
from modelport.errors import ModelportError, nearest

ENGINES: dict[str, str] = {
    "llamacpp": "modelport.engines.llamacpp:LlamaCpp",
    "vllm": "modelport.engines.vllm:Vllm",
    "sglang": "modelport.engines.sglang:SGLang",
    "tgi": "modelport.engines.tgi:Tgi",
    "modelport": "modelport.engines.modelport:Modelport",
}
"""Name to `module:class`, in the order in which auto asks them; imported when first used."""

NAMED: dict[str, str] = {
    "cosmos-rl": "modelport.engines.cosmos_rl:CosmosRl",
    "cosmos-predict2.5": "modelport.engines.cosmos_predict:CosmosPredict",
    "tao-dataservices": "modelport.engines.tao_dataservices:TaoDataservices",
}
"""Those that run only where a Spec names them: TAO's containers (tao_container.py), which can also `unread`."""


class Engine(Protocol):
    """Turns a Plan into a Launch. Starts nothing."""

    name: str

    def supports(self, facts: ModelFacts) -> str:
        """Empty when it can serve this model; otherwise the sentence why not."""
        ...

    def installed(self) -> str:
        """What of it this machine has, in words; empty when nothing."""
        ...

    def version(self) -> str:
        """Which version of it that is, as a release; empty where that is not known."""
        ...

    def runs_on(self) -> frozenset[str]:
        """The kinds of device it can use here: `cpu`, `gpu`."""
        ...

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        """What it decides by itself about this Spec, one sentence each (also in Launch.notes).

        Raises ModelportError for what the engine, in the version that is installed, cannot do with this model on this
        device: a quantization, a way of speculative decoding, an argument of engine_args that would undo ours.
        """
        ...

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        """The process to be. Raises ModelportError as `check` does, and when the engine is not installed; a Spec that
        names `accelerators` gets its command all the same, for the newest version that can do it."""
        ...

    def measured(self, lines: list[str]) -> Measured | None:
        """What its output says about memory; None where that is nothing."""
        ...


class Reader(Protocol):
    """What members of NAMED can besides."""

    def unread(self, model: str) -> ModelFacts | None: ...


def load(name: str) -> Engine:
    """The engine of that name. Raises ModelportError for an unknown one."""
    known = {**ENGINES, **NAMED}
    if name not in known:
        raise ModelportError(
            f"engine {name!r} is not known; there is {', '.join(known)}.{nearest(name, known)}", param="engine"
        )
    module, _, attribute = known[name].partition(":")
    return cast(Engine, getattr(import_module(module), attribute)())


def unread(name: str, model: str) -> ModelFacts | None:
    """What the engine of that name knows of a model whose files the catalog cannot read; None for one that reads no
    others. Raises ModelportError for a model that is nowhere."""
    return cast(Reader, load(name)).unread(model) if name in NAMED else None


def choose(wanted: str, facts: ModelFacts, here: bool = True) -> Engine:
    """The engine a Spec names, or for `auto` the first of the table that can serve the model.

    `here`: prefer one that is installed on this machine; False for a plan that is not for this machine. Where none of
    them is installed it is the first all the same, and its `launch` says what to install.
    Raises ModelportError with each engine's own sentence when none can serve it.
    """
    engines = [load(name) for name in (ENGINES if wanted == "auto" else [wanted])]
    refusals = [(engine, engine.supports(facts)) for engine in engines]
    able = [engine for engine, refusal in refusals if not refusal]
    if able:
        return next((engine for engine in able if here and engine.installed()), able[0])
    raise ModelportError(" ".join(refusal for _, refusal in refusals), param="engine")
