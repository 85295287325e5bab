"""`modelport usage`: what was used, by whom, and what it cost."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir

if TYPE_CHECKING:
    from modelport.domain.usage import UsageView

Only = Annotated[str, typer.Option(help="Only of this one.", show_default=False)]


def usage(
    by: Annotated[
        str, typer.Option(help="What sums are by, with commas: key, team, user, service, model, route, day.")
    ] = "service,key",
    since: Annotated[str, typer.Option(help="From when: 7d, 12h, 2026-11-01.", show_default=False)] = "",
    until: Annotated[str, typer.Option(help="Until when, in the same way.", show_default=False)] = "",
    key: Only = "",
    team: Only = "",
    user: Only = "",
    service: Only = "",
    model: Only = "",
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with latencies and all units.")] = False,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Sum requests, tokens, time and money. Latencies are of requests that went well."""
    from modelport.domain.usage import UsageQuery, as_csv, moment
    from modelport.serve import accounts

    if csv and json:
        raise typer.BadParameter("give --csv or --json, not both.")
    groups = [group.strip() for group in by.split(",") if group.strip()]
    now = time.time()
    given: dict[str, Any] = {"by": groups, "key": key, "team": team, "user": user, "service": service, "model": model}
    given |= {name: moment(at, now) for name, at in (("since", since), ("until", until)) if at}
    rows = accounts(options.settings(config, state_dir=state_dir)).usage(options.read(UsageQuery, given))
    if json:
        return show.as_json(rows)
    if csv:
        sys.stdout.write(as_csv(rows))
        return None
    columns = (*(group.upper() for group in groups), *COLUMNS)
    return show.table(columns, ((*(getattr(r, group) or "-" for group in groups), *_cells(r)) for r in rows))


COLUMNS = (
    "REQUESTS",
    "FAILED",
    "TOKENS IN",
    "CACHED",
    "TOKENS OUT",
    "COST",
    "PER 1K",
    "GPU 1K",
    "P50",
    "P95",
    "FIRST P50",
)


def _cells(row: "UsageView") -> tuple[object, ...]:
    return (
        row.requests,
        row.failed,
        row.input_tokens,
        row.cached_tokens,
        row.output_tokens,
        show.amount(row.cost),
        show.amount(row.cost_per_1k),
        show.amount(row.gpu_cost_per_1k),
        show.latency(row.total_p50_s),
        show.latency(row.total_p95_s),
        show.latency(row.first_byte_p50_s),
    )


def add_to(app: typer.Typer) -> None:
    app.command()(usage)
