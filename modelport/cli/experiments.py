"""`modelport experiments`: finished trainings whose models can be served: what TAO calls parents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir

if TYPE_CHECKING:
    from modelport.domain.verbs import Records

app = typer.Typer(
    help="Register finished trainings, so that their models can be served.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Id = Annotated[str, typer.Argument(help="The training's job id, a UUID.", show_default=False)]


def _option(help: str) -> Any:
    return typer.Option(help=help, show_default=False)


@app.command()
def register(
    id: Id,
    model_path: Annotated[str, typer.Argument(help="Its model: a file, a folder or a cloud URI.", show_default=False)],
    name: Annotated[str, _option("What to call it.")] = "",
    arch: Annotated[str, _option("The kind of network, like cosmos-rl or classification_pyt.")] = "",
    org: Annotated[str, _option("The organisation it is of.")] = "",
    epoch: Annotated[int, _option("The epoch that this model is of.")] = 0,
    score: Annotated[float | None, _option("Its evaluation's score: the higher the better.")] = None,
    workspace: Annotated[str, _option("The workspace that the model is in, by name.")] = "",
    status: Annotated[str, typer.Option(help="Pending, Running, Done, Error, Canceled or Paused.")] = "Done",
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Register a training, or one more model of it: that of another epoch is added, that of the same one replaced."""
    from modelport.domain.experiment import Experiment

    records = _records(state_dir, config)
    before = next((found for found in records.list_experiments() if found.id == id), None)
    given: dict[str, Any] = {"name": name, "network_arch": arch, "org": org, "workspace": workspace}
    kept = before.model_dump(mode="json") if before else {}
    others = [one for one in kept.get("checkpoints", []) if one["epoch"] != epoch]
    checkpoint = {"path": model_path, "epoch": epoch, "score": score}
    wanted = {
        **kept,
        **{field: text for field, text in given.items() if text},
        "id": id,
        "status": status,
        "checkpoints": [*others, checkpoint],
    }
    made = records.put_experiment(options.read(Experiment, wanted))
    count = len(made.checkpoints)
    show.as_json(made.model_dump(mode="json")) if json else typer.echo(
        f"{made.id} is {made.status}, with {count} model{'s' if count > 1 else ''}"
    )


@app.command("list")
def list_(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List experiments, newest first."""
    found = _records(state_dir, config).list_experiments()
    if json:
        return show.as_json([experiment.model_dump(mode="json") for experiment in found])
    show.table(
        ("ID", "NAME", "NETWORK", "STATUS", "MODELS", "BEST", "WORKSPACE"),
        (
            (
                experiment.id,
                experiment.name or "-",
                experiment.network_arch or "-",
                experiment.status,
                len(experiment.checkpoints),
                best.path if (best := experiment.choose()) else "-",
                experiment.workspace or "-",
            )
            for experiment in found
        ),
    )


@app.command()
def remove(id: Id, json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Forget a training. Its models stay, and what serves them goes on."""
    gone = _records(state_dir, config).delete_experiment(id)
    show.as_json(gone.model_dump(mode="json")) if json else typer.echo(f"{gone.id} is removed")


def _records(state_dir: Path | None, config: Path | None) -> "Records":
    from modelport.serve import accounts

    return cast("Records", accounts(options.settings(config, state_dir=state_dir)))


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="experiments")
