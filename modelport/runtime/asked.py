"""Asked: the settings of one request, checked. Forms send numbers as text, so text of a number is one."""

import math
from collections.abc import Mapping
from typing import Any

from modelport.errors import ModelportError


def number(body: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    """The number below `key`. Raises ModelportError outside of `low` to `high`."""
    value = _value(body, key, default)
    if not low <= value <= high:
        raise _refused(body, key, f"a number from {low:g} to {high:g}")
    return value


def whole(body: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """The whole number below `key`. Raises ModelportError outside of `low` to `high`."""
    value = _value(body, key, default)
    if not low <= value <= high or value != int(value):
        raise _refused(body, key, f"a whole number from {low} to {high}")
    return int(value)


def flag(body: Mapping[str, Any], key: str) -> bool:
    """Whether `key` is set. Raises ModelportError for what is neither true nor false."""
    value = body.get(key)
    known = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}
    found = known.get(str(value).lower())
    if found is None:
        raise _refused(body, key, "true or false")
    return found


def _value(body: Mapping[str, Any], key: str, default: float) -> float:
    """The number as it was given; NaN, which no range holds, for what is none."""
    value = body.get(key)
    if value is None or value == "":
        return default
    try:
        return float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _refused(body: Mapping[str, Any], key: str, wanted: str) -> ModelportError:
    return ModelportError(f"{key} is {_shown(body[key])}, where {wanted} is wanted.", param=key)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
