"""`modelport host`: Modelport's own model server, by hand: one model, in this process, until Ctrl-C."""

from typing import Annotated

import typer

AS_THEY_ARE = {"ignore_unknown_options": True, "help_option_names": []}
"""The server has its own command line, --help too, which engines build: it is not repeated here."""


def host(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL [OPTIONS]", help="--help shows them.", show_default=False)
    ] = None,
) -> None:
    """Serve one model in this process, without control or gateway; `modelport host --help` shows the options."""
    from modelport import serve as wiring

    raise typer.Exit(wiring.host(arguments or []))


def add_to(app: typer.Typer) -> None:
    app.command(context_settings=AS_THEY_ARE)(host)
