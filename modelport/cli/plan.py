"""`modelport plan`: whether a model fits this machine, before anything is started."""

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir
from modelport.domain.units import show_bytes


def plan(
    model: options.Model,
    engine: options.EngineName = None,
    task: options.Task = None,
    context: options.Context = None,
    parallel: options.Parallel = None,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Say whether a model fits and how it would run, on the Modelport that serves. Exit 1 when it does not fit."""
    from modelport.cli.services import located
    from modelport.serve import verbs

    wanted = options.spec(model=located(model), engine=engine, task=task, context=context, parallel=parallel)
    found = verbs(options.settings(config, state_dir=state_dir)).plan(wanted)
    if json:
        show.as_json(found)
    else:
        typer.echo(found.sentence)
        for reason in found.reasons:
            typer.echo(f"  {reason}")
        show.table(("PART", "MEMORY"), ((name, show_bytes(size)) for name, size in found.parts.items()))
        typer.echo(f"{found.parallel} requests at once, {found.context_tokens} tokens each, by {found.engine}")
    raise typer.Exit(0 if found.fits else 1)


def add_to(app: typer.Typer) -> None:
    app.command()(plan)
