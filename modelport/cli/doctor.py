"""`modelport doctor`: what this machine has and lacks, and what would stop a model's start, before it is started."""

from typing import Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir


@options.spec_options
def doctor(
    wanted: dict[str, Any],
    model: Annotated[str | None, typer.Argument(help=options.MODEL_HELP, show_default=False)] = None,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Check this machine: state directory, socket, port, memory, driver, engines; with MODEL also token, licence,
    download, and whether it fits. Exit 1 when something would stop a start."""
    from modelport.cli.services import located
    from modelport.serve import examine

    if wanted and model is None:
        raise typer.BadParameter(f"options of a model need a MODEL: {', '.join(wanted)}.")
    spec = options.spec(**wanted, model=located(model)) if model is not None else None
    checks = examine(options.settings(config, state_dir=state_dir), spec)
    if json:
        show.as_json({check.name: {"ok": check.ok, "found": check.found} for check in checks})
    else:
        show.table(("CHECK", "", "FOUND"), ((c.name, "ok" if c.ok else "WRONG", c.found) for c in checks))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)
