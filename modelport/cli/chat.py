"""`modelport chat`: talk with a running service in the terminal."""

import sys
from typing import Annotated, Any

import typer

from modelport.cli import options
from modelport.cli.options import Config, StateDir
from modelport.errors import NOT_FOUND, UNAUTHORIZED, ModelportError


def chat(
    service: Annotated[str, typer.Argument(help="A service's name; the only one by default.", show_default=False)] = "",
    system: Annotated[str, typer.Option(help="What the model is told first.", show_default=False)] = "",
    max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 512,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Talk with a model. An empty line or Ctrl-D ends."""
    import os

    from modelport.cli.inference import stream_chat
    from modelport.serve import admin_key, verbs

    settings = options.settings(config, state_dir=state_dir)
    found = verbs(settings).list()
    if not service:
        if len(found) != 1:
            names = ", ".join(s.name for s in found) or "none"
            raise ModelportError(f"Name the service to talk with; there is: {names}.", NOT_FOUND)
        service = found[0].name
    view = verbs(settings).status(service)
    key = os.environ.get("MODELPORT_KEY") or admin_key(settings)
    if key is None:
        raise ModelportError("No key: set MODELPORT_KEY.", UNAUTHORIZED)
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    while (line := _ask()).strip():
        messages.append({"role": "user", "content": line})
        answer = ""
        body = {"model": view.name, "messages": messages, "max_tokens": max_tokens}
        for piece in stream_chat(view.url, key, body):
            answer += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        messages.append({"role": "assistant", "content": answer})


def _ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return ""


def add_to(app: typer.Typer) -> None:
    app.command()(chat)
