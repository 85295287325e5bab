"""Caps: how large one request may be and how long it may take. The tightest of key, team and service holds."""

import re
from collections.abc import Iterable

from modelport.domain.limits import Limits
from modelport.errors import TOO_LARGE, ModelportError

DEADLINE_HEADER = b"x-modelport-deadline-ms"
_MILLISECONDS = re.compile(rb"[1-9][0-9]{0,9}")


def check_body(size: int, limits: Iterable[Limits]) -> None:
    """Raises ModelportError (413) for a body of more bytes than one of the limits allows."""
    for each in limits:
        if each.max_input_bytes is not None and size > each.max_input_bytes:
            raise ModelportError(
                f"The request's body has {size} bytes, more than the {each.max_input_bytes} that are allowed here.",
                TOO_LARGE,
            )


def cap_output(requested: int | None, n: int, limits: Iterable[Limits]) -> int | None:
    """The `max_tokens` a request is to have: its own, or else the tightest default, or else the cap; None where there
    is neither. `n` is how many answers it asks for (the larger of `n` and `best_of`, times the prompts): the cap is on
    all of them together. Raises ModelportError (400) for one that asks for more."""
    cap: int | None = None
    default: int | None = None
    for each in limits:
        if each.max_tokens is not None and (cap is None or each.max_tokens < cap):
            cap = each.max_tokens
        if each.default_max_tokens is not None and (default is None or each.default_max_tokens < default):
            default = each.default_max_tokens
    if cap is None and default is None:
        return requested
    if requested is not None and requested < 0:  # which llama.cpp takes for "no end"
        raise ModelportError(f"max_tokens is {requested}; it must not be negative.", param="max_tokens")
    if cap is None:
        return default if requested is None else requested
    if requested is None:
        requested = max(1, cap // n) if default is None else min(default, max(1, cap // n))
    if requested * n > cap:
        asked = f"{requested} tokens" if n == 1 else f"{n} answers of {requested} tokens each"
        raise ModelportError(
            f"This request asks for {asked}; at most {cap} tokens in all may be asked for here.", param="max_tokens"
        )
    return requested


def deadline_s(header: bytes | None, limits: Iterable[Limits]) -> float | None:
    """Seconds the request may take in all: the tightest of the limits' and the client's own wish, which comes in
    `x-modelport-deadline-ms`. Raises ModelportError (400) for one that is no number of milliseconds."""
    tightest: float | None = None
    if header is not None:
        if _MILLISECONDS.fullmatch(header) is None:
            raise ModelportError("The header x-modelport-deadline-ms must be a whole number of milliseconds above 0.")
        tightest = int(header) / 1000
    for each in limits:
        if each.deadline is not None and (tightest is None or each.deadline < tightest):
            tightest = each.deadline
    return tightest
