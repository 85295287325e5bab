"""`modelport aliases`: other names for services, and how services share one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir
from modelport.errors import ModelportError

if TYPE_CHECKING:
    from modelport.domain.alias import Alias
    from modelport.domain.verbs import Accounts

app = typer.Typer(
    help="Give services other names, and let several share one.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="What clients ask for as `model`.", show_default=False)]


@app.command("set")
def set_(
    name: Name,
    services: Annotated[
        list[str],
        typer.Argument(
            metavar="SERVICE[:WEIGHT]",
            help="Who answers, by share: qwen:9 llama:1. Weight 0 takes only what asks by header.",
            show_default=False,
        ),
    ],
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=NAME:VALUE", help="Requests with this header go to that service; repeat it."),
    ] = None,
    sticky: Annotated[
        bool, typer.Option("--sticky", help="A session (x-session-id, else the key) stays at one service.")
    ] = False,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Make a name stand for these services, from now on and whatever it stood for."""
    made = _accounts(state_dir, config).put_alias(_alias(name, services, header or [], sticky))
    show.as_json(made.model_dump(mode="json")) if json else typer.echo(f"{made.name} is {_shares(made)}")


@app.command("list")
def list_(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List aliases."""
    found = _accounts(state_dir, config).list_aliases()
    if json:
        return show.as_json([alias.model_dump(mode="json") for alias in found])
    show.table(
        ("NAME", "SERVICES", "BY HEADER", "STICKY"),
        (
            (
                alias.name,
                _shares(alias),
                ", ".join(f"{target.service}={target.header}" for target in alias.targets if target.header) or "-",
                "yes" if alias.sticky else "no",
            )
            for alias in found
        ),
    )


@app.command()
def delete(name: Name, json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Forget a name. Its services go on under their own."""
    gone = _accounts(state_dir, config).delete_alias(name)
    show.as_json(gone.model_dump(mode="json")) if json else typer.echo(f"{gone.name} is deleted")


def _alias(name: str, services: list[str], headers: list[str], sticky: bool) -> "Alias":
    """Raises ModelportError with a sentence on what cannot be read."""
    from pydantic import ValidationError

    from modelport.domain.alias import Alias
    from modelport.domain.spec import sentence

    by_service: dict[str, str] = {}
    for given in headers:
        service, equals, text = given.partition("=")
        if not equals or not text.partition(":")[0].strip() or ":" not in text:
            raise ModelportError(f"--header is SERVICE=NAME:VALUE, like 'llama=x-canary: yes', not {given!r}.")
        by_service[service] = text.strip()
    targets: list[dict[str, Any]] = []
    for given in services:
        service, colon, weight = given.partition(":")
        targets.append({"service": service, **({"weight": weight} if colon else {})})
        if service in by_service:
            targets[-1]["header"] = by_service.pop(service)
    if by_service:
        raise ModelportError(f"--header names {next(iter(by_service))!r}, which is none of the alias's services.")
    try:
        return Alias.model_validate({"name": name, "targets": targets, "sticky": sticky})
    except ValidationError as error:
        raise ModelportError(sentence(error.errors(include_url=False)[0], "the alias", Alias)) from None


def _shares(alias: "Alias") -> str:
    if len(alias.targets) == 1:
        return alias.targets[0].service
    return " ".join(f"{target.service}:{target.weight:g}" for target in alias.targets)


def _accounts(state_dir: Path | None, config: Path | None) -> "Accounts":
    from modelport.serve import accounts

    return accounts(options.settings(config, state_dir=state_dir))


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="aliases")
