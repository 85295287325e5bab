"""Programs that serve a model. Each engine is one file and one line of the table."""

from importlib import import_module
from typing import Protocol, cast

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import Launch
from modelport.domain.plan import Plan
from modelport.domain.spec import Spec
from modelport.errors import ModelportError, nearest

ENGINES: dict[str, str] = {
    "llamacpp": "modelport.engines.llamacpp:LlamaCpp",
}
"""Name to `module:class`, in the order in which auto asks them; imported when first used."""


class Engine(Protocol):
    """Turns a Plan into a Launch. Starts nothing."""

    name: str

    def supports(self, facts: ModelFacts) -> str:
        """Empty when it can serve this model; otherwise the sentence why not."""
        ...

    def installed(self) -> str:
        """What of it this machine has, in words; empty when nothing."""
        ...

    def runs_on(self) -> frozenset[str]:
        """The kinds of device it can use here: `cpu`, `gpu`."""
        ...

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        """The process to be. Raises ModelportError when what it needs is not installed."""
        ...


def load(name: str) -> Engine:
    """The engine of that name. Raises ModelportError for an unknown one."""
    if name not in ENGINES:
        raise ModelportError(
            f"engine {name!r} is not known; there is {', '.join(ENGINES)}.{nearest(name, ENGINES)}", param="engine"
        )
    module, _, attribute = ENGINES[name].partition(":")
    return cast(Engine, getattr(import_module(module), attribute)())


def choose(wanted: str, facts: ModelFacts) -> Engine:
    """The engine a Spec names, or for `auto` the first of the table that can serve the model.

    Raises ModelportError with each engine's own sentence when none can.
    """
    engines = [load(name) for name in (ENGINES if wanted == "auto" else [wanted])]
    refusals = [(engine, engine.supports(facts)) for engine in engines]
    for engine, refusal in refusals:
        if not refusal:
            return engine
    raise ModelportError(" ".join(refusal for _, refusal in refusals), param="engine")
