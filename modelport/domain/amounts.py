"""Amounts: what a request takes, in every unit the ledger knows. Integers throughout, so that sums are exact."""

import math
from collections.abc import Callable
from typing import Literal

import msgspec

Unit = Literal[
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "audio_seconds",
    "characters",
    "images",
    "gpu_seconds",
    "money",
]
SCALE: dict[Unit, int] = {"audio_seconds": 1000, "gpu_seconds": 1000, "money": 10**9}
"""How many steps one unit is counted in where it is not one: milliseconds, and billionths of the price's currency."""


class Amounts(msgspec.Struct, array_like=True):
    """One request's use or bound. `cached_tokens` are part of the input, `reasoning_tokens` part of the output."""

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    audio_ms: int = 0
    characters: int = 0
    images: int = 0
    gpu_ms: int = 0
    money_nano: int = 0


OF: dict[Unit, Callable[[Amounts], int]] = {
    "requests": lambda a: a.requests,
    "tokens": lambda a: a.input_tokens + a.output_tokens,
    "input_tokens": lambda a: a.input_tokens,
    "output_tokens": lambda a: a.output_tokens,
    "cached_tokens": lambda a: a.cached_tokens,
    "reasoning_tokens": lambda a: a.reasoning_tokens,
    "audio_seconds": lambda a: a.audio_ms,
    "characters": lambda a: a.characters,
    "images": lambda a: a.images,
    "gpu_seconds": lambda a: a.gpu_ms,
    "money": lambda a: a.money_nano,
}
"""How many steps of a unit a request takes."""


def steps(unit: Unit, value: float) -> int:
    """A value in natural terms (dollars, seconds, tokens) as steps, rounded down: a cap never grows by rounding."""
    return math.floor(round(value * SCALE.get(unit, 1), 3))


def natural(unit: Unit, count: int) -> float:
    """Steps in natural terms again."""
    scale = SCALE.get(unit, 1)
    return count if scale == 1 else count / scale
