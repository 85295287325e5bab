"""`modelport endpoint`: a model served as the environment says (TARGET_MODEL, ACCELERATORS, ENGINE, …)."""

import contextlib
import os
import signal
from typing import Annotated

import typer

from modelport.cli import options
from modelport.cli.options import Config, StateDir


def endpoint(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--plan-only", help="Print the plan and the command, and end.")
    ] = False,
    inputs: Annotated[bool, typer.Option("--inputs", help="List the variables with their defaults, and end.")] = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Serve what the environment says until Ctrl-C, with the variables of a job: TARGET_MODEL and, where wanted,
    ACCELERATORS, ENGINE, PORT, … (--inputs lists them). Exit 1 with one sentence when it cannot be."""
    from modelport import serve as wiring
    from modelport.endpoint import job
    from modelport.endpoint.inputs import spec_from, token

    if inputs:
        return _list()
    for number in (signal.SIGTERM, signal.SIGHUP):  # end like Ctrl-C: nothing is left then either
        signal.signal(number, signal.default_int_handler)
    wanted = spec_from(os.environ)
    settings = options.settings(
        config,
        state_dir=state_dir,
        host=wanted.host,
        port=wanted.port,
        # The job's own deadline ends it first, with the server's last lines.
        start_timeout=wanted.health_timeout_s + 60,
    )
    if found := token(os.environ):
        os.environ["HF_TOKEN"] = found  # by one name for all that we start
    planned = job.planned(wiring.plans(settings), wanted, _say, start=not dry_run)
    if dry_run:
        return
    job.must_be_free(wanted)
    with (
        contextlib.suppress(KeyboardInterrupt),
        wiring.private(settings, any_port=False) as own,
        wiring.background(own),
    ):
        verbs = wiring.verbs(own)
        service = job.started(verbs, planned, _say, _say_error)
        job.announce(verbs, planned, service, _say)
        job.follow(verbs, service, _say, _say_error)


def _list() -> None:
    from modelport.cli import show
    from modelport.endpoint.inputs import INPUTS

    show.table(("VARIABLE", "DEFAULT", "WHAT"), ((i.name, i.default or "-", i.what) for i in INPUTS))


def _say(line: str) -> None:
    typer.echo(line)


def _say_error(line: str) -> None:
    typer.echo(line, err=True)


def add_to(app: typer.Typer) -> None:
    app.command()(endpoint)
