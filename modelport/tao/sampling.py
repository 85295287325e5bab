"""Sampling: what may be asked of each architecture's answers, with type, default and range.

Numbers are those of the skill's request.yaml. A value is taken as it is given or refused, never moved into its range; a
default is used only where somebody chose it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modelport.errors import ModelportError

Value = int | float | str


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: Literal["int", "float", "text"]
    default: Value | None
    """None where the service has one of its own, which it takes when it is told nothing."""
    low: float | None = None
    high: float | None = None
    means: str = ""

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def shown_default(self) -> str:
        return "the service's own" if self.default is None else str(self.default)

    def read(self, given: object) -> Value:
        """A value of its type and within its range. Raises ModelportError for any other."""
        try:
            value = self._typed(given)
        except ValueError:
            kind = {"int": "a whole number", "float": "a number", "text": "a text"}[self.type]
            raise ModelportError(f"{self.name} is {str(given)[:80]!r}, but it is {kind}.", param=self.name) from None
        low, high = self.low, self.high
        if not isinstance(value, str) and ((low is not None and value < low) or (high is not None and value > high)):
            limits = f"from {low:g} to {high:,.10g}" if high is not None else f"at least {low:g}"
            raise ModelportError(f"{self.name} is {value:g}, but it is {limits}.", param=self.name)
        return value

    def _typed(self, given: object) -> Value:
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise ValueError
        if self.type == "text":
            if not isinstance(given, str):
                raise ValueError
            return given
        if self.type == "int":
            if isinstance(given, float):
                raise ValueError
            return int(given)
        value = float(given)
        if not math.isfinite(value):
            raise ValueError
        return value


_MOST = 2**31 - 1
"""What servers can count to."""
_TOP_P = Parameter("top_p", "float", 0.8, 0.0, 1.0, means="share of probability sampled from")
PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "cosmos-rl": (
        Parameter("max_tokens", "int", 1024, low=1, high=_MOST, means="longest answer"),
        _TOP_P,
        Parameter("temperature", "float", 0.7, 0.0, 2.0, means="how freely"),
    ),
    "cosmos-predict2.5": (
        Parameter("max_tokens", "int", 77, low=1, high=_MOST, means="frames of the video"),
        Parameter("guidance", "int", 7, 0, 7, means="how closely the prompt is followed"),
        Parameter("num_steps", "int", 35, low=1, high=_MOST, means="steps of diffusion"),
        Parameter("seed", "int", 0, means="the same seed, the same video"),
        Parameter("negative_prompt", "text", None, means="what must not be seen"),
    ),
    "tao-dataservices": (
        Parameter("max_tokens", "int", 1024, low=1, high=_MOST, means="longest answer"),
        _TOP_P,
        Parameter("temperature", "float", 0.7, low=0.0, means="how freely"),
    ),
}
ONLY = {
    "cosmos-predict2.5": ("guidance", "num_steps", "seed", "negative_prompt", "inference_type"),
}
"""Fields of a body that are one architecture's alone."""
UNSUPPORTED = {"cosmos-predict2.5": ("top_p", "temperature")}


def names() -> list[str]:
    """Of all architectures, each once."""
    return list(dict.fromkeys(parameter.name for table in PARAMETERS.values() for parameter in table))


def read(arch: str, given: Mapping[str, object]) -> dict[str, Value]:
    """The values that were given, checked. Raises ModelportError for one that this architecture does not have."""
    table = {parameter.name: parameter for parameter in PARAMETERS[arch]}
    if strange := next((name for name in given if name not in table), None):
        raise ModelportError(f"{arch} has no {strange}; it has {', '.join(table)}.", param=strange)
    return {name: table[name].read(value) for name, value in given.items()}


def missing(arch: str, given: Mapping[str, Any]) -> list[Parameter]:
    """What nobody has decided yet."""
    return [parameter for parameter in PARAMETERS[arch] if parameter.name not in given]


def defaults(parameters: list[Parameter]) -> dict[str, Value]:
    """Their defaults; those the service keeps to itself stay out."""
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not None}


def undecided(arch: str, parameters: list[Parameter]) -> ModelportError:
    """The sentence for a request that nobody can be asked about."""
    options = ", ".join(
        f"{parameter.option} ({parameter.type}, default {parameter.shown_default})" for parameter in parameters
    )
    return ModelportError(
        f"For {arch} it is not decided yet: {options}. Give them, or --defaults to take the defaults of what is not "
        "given.",
        param=parameters[0].name,
    )
