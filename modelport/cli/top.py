"""`modelport top`: the requests that are under way."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir
from modelport.errors import NOT_READY, UNAUTHORIZED, ModelportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from modelport.domain.live import LiveView

COLUMNS = ("REQUEST", "AGE", "STATE", "KEY", "SERVICE", "REPLICA", "ROUTE", "TOKENS", "FIRST BYTE")


def top(
    once: Annotated[bool, typer.Option("--once", help="Show them once and end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Show the requests that are under way, the oldest first, until Ctrl-C."""
    import os

    import msgspec

    from modelport.serve import admin_key, verbs

    settings = options.settings(config, state_dir=state_dir)
    url = verbs(settings).info().gateway_url
    if not url:
        raise ModelportError("No gateway runs; start one with `modelport serve`.", NOT_READY)
    key = os.environ.get("MODELPORT_KEY") or admin_key(settings)
    if key is None:
        raise ModelportError("No key: set MODELPORT_KEY.", UNAUTHORIZED)
    found = _ask(url, key)
    if json:
        return show.as_json([msgspec.to_builtins(view) for view in found])
    if once or not sys.stdout.isatty():
        return show.table(COLUMNS, map(_cells, found))
    from rich.live import Live

    with Live(_table(found), auto_refresh=False, screen=True) as screen:
        while True:
            time.sleep(every)
            screen.update(_table(_ask(url, key)), refresh=True)


def _ask(url: str, key: str) -> "list[LiveView]":
    import httpx
    import msgspec

    from modelport.cli.inference import trusted
    from modelport.domain.live import LiveView

    try:
        answer = httpx.get(
            f"{url}/modelport/v1/requests", headers={"authorization": f"Bearer {key}"}, timeout=10, trust_env=False,
            verify=trusted(url),
        )  # fmt: skip
    except httpx.HTTPError as error:
        raise ModelportError(f"The gateway did not answer ({type(error).__name__}); try again.", NOT_READY) from None
    if answer.status_code >= 400:
        message = "This key may not look at requests: it takes one with the scope operate."
        raise ModelportError(message if answer.status_code == 403 else f"The gateway answered {answer.status_code}.")
    return msgspec.json.decode(answer.content, type=list[LiveView])


def _cells(view: "LiveView") -> tuple[str, ...]:
    return (
        view.id,
        f"{view.age_s:.1f} s",
        view.state,
        view.key or "-",
        view.service or "-",
        view.instance or "-",
        view.route,
        str(view.tokens) if view.tokens else "-",
        show.latency(view.first_byte_s),
    )


def _table(views: "Sequence[LiveView]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False, title=f"{len(views)} under way", title_justify="left")
    for column in COLUMNS:
        shown.add_column(column, no_wrap=True)
    for view in views:
        shown.add_row(*map(Text, _cells(view)))
    return shown


def add_to(app: typer.Typer) -> None:
    app.command()(top)
