"""`modelport teams`: limits that the keys of a team share."""

from typing import Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.limits import limit_options, shown
from modelport.cli.options import Config, Json, StateDir

Team = Annotated[str, typer.Argument(help="The team's name, as its keys have it.", show_default=False)]

app = typer.Typer(help="Set limits that the keys of a team share.", no_args_is_help=True, rich_markup_mode=None)


@app.command("set")
@limit_options
def set_(
    limits: dict[str, Any], team: Team, json: Json = False, state_dir: StateDir = None, config: Config = None
) -> None:
    """Set a team's limits, in place of those it had: what is not given is no limit."""
    from modelport.domain.limits import Limits
    from modelport.serve import accounts

    wanted = options.read(Limits, limits)
    view = accounts(options.settings(config, state_dir=state_dir)).set_team(team, wanted)
    show.as_json(view) if json else typer.echo(f"{view.name}: {shown(view.limits)}")


@app.command("list")
def list_(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List teams: those that were set, and those that keys name."""
    from modelport.serve import accounts

    found = accounts(options.settings(config, state_dir=state_dir)).list_teams()
    if json:
        return show.as_json(found)
    show.table(("TEAM", "KEYS", "LIMITS"), ((team.name, team.keys, shown(team.limits)) for team in found))


@app.command()
def delete(team: Team, json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Forget a team's limits. Its keys and budgets stay."""
    from modelport.serve import accounts

    gone = accounts(options.settings(config, state_dir=state_dir)).delete_team(team)
    show.as_json(gone) if json else typer.echo(f"{gone.name} has no limits now")


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="teams")
