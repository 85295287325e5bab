"""Durations and sizes as people write them, to and from plain numbers."""

import re
from typing import Annotated

from pydantic import BeforeValidator

from modelport.errors import ModelportError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def seconds(value: object) -> float:
    """`3s`, `1.5h`, `30m`, `0` or a plain number of seconds, as seconds. Raises ModelportError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e10:
        return float(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip().lower())):
        found = float(match[1]) * _SECONDS[match[2] or "s"]
        if found < 1e10:
            return found
    raise ModelportError(f"{value!r} is not a duration: write seconds, or a number with ms, s, m, h or d, like 30m.")


def _duration(value: object) -> float:
    try:
        return seconds(value)
    except ModelportError as error:
        raise ValueError(error.message) from None


Duration = Annotated[float, BeforeValidator(_duration)]
"""A field in seconds that also takes `30m`."""


def show_seconds(value: float) -> str:
    """Seconds as a person would say them: `0.8 s`, `12 s`, `3 min`, `2.5 h`."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def show_bytes(value: float) -> str:
    """Bytes in binary units with one decimal: `92.1 MiB`, `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
