"""Sampling: how the next token is chosen and when to end. Keys, defaults and ranges are nvidia-tao-core's; what is
out of range is refused, never clamped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from modelport.errors import ModelportError


@dataclass(frozen=True, slots=True)
class Number:
    low: float
    high: float
    default: float | None
    whole: bool = False


NUMBERS = {
    "max_new_tokens": Number(1, 32_768, None, whole=True),
    "temperature": Number(0, 2, 0.7),
    "top_p": Number(0, 1, 0.9),
    "top_k": Number(1, 1000, 50, whole=True),
    "min_p": Number(0, 1, None),
    "repetition_penalty": Number(0.1, 10, 1.0),
    "seed": Number(-(2**63), 2**63 - 1, None, whole=True),
}
"""OpenAI's range of seeds is that of 64 bits; below 0.1 and above 10 a repetition penalty leaves only noise."""
DEFAULT_NEW_TOKENS = 512
NOT_DONE: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "num_beams": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "length_penalty": (1, 0),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
}
"""What clients may send that is not done here, and the values that ask for nothing."""
MOST_STOPS = 16
MOST_STOP_CHARS = 256


@dataclass(frozen=True, slots=True)
class Sampling:
    max_new_tokens: int | None
    """None: the default, or less where the context is short."""
    temperature: float
    top_p: float
    top_k: int
    min_p: float | None
    repetition_penalty: float
    do_sample: bool
    seed: int | None
    stop: tuple[str, ...]

    @property
    def together(self) -> object:
        """Requests with an equal value may be one batch; None may not be in any: a seed is for one request's draws, and
        a penalty would count the padding of a batch as said before."""
        if (self.do_sample and self.seed is not None) or self.repetition_penalty != 1:
            return None
        drawn = (self.temperature, self.top_p, self.top_k, self.min_p) if self.do_sample else ()
        return drawn


def read(body: Mapping[str, Any]) -> Sampling:
    """Raises ModelportError (400) that names the key, its value and its range."""
    for key, neutral in NOT_DONE.items():
        value = body.get(key)
        if value is not None and not any(value == each and type(value) in _types(each) for each in neutral):
            raise ModelportError(f"`{key}` is not supported by this model's server. Leave it out.", param=key)
    found = {key: _number(body, key, number) for key, number in NUMBERS.items()}
    temperature = cast(float, found["temperature"])
    asked = body.get("do_sample")
    if asked is not None and not isinstance(asked, bool):
        raise ModelportError(f"`do_sample` is true or false, not {asked!r}.", param="do_sample")
    if asked and not temperature:
        raise ModelportError("`do_sample` is true and `temperature` is 0, which never samples.", param="do_sample")
    do_sample = temperature > 0 if asked is None else asked
    return Sampling(**{**found, "do_sample": do_sample, "stop": _stops(body.get("stop"))})  # pyright: ignore[reportArgumentType]


def _number(body: Mapping[str, Any], key: str, number: Number) -> float | int | None:
    value = body.get(key)
    if value is None:
        return int(number.default) if number.whole and number.default is not None else number.default
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if fits and number.whole and isinstance(value, float):
        fits = value.is_integer()
    if not fits or not number.low <= value <= number.high:
        kind = "a whole number" if number.whole else "a number"
        raise ModelportError(
            f"`{key}` must be {kind} from {number.low:,g} to {number.high:,g}, not {_shown(value)}.", param=key
        )
    return int(value) if number.whole else float(value)


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    fits = isinstance(given, list) and all(isinstance(each, str) for each in cast(list[object], given))
    stops = cast(list[str], given) if fits else []
    if not fits or len(stops) > MOST_STOPS or not all(0 < len(stop) <= MOST_STOP_CHARS for stop in stops):
        raise ModelportError(
            f"`stop` must be a text or a list of up to {MOST_STOPS}, each of 1 to {MOST_STOP_CHARS} characters.",
            param="stop",
        )
    return tuple(stops)


def _types(neutral: object) -> tuple[type, ...]:
    """1 and 1.0 ask for the same, True does not."""
    return (int, float) if isinstance(neutral, int) and not isinstance(neutral, bool) else (type(neutral),)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
