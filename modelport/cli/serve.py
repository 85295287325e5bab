"""`modelport serve`: control and gateway, until Ctrl-C."""

from enum import StrEnum
from typing import Annotated

import typer

from modelport.cli import options
from modelport.cli.options import Config, StateDir


class Part(StrEnum):
    CONTROL = "control"
    GATEWAY = "gateway"


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 is any.", show_default=False)] = None,
    only: Annotated[Part | None, typer.Option(help="Run one of the two processes alone.", show_default=False)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error.", show_default=False)] = None,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Serve: bring back the services that are wanted, and listen. Ctrl-C stops all engines and keeps the services."""
    from modelport import serve as wiring

    settings = options.settings(config, state_dir=state_dir, host=host, port=port, log_level=log_level)
    wiring.log_to_stderr(settings)

    def ready(url: str) -> None:
        if only is Part.CONTROL:
            return typer.echo(
                f"Modelport's control is serving at {url}; it needs a gateway (--only gateway) beside it."
            )
        typer.echo(f"Modelport is serving at {url}/v1 (state in {settings.state_dir})")
        typer.echo(f"The admin key is in {settings.state_dir / 'admin.key'}; `modelport keys create` makes more.")
        typer.echo("`modelport start MODEL` starts a service, `modelport ps` lists them, Ctrl-C ends.")

    wiring.serve(settings, ready, only.value if only else None)


def add_to(app: typer.Typer) -> None:
    app.command()(serve)
