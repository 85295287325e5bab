"""Options that several commands take, and the settings they make."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from modelport.domain.spec import Spec
    from modelport.settings import Settings

StateDir = Annotated[Path | None, typer.Option(help="Where the store, keys and logs are.", show_default=False)]
Config = Annotated[Path | None, typer.Option(help="The modelport.yaml to use.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ServiceName = Annotated[str, typer.Argument(help="A service's name or id.", show_default=False)]

Model = Annotated[
    str, typer.Argument(help="An alias (smollm2), a GGUF file, or a directory with one.", show_default=False)
]
Name = Annotated[str, typer.Option(help="Name of the service; made from the model's by default.", show_default=False)]
EngineName = Annotated[str | None, typer.Option("--engine", help="Engine, or auto.", show_default=False)]
Task = Annotated[
    str | None, typer.Option(help="generate or embed; by default what the model is for.", show_default=False)
]
Context = Annotated[int | None, typer.Option(help="Tokens one request may use.", show_default=False)]
Parallel = Annotated[int | None, typer.Option(help="Requests one replica works on at once.", show_default=False)]


def settings(config: Path | None = None, **flags: Any) -> "Settings":
    """The settings in force, flags first."""
    from modelport.settings import load

    return load(flags, config)[0]


def spec(**flags: Any) -> "Spec":
    """A Spec from flags; those not given are left to its defaults. Raises ModelportError."""
    from modelport.domain.spec import parse_spec

    return parse_spec({key: value for key, value in flags.items() if value not in (None, "")}, "the command line")
