"""`modelport plan`: whether a model fits, where, and at what price, before anything is started."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir
from modelport.errors import ModelportError

if TYPE_CHECKING:
    from modelport.domain.service import PlanView
    from modelport.domain.verbs import Plans

ACCELERATORS = re.compile(r"[^/\\]+:\s*-?\d+")
"""What in --compare is accelerators (H100:2) and not a model."""


@options.spec_options
def plan(
    wanted: dict[str, Any],
    model: Annotated[str | None, typer.Argument(help=options.MODEL_HELP, show_default=False)] = None,
    from_config: Annotated[
        Path | None, typer.Option(help="Plan from this config.json instead of a MODEL.", show_default=False)
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="More accelerators (H100:2,A100-80GB:2) or models beside it, by commas.", show_default=False),
    ] = None,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Say whether a model fits and how it would run: here, or on --gpu H100:4; with --gpu auto, on which GPUs for how
    much. Nothing is started. Exit 0 when it fits or is too close to say, 1 when it does not fit or has no plan."""
    from modelport.cli.services import located
    from modelport.domain.spec import name_from
    from modelport.serve import plans

    if (model is None) == (from_config is None):
        raise typer.BadParameter("give either MODEL or --from-config FILE.")
    if from_config is not None:
        wanted = {**wanted, "name": name_from(from_config.absolute().parent.name)}
    source = located(model) if model is not None else str((from_config or Path()).absolute())
    auto = str(wanted.get("accelerators", "")).strip().lower() == "auto"
    if auto and compare:
        raise typer.BadParameter("--compare needs accelerators to compare with: give --gpu NAME:COUNT, or none.")
    planner = plans(options.settings(config, state_dir=state_dir))
    if auto:
        fits = _offers(planner, {**wanted, "accelerators": None, "model": source}, json)
    elif compare:
        fits = _compare(planner, {**wanted, "model": source}, compare, json)
    else:
        fits = _one(planner, {**wanted, "model": source}, json)
    raise typer.Exit(0 if fits else 1)


def _one(planner: "Plans", wanted: dict[str, Any], json: bool) -> bool:
    from modelport.cli import planned

    found = planner.plan(options.spec(**wanted))
    show.as_json(found) if json else planned.one(found)
    return found.fits


def _offers(planner: "Plans", wanted: dict[str, Any], json: bool) -> bool:
    from modelport.cli import planned

    found = planner.offers(options.spec(**wanted))
    if json:
        show.as_json(found)
    elif found:
        planned.offers(found)
    else:
        raise ModelportError(
            f"{wanted['model']} fits on none of the accelerators that are known, as it is asked for: ask for a shorter "
            "--context, fewer --concurrency or a --quantization, or name one with --gpu to see what is missing."
        )
    return bool(found)


def _compare(planner: "Plans", wanted: dict[str, Any], others: str, json: bool) -> bool:
    """Every model on all accelerators, the ones given first. True when one of them fits."""
    from modelport.cli import planned
    from modelport.cli.services import located

    items = [item.strip() for item in others.split(",") if item.strip()]
    given = [wanted["accelerators"]] if wanted.get("accelerators") else []
    gpus = given + [item for item in items if ACCELERATORS.fullmatch(item)]
    models = [wanted["model"], *(located(item) for item in items if not ACCELERATORS.fullmatch(item))]
    rows: list[tuple[str, str, PlanView | str]] = []
    for model in models:
        for gpu in gpus or [None]:
            try:
                found = planner.plan(options.spec(**{**wanted, "model": model, "accelerators": gpu}))
            except ModelportError as error:
                found = error.message
            rows.append((model, gpu or "this machine", found))
    if json:
        show.as_json(
            [
                {"model": model, "accelerators": on, "error": found}
                if isinstance(found, str)
                else found.model_dump(mode="json")
                for model, on, found in rows
            ]
        )
    else:
        planned.comparison(rows)
    return any(not isinstance(found, str) and found.fits for _, _, found in rows)


def add_to(app: typer.Typer) -> None:
    app.command()(plan)
