"""`modelport doctor`: what this machine has and lacks, before anything is started."""

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir


def doctor(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Check this machine: state directory, socket, port, memory, engines. Exit 1 when something is wrong."""
    from modelport.serve import examine

    checks = examine(options.settings(config, state_dir=state_dir))
    if json:
        show.as_json({check.name: {"ok": check.ok, "found": check.found} for check in checks})
    else:
        show.table(("CHECK", "", "FOUND"), ((c.name, "ok" if c.ok else "WRONG", c.found) for c in checks))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)
