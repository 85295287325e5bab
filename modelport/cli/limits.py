"""Options that limit a key or a team: a field of Limits to its option."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer


def _option(kind: Any, help: str, *names: str) -> Any:
    return Annotated[kind | None, typer.Option(*names, help=help, show_default=False)]


LIMITS: dict[str, Any] = {
    "requests_per_minute": _option(int, "Requests in any 60 seconds.", "--rpm"),
    "tokens_per_minute": _option(int, "Tokens in any 60 seconds, in and out.", "--tpm"),
    "in_flight": _option(int, "Requests at work at once.", "--in-flight"),
    "max_tokens": _option(int, "The largest output that may be asked for.", "--max-tokens"),
    "default_max_tokens": _option(int, "Output of requests that give no maximum.", "--default-max-tokens"),
    "max_input_bytes": _option(int, "The largest request body.", "--max-input-bytes"),
    "deadline": _option(str, "How long a request may take, its wait included: 90s, 5m.", "--deadline"),
    "priority": _option(int, "From -10 to 10; the higher are taken first by a full service.", "--priority"),
    "weight": _option(float, "Share of a full service beside others of the same priority; 1 by default.", "--weight"),
}


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of LIMITS: what of them was given comes as its parameter `limits`."""

    def run(**flags: Any) -> None:
        limits = {name: value for name in LIMITS if (value := flags.pop(name)) is not None}
        command(limits=limits, **flags)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "limits"]
    given = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in LIMITS.items()]
    last = [p for p in own if p.name in ("json", "state_dir", "config")]
    parameters = [p.replace(kind=keyword) for p in own if p not in last] + given
    parameters += [p.replace(kind=keyword) for p in last]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def shown(limits: Any) -> str:
    """The limits that are set, by their options' names: `rpm 60, in-flight 4`."""
    given = limits.model_dump(mode="json", exclude_defaults=True)
    names = {"requests_per_minute": "rpm", "tokens_per_minute": "tpm"}
    return ", ".join(f"{names.get(name, name.replace('_', '-'))} {value}" for name, value in given.items()) or "-"
