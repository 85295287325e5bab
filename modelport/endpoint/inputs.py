"""Inputs: the environment's variables as a table, and the Spec that they make.

The names and defaults are those of tails-mpt/inference-endpoint (.slipstream/schema.toml and src/launch.py), so that
its jobs run as they are. Values are stripped; empty is not given.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelport.domain.spec import Spec, name_from, parse_spec
from modelport.errors import ModelportError

DTYPES = ("auto", "bfloat16", "float16", "float32")
METHODS = {
    "eagle": "eagle",
    "eagle3": "eagle3",
    "ngram": "ngram",
    "mtp": "mtp",
    "nextn": "mtp",
    "draft": "draft",
    "draft_model": "draft",
    "standalone": "draft",
}
"""How vLLM and SGLang call ways to draft, in lower case, to what a Spec calls them."""
DRAFTLESS = ("ngram", "mtp")


def _text(value: str) -> str:
    return value


def _lower(value: str) -> str:
    return value.lower()


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise ValueError(f"it must be a whole number from {low:,} to {high:,}")
        return int(value)

    return parse


def _fraction(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if not 0 < found <= 1:
        raise ValueError("it must be a share of the GPU's memory: above 0, at most 1, like 0.85")
    return found


def _seconds(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if not 0 < found <= 7 * 86400:
        raise ValueError("it must be seconds: above 0, at most 604,800 (a week), like 2400")
    return found


def _dtype(value: str) -> str:
    if value.lower() not in DTYPES:
        raise ValueError(f"it can be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    return value.lower()


def _method(value: str) -> str:
    if value.lower() not in METHODS:
        raise ValueError(f"it can be {', '.join(METHODS)}, in upper or lower case")
    return METHODS[value.lower()]


@dataclass(frozen=True, slots=True)
class Input:
    """One variable: `field` is where it goes in a Spec, empty for what is not a Spec's."""

    name: str
    default: str
    field: str
    parse: Callable[[str], Any]
    what: str


INPUTS: tuple[Input, ...] = (
    Input("TARGET_MODEL", "", "model", _text, "the model: a Hub id, an alias, a file, a directory, a cloud URI"),
    Input("ACCELERATORS", "", "accelerators", _text, "NAME:COUNT, like A100:8; empty is what is here"),
    Input("ENGINE", "sglang", "engine", _lower, "sglang, vllm, tgi or llamacpp"),
    Input("SERVED_MODEL_NAME", "", "name", _text, "what clients call it; by default the model's last part"),
    Input("PORT", "8000", "", _whole(0, 65535), "where it listens; 0 is any free port"),
    Input("MAX_MODEL_LEN", "", "context", _whole(64, 1 << 31), "tokens one request may use"),
    Input("DTYPE", "", "dtype", _dtype, "what it computes in"),
    Input("QUANTIZATION", "", "quantization", _lower, "what weights are quantized to as they are loaded"),
    Input("MEM_FRACTION", "0.85", "memory_fraction", _fraction, "the share of each GPU's memory to use"),
    Input("HEALTH_TIMEOUT", "2400", "", _seconds, "seconds until it must be ready"),
    Input("HF_TOKEN", "", "", _text, "the Hub's token; HUGGING_FACE_HUB_TOKEN where it is empty"),
    Input("SPEC_ENABLED", "false", "", _lower, "true turns speculative decoding on"),
    Input("SPEC_DRAFT_MODEL", "", "", _text, "the draft model of it"),
    Input("SPEC_METHOD", "eagle3", "", _method, "eagle3, eagle, ngram, mtp or draft"),
    Input("SPEC_NUM_TOKENS", "3", "", _whole(1, 32), "tokens drafted per step"),
    Input("HOST", "0.0.0.0", "", _text, "the address it listens on"),  # noqa: S104 - the default of these jobs
)
WHERE = "the environment"
SECRET = ("HF_TOKEN",)
NAMES = {input.field: input.name for input in INPUTS if input.field} | {
    "speculative": "SPEC_ENABLED",
    "port": "PORT",
    "host": "HOST",
}
"""A Spec's field to the variable that a user knows it by."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the environment asks for."""

    spec: Spec
    host: str
    port: int
    health_timeout_s: float
    given: Mapping[str, str]
    """The variables that are set, stripped; never the token."""
    notes: tuple[str, ...]
    """What should be known of how they were read."""


def spec_from(environ: Mapping[str, str]) -> Wanted:
    """The Spec that an environment describes. Raises ModelportError with one sentence that names the variable."""
    given = {input.name: text for input in INPUTS if (text := environ.get(input.name, "").strip())}
    if "TARGET_MODEL" not in given:
        raise ModelportError("TARGET_MODEL is required: set it to a Hub id, an alias, a file or a directory.")
    drafting = given.get("SPEC_ENABLED", "").lower() == "true"
    values = {input.name: _value(input, given) for input in INPUTS if drafting or not input.name.startswith("SPEC_")}
    fields = {input.field: values[input.name] for input in INPUTS if input.field and values.get(input.name)}
    asked = str(values["SERVED_MODEL_NAME"] or given["TARGET_MODEL"].rstrip("/").rsplit("/", 1)[-1])
    fields |= {"name": name_from(asked), "served_name": asked, "idle_timeout": 0}
    if drafting:
        fields["speculative"] = _speculative(values)
    try:
        spec = parse_spec(fields, WHERE)
    except ModelportError as error:
        raise named(error, given) from None
    notes = [note for note, holds in _notes(given, environ, spec, asked).items() if holds]
    public = {name: text for name, text in given.items() if name not in SECRET}
    return Wanted(spec, values["HOST"], values["PORT"], values["HEALTH_TIMEOUT"], public, tuple(notes))


def token(environ: Mapping[str, str]) -> str:
    """The Hub's token, which is never part of what `spec_from` gives."""
    return environ.get("HF_TOKEN", "").strip() or environ.get("HUGGING_FACE_HUB_TOKEN", "").strip()


def named(error: ModelportError, given: Mapping[str, str]) -> ModelportError:
    """The error with the variable and its value in front, where it is about one that was given."""
    name = NAMES.get(error.param or "", "")
    if name not in given or name in error.message:
        return error
    own = error.message.replace(f"{WHERE}: {error.param} is ", f"{name} is ", 1)  # as a Spec says what is wrong in it
    message = own if own != error.message else f"{name}={given[name][:80]}: {own}"
    return ModelportError(message, error.kind, param=error.param)


def _value(input: Input, given: Mapping[str, str]) -> Any:
    text = given.get(input.name, input.default)
    if not text:
        return ""
    try:
        return input.parse(text)
    except ValueError as error:
        raise ModelportError(f"{input.name} is {text[:80]!r}, but {error}.", param=input.field or None) from None


def _speculative(values: Mapping[str, Any]) -> dict[str, Any]:
    method, model = values["SPEC_METHOD"], values["SPEC_DRAFT_MODEL"]
    if not model and method not in DRAFTLESS:
        raise ModelportError(
            "SPEC_ENABLED=true but SPEC_DRAFT_MODEL is empty: set it to the draft model, or SPEC_METHOD to "
            f"{' or '.join(DRAFTLESS)}, which need none."
        )
    return {"method": method, "model": model, "tokens": values["SPEC_NUM_TOKENS"]}


def _notes(given: Mapping[str, str], environ: Mapping[str, str], spec: Spec, asked: str) -> dict[str, bool]:
    enabled = given.get("SPEC_ENABLED", "")
    return {
        "ACCELERATORS is not set: the devices of this machine are used.": "ACCELERATORS" not in given,
        "HF_TOKEN is not set: gated and private models cannot be read.": not token(environ),
        f"The service is called {spec.name}; clients may use {asked} too.": spec.name != asked,
        f"SPEC_ENABLED is {enabled[:40]!r}, not true: no speculative decoding.": enabled.lower()
        not in ("", "true", "false"),
    }
