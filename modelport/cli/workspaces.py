"""`modelport workspaces`: buckets and, by reference, the credentials they are read and written with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir
from modelport.errors import ModelportError

if TYPE_CHECKING:
    from modelport.domain.verbs import Records
    from modelport.domain.workspace import Workspace

CLOUDS = {"s3": "s3", "aws": "s3", "az": "az", "azure": "az", "gs": "gs"}
"""A URI's scheme to a workspace's word for the cloud."""
REFERENCE_HELP = "as env:NAME (set where Modelport runs) or file:/path"

app = typer.Typer(
    help="Name buckets, and where the credentials for them are.", no_args_is_help=True, rich_markup_mode=None
)
Named = Annotated[str, typer.Argument(help="The workspace's name.", show_default=False)]
Known = Annotated[str, typer.Argument(help="The workspace's name or id.", show_default=False)]


def _option(help: str) -> Any:
    return typer.Option(help=help, show_default=False)


@app.command("set")
def set_(
    name: Named,
    bucket: Annotated[str, typer.Argument(help="s3://bucket, az://container or gs://bucket.", show_default=False)],
    region: Annotated[str, _option("S3's region.")] = "",
    endpoint: Annotated[str, _option("Another address than the cloud's own, as a URL.")] = "",
    account: Annotated[str, _option("Azure's storage account.")] = "",
    access_key_ref: Annotated[str, _option(f"S3's key id or Azure's account key, {REFERENCE_HELP}.")] = "",
    secret_key_ref: Annotated[str, _option(f"S3's secret key, {REFERENCE_HELP}.")] = "",
    credentials_ref: Annotated[str, _option(f"Google's service account key, JSON, {REFERENCE_HELP}.")] = "",
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Give a bucket a name and credentials, from now on and whatever the name stood for. Without references the
    credentials are those of Modelport's own environment."""
    wanted = _workspace(
        name,
        bucket,
        region=region,
        endpoint=endpoint,
        account=account,
        access_key_ref=access_key_ref,
        secret_key_ref=secret_key_ref,
        credentials_ref=credentials_ref,
    )
    made = _records(state_dir, config).put_workspace(wanted)
    show.as_json(made.model_dump(mode="json")) if json else typer.echo(f"{made.name} is {made.uri()} ({made.id})")


@app.command("list")
def list_(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List workspaces."""
    found = _records(state_dir, config).list_workspaces()
    if json:
        return show.as_json([workspace.model_dump(mode="json") for workspace in found])
    show.table(
        ("NAME", "ID", "BUCKET", "WHERE", "CREDENTIALS"),
        (
            (
                workspace.name,
                workspace.id,
                workspace.uri(),
                workspace.endpoint or workspace.region or workspace.account or "-",
                ", ".join(workspace.secret_env().values()) or "-",
            )
            for workspace in found
        ),
    )


@app.command()
def check(name: Known, json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List a workspace's bucket with its credentials, where Modelport runs; say what is wrong, or ok."""
    found = cast(Any, _records(state_dir, config)).check_workspace(name)
    show.as_json(found.model_dump(mode="json")) if json else typer.echo(f"{found.name}: ok")


@app.command()
def remove(name: Known, json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Forget a workspace that no service uses. What is in its bucket stays."""
    gone = _records(state_dir, config).delete_workspace(name)
    show.as_json(gone.model_dump(mode="json")) if json else typer.echo(f"{gone.name} is removed")


def _workspace(name: str, bucket: str, **given: str) -> "Workspace":
    """Raises ModelportError with a sentence that repeats no reference: it may be a secret that was put in its place."""
    from pydantic import ValidationError

    from modelport.domain.spec import sentence
    from modelport.domain.workspace import Workspace

    scheme, mark, rest = bucket.partition("://")
    if not mark or scheme not in CLOUDS or not rest.strip("/") or "/" in rest.rstrip("/"):
        raise ModelportError(
            f"A workspace is a bucket, like s3://bucket, az://container or gs://bucket, not {bucket!r}."
        )
    try:
        return Workspace.model_validate({"name": name, "cloud": CLOUDS[scheme], "bucket": rest.rstrip("/"), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["loc"] and str(first["loc"][-1]).endswith("_ref"):
            first["input"] = "…"
        raise ModelportError(sentence(first, "the workspace", Workspace)) from None


def _records(state_dir: Path | None, config: Path | None) -> "Records":
    from modelport.serve import accounts

    return cast("Records", accounts(options.settings(config, state_dir=state_dir)))


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="workspaces")
