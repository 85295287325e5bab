"""`modelport keys`: make, rotate, list and revoke keys, also while control is down."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.limits import limit_options, shown
from modelport.cli.options import Config, Json, StateDir

if TYPE_CHECKING:
    from modelport.domain.account import KeyView
    from modelport.domain.verbs import Accounts

Key = Annotated[str, typer.Argument(help="The key's id or prefix.", show_default=False)]

app = typer.Typer(help="Make, rotate, list and revoke keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
@limit_options
def create(
    limits: dict[str, Any],
    name: Annotated[str, typer.Argument(help="Whom or what it is for.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="infer: use models. operate: start, stop and look after services. admin: everything. Repeat it for "
            "more; infer by default.",
            show_default=False,
        ),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="The same as --scope admin.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="A service it may use; repeat it. All by default.", show_default=False)
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(help="A path it may use: /v1/embeddings, /v1/audio/*; repeat it.", show_default=False),
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option("--from", help="An address or network it may be used from; repeat it.", show_default=False),
    ] = None,
    team: Annotated[str, typer.Option(help="The team whose limits and budgets it shares.", show_default=False)] = "",
    user: Annotated[str, typer.Option(help="Who uses it; sees the usage of all its keys.", show_default=False)] = "",
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 30d. Never by default.")] = None,
    log_bodies: Annotated[
        bool, typer.Option("--log-bodies", help="Keep its requests and answers, redacted and cut, for bodies_keep.")
    ] = False,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Make a key. It is shown this once."""
    from modelport.domain.key import KeySpec
    from modelport.domain.units import seconds
    from modelport.errors import ModelportError

    if expires and seconds(expires) == 0:
        raise ModelportError("--expires 0 would make a key that is over at once; give a duration such as 30d.")
    scopes = [*(scope or []), *(["admin"] if admin else [])]
    spec = options.read(
        KeySpec,
        {
            "name": name,
            "models": model or [],
            "routes": route or [],
            "addresses": from_ or [],
            "team": team,
            "user": user,
            "limits": limits,
            "log_bodies": log_bodies,
            "expires_in_s": expires,
        }
        | ({"scopes": scopes} if scopes else {}),
    )
    _show_secret(_accounts(state_dir, config).create_key(spec), json)


@app.command()
def rotate(
    key: Key,
    overlap: Annotated[str, typer.Option(help="How long the old secret works too; 0 ends it at once.")] = "24h",
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Give a key a new secret. It is shown this once; what the key may do stays."""
    from modelport.domain.units import seconds

    _show_secret(_accounts(state_dir, config).rotate_key(key, seconds(overlap)), json)


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Also those revoked more than a day ago.")] = False,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """List keys, never their secrets."""
    found = _accounts(state_dir, config).list_keys(old=all_)
    if json:
        return show.as_json(found)
    now = time.time()
    show.table(
        ("ID", "PREFIX", "NAME", "SCOPES", "MODELS", "TEAM", "USER", "LIMITS", "STATE"),
        (
            (
                k.id,
                k.prefix,
                k.name or "-",
                ", ".join(k.scopes),
                ", ".join(k.models) or "all",
                k.team or "-",
                k.user or "-",
                shown(k.limits),
                _state(k, now),
            )
            for k in found
        ),
    )


@app.command()
def revoke(
    key: Key,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """End a key. It stops working within a second."""
    ended = _accounts(state_dir, config).revoke_key(key)
    show.as_json(ended) if json else typer.echo(f"{ended.id} is revoked")


def _state(key: "KeyView", now: float) -> str:
    if key.revoked_at:
        return "revoked"
    if key.expires_at and key.expires_at <= now:
        return "expired"
    return "rotated" if key.old_until and key.old_until > now else "valid"


def _show_secret(made: "KeyView", json: bool) -> None:
    for note in made.notes:
        typer.echo(f"modelport: {note}", err=True)
    if json:
        show.as_json(made)
    else:
        typer.echo(made.secret)
        typer.echo(f"{made.id}: keep it, it is not shown again.", err=True)


def _accounts(state_dir: Path | None, config: Path | None) -> "Accounts":
    from modelport.serve import accounts

    return accounts(options.settings(config, state_dir=state_dir))


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="keys")
