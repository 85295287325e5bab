"""`modelport config`: what is set, and by what."""

import typer

from modelport.cli import show
from modelport.cli.options import Config, Json, StateDir

app = typer.Typer(help="Show the settings.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Show the settings."""


@app.command("show")
def show_(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Print each setting, its value, and where that came from."""
    from modelport.settings import Settings, load

    settings, origins = load({"state_dir": state_dir}, config)
    values = settings.model_dump(mode="json")
    if json:
        return show.as_json({name: {"value": values[name], "origin": origins[name]} for name in values})
    fields = Settings.model_fields
    show.table(
        ("SETTING", "VALUE", "FROM", "WHAT"),
        (
            (name, "-" if values[name] is None else values[name], origins[name], fields[name].description or "")
            for name in values
        ),
    )


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="config")
