"""`modelport keys`: make, list and revoke keys, also while control is down."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir

if TYPE_CHECKING:
    from modelport.domain.verbs import Keys

app = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whom or what it is for.")] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="A service it may use; give it again for more. All by default.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may also start, stop and read logs.")] = False,
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 30d. Never by default.")] = None,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Make a key. It is shown this once."""
    from modelport.domain.units import seconds
    from modelport.errors import ModelportError

    expires_in_s = seconds(expires) if expires else None
    if expires_in_s == 0:
        raise ModelportError("--expires 0 would make a key that is over at once; give a duration such as 30d.")
    made = _keys(state_dir, config).create_key(name, "admin" if admin else "infer", model or [], expires_in_s)
    if json:
        show.as_json(made)
    else:
        typer.echo(made.secret)
        typer.echo(f"{made.id}: keep it, it is not shown again.", err=True)


@app.command("list")
def list_(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List keys, never their secrets."""
    import time

    found = _keys(state_dir, config).list_keys()
    if json:
        return show.as_json(found)
    now = time.time()

    def state(revoked_at: float | None, expires_at: float | None) -> str:
        if revoked_at:
            return "revoked"
        return "expired" if expires_at and expires_at < now else "valid"

    show.table(
        ("ID", "PREFIX", "NAME", "SCOPE", "MODELS", "STATE"),
        (
            (k.id, k.prefix, k.name or "-", k.scope, ", ".join(k.models) or "all", state(k.revoked_at, k.expires_at))
            for k in found
        ),
    )


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id or prefix.", show_default=False)],
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """End a key. It stops working within a second."""
    ended = _keys(state_dir, config).revoke_key(key)
    show.as_json(ended) if json else typer.echo(f"{ended.id} is revoked")


def _keys(state_dir: Path | None, config: Path | None) -> "Keys":
    from modelport.serve import keys

    return keys(options.settings(config, state_dir=state_dir))


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="keys")
