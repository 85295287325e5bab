"""Options that several commands take, and the settings and Specs they make."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modelport.domain.spec import Spec
    from modelport.settings import Settings

M = TypeVar("M", bound="BaseModel")
StateDir = Annotated[Path | None, typer.Option(help="Where the store, keys and logs are.", show_default=False)]
Config = Annotated[Path | None, typer.Option(help="The modelport.yaml to use.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ServiceName = Annotated[str, typer.Argument(help="A service's name or id.", show_default=False)]

MODEL_HELP = "An alias (smollm2), a Hub id (org/name), a GGUF file, a directory, or a cloud URI."
Model = Annotated[str, typer.Argument(help=MODEL_HELP, show_default=False)]
Name = Annotated[str, typer.Option(help="Name of the service; made from the model's by default.", show_default=False)]


def _option(kind: Any, help: str, *names: str, **more: Any) -> Any:
    return Annotated[kind | None, typer.Option(*names, help=help, show_default=False, **more)]


SPEC: dict[str, Any] = {
    "engine": _option(str, "Engine, or auto."),
    "task": _option(str, "generate, embed, classify or detect; by default what the model is for."),
    "context": _option(int, "Tokens one request may use.", "--context", "--max-model-len"),
    "parallel": _option(int, "Requests one replica works on at once.", "--parallel", "--concurrency"),
    "accelerators": _option(str, "NAME:COUNT, like H100:4; by default what is here.", "--gpu", "--accelerators"),
    "quantization": _option(str, "Quantize weights as they are loaded: fp8, int8wo, int4wo-128, bitsandbytes."),
    "dtype": _option(str, "Compute in: auto, bfloat16, float16, float32."),
    "kv_cache_dtype": _option(str, "Keep keys and values in: auto, fp8, fp8_e4m3, fp8_e5m2."),
    "memory_fraction": _option(float, "The share of each GPU's memory to use: above 0, up to 1."),
    "tensor_parallel": _option(int, "GPUs that share every layer.", "--tensor-parallel", "--tp"),
    "pipeline_parallel": _option(int, "GPUs that take the layers in turns.", "--pipeline-parallel", "--pp"),
    "data_parallel": _option(int, "Copies of the model behind one engine.", "--data-parallel", "--dp"),
    "expert_parallel": _option(int, "GPUs that share out whole experts.", "--expert-parallel", "--ep"),
    "max_batched_tokens": _option(int, "Tokens of one step of the engine."),
    "eager": _option(bool, "No CUDA graphs.", "--eager"),
    "speculative_method": _option(str, "Speculative decoding: eagle, eagle3, ngram, mtp, draft."),
    "speculative_model": _option(str, "The draft model of it."),
    "speculative_tokens": _option(int, "Tokens drafted per step."),
    "options": _option(list[str], "KEY=VALUE for the model's handler in our own runtime; repeat it.", "--option"),
    "env": _option(list[str], "NAME=VALUE for the engine; of secrets only NAME=env:NAME or file:/path.", "--env"),
    "workspace": _option(str, "The workspace whose bucket and credentials are used."),
    "engine_args": _option(list[str], "One more argument for the engine, as it is; repeat it.", "--engine-arg"),
}
"""What a model's run can be told on the command line: a Spec's field to its option."""


def spec_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of SPEC: what of them was given comes as its parameter `wanted`, for `spec`."""

    def run(**flags: Any) -> None:
        wanted = {name: flags.pop(name) for name in SPEC}
        command(
            wanted={
                name: value
                for name, value in wanted.items()
                if value is not None and value is not False and value != []
            },
            **flags,
        )

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "wanted"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    given = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in SPEC.items()]
    parameters = [*(p.replace(kind=keyword) for p in own[:1]), *given, *(p.replace(kind=keyword) for p in own[1:])]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def settings(config: Path | None = None, **flags: Any) -> "Settings":
    """The settings in force, flags first."""
    from modelport.settings import load

    return load(flags, config)[0]


def read(model: "type[M]", given: dict[str, Any]) -> "M":
    """What flags say, as one of our values. Raises ModelportError with the first thing that is wrong."""
    from pydantic import ValidationError

    from modelport.domain.spec import sentence
    from modelport.errors import ModelportError

    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ModelportError(sentence(error.errors(include_url=False)[0], "The command line", model)) from None


def pairs(given: list[str], flag: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping. Raises ModelportError for one without `=`."""
    from modelport.errors import ModelportError

    made = {key: value for key, _, value in (text.partition("=") for text in given)}
    if wrong := next((text for text in given if "=" not in text or text.startswith("=")), None):
        raise ModelportError(f"{flag} is {wrong!r}, but must be KEY=VALUE.")
    return made


def spec(**flags: Any) -> "Spec":
    """A Spec from flags; those not given are left to its defaults. Raises ModelportError."""
    from modelport.domain.spec import parse_spec

    given = {key: value for key, value in flags.items() if value not in (None, "")}
    drafting = {key.removeprefix("speculative_"): given.pop(key) for key in [*given] if key.startswith("speculative_")}
    for name, flag in (("options", "--option"), ("env", "--env")):
        if name in given:
            given[name] = pairs(given[name], flag)
    return parse_spec(given | ({"speculative": drafting} if drafting else {}), "the command line")
