"""`modelport budgets`: caps on what a key, a team or a service may use, and who changed them."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir

if TYPE_CHECKING:
    from modelport.domain.account import BudgetView

BudgetId = Annotated[str, typer.Argument(help="The budget's id, as `budgets list` shows it.", show_default=False)]
UNITS = (
    "money, requests, tokens, input_tokens, output_tokens, cached_tokens, reasoning_tokens, audio_seconds, "
    "characters, images or gpu_seconds"
)

app = typer.Typer(help="Cap what keys, teams and services may use.", no_args_is_help=True, rich_markup_mode=None)


@app.command("set")
def set_(
    subject: Annotated[str, typer.Argument(help="key:ID, team:NAME or service:NAME.", show_default=False)],
    unit: Annotated[str, typer.Argument(help=f"{UNITS}.", show_default=False)],
    cap: Annotated[float, typer.Argument(help="How much of it.", show_default=False, min=0)],
    period: Annotated[str, typer.Option(help="day, week or month (of UTC), or total.")] = "total",
    soft: Annotated[float, typer.Option(help="The share of it from which answers carry a warning.")] = 0.8,
    warn_only: Annotated[bool, typer.Option("--warn-only", help="Only warn, never refuse.")] = False,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Set a budget. One of the same subject, unit and period is changed, and what was used of it stays used."""
    from modelport.domain.budget import Budget
    from modelport.serve import accounts

    given = {"subject": subject, "unit": unit, "cap": cap, "period": period, "soft": soft, "hard": not warn_only}
    view = accounts(options.settings(config, state_dir=state_dir)).set_budget(options.read(Budget, given))
    for note in view.notes:
        typer.echo(f"modelport: {note}", err=True)
    show.as_json(view) if json else typer.echo(_line(view))


@app.command("list")
def list_(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List budgets: what is spent, what gateways hold for requests under way, what remains, when it starts anew."""
    from modelport.serve import accounts

    found = accounts(options.settings(config, state_dir=state_dir)).list_budgets()
    if json:
        return show.as_json(found)
    show.table(
        ("ID", "SUBJECT", "UNIT", "CAP", "PERIOD", "SPENT", "RESERVED", "REMAINING", "STATE", "RESETS AT"),
        (
            (
                b.id,
                b.subject,
                b.unit,
                f"{show.amount(b.cap)} + {show.amount(b.extra)}" if b.extra else show.amount(b.cap),
                b.period,
                show.amount(b.spent),
                show.amount(b.leased),
                show.amount(b.remaining),
                b.state if b.hard else f"{b.state} (warns only)",
                show.at(b.resets_at),
            )
            for b in found
        ),
    )


@app.command()
def delete(budget: BudgetId, json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Take a budget away: nothing is capped by it any more."""
    from modelport.serve import accounts

    gone = accounts(options.settings(config, state_dir=state_dir)).delete_budget(budget)
    show.as_json(gone) if json else typer.echo(f"{gone.id} of {gone.subject} is deleted")


@app.command()
def override(
    budget: BudgetId,
    extra: Annotated[
        float, typer.Argument(help="Added to this period's cap; `-- -5` takes back 5 of it.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit.", show_default=False)],
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Raise a budget's cap for the period that runs."""
    from modelport.serve import accounts

    view = accounts(options.settings(config, state_dir=state_dir)).override_budget(budget, extra, reason)
    show.as_json(view) if json else typer.echo(_line(view))


@app.command()
def recount(
    budget: BudgetId,
    period_of: Annotated[
        str, typer.Option(help="A date in the period to count; the one that runs by default.", show_default=False)
    ] = "",
    reprice: Annotated[bool, typer.Option("--reprice", help="By the services' prices now.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Make the store say what was counted.")] = False,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Count a budget's period anew from the gateways' journals, and show where the store differs."""
    from modelport.domain.usage import moment
    from modelport.serve import accounts

    at = moment(period_of, time.time()) if period_of else None
    found = accounts(options.settings(config, state_dir=state_dir)).recount_budget(
        budget, at, reprice=reprice, apply=apply
    )
    if json:
        return show.as_json(found)
    difference = show.amount(found.counted - found.stored)
    done = "and the store says so now" if found.applied else "--apply makes the store say so"
    typer.echo(
        f"{found.budget}: the journals say {show.amount(found.counted)} {found.unit} in {found.settlements} requests, "
        f"the store {show.amount(found.stored)}: a difference of {difference}"
        + (f"; {done}" if found.applied or found.counted != found.stored else "")
    )
    if found.damaged:
        typer.echo(f"modelport: {found.damaged} lines of the journals cannot be read and are not counted.", err=True)


@app.command()
def audit(
    count: Annotated[int, typer.Option(help="How many.", min=1, max=10_000)] = 100,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """List the last changes of keys, teams, budgets and aliases, newest first."""
    from modelport.serve import accounts

    found = accounts(options.settings(config, state_dir=state_dir)).audit(count)
    if json:
        return show.as_json(found)
    show.table(
        ("AT", "WHO", "WHAT", "OF", "REASON", "DETAIL"),
        (
            (
                show.at(entry.at),
                entry.actor,
                entry.action,
                entry.subject,
                entry.reason or "-",
                ", ".join(f"{name}={value}" for name, value in entry.detail.items()) or "-",
            )
            for entry in found
        ),
    )


def _line(view: "BudgetView") -> str:
    return (
        f"{view.id}: {view.subject} may use {show.amount(view.cap + view.extra)} {view.unit} "
        f"({view.period}); {show.amount(view.remaining)} remain"
    )


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="budgets")
