"""`modelport run`: a model, ready to be asked, with one command; nothing is left behind."""

import contextlib
import json as jsonlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir
from modelport.domain.key import KeySpec
from modelport.domain.units import show_seconds
from modelport.errors import ModelportError

if TYPE_CHECKING:
    from modelport.domain.service import ServiceView
    from modelport.domain.spec import Spec
    from modelport.domain.verbs import Verbs
    from modelport.settings import Settings

KEY_LIFE_S = 7 * 86400.0


@options.spec_options
def run(
    model: options.Model,
    wanted: dict[str, Any],
    prompt: Annotated[str | None, typer.Option(help="Ask this, print the answer, and end.", show_default=False)] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer to --prompt.", min=1)] = 256,
    name: options.Name = "",
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 is any.", show_default=False)] = None,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Run a model: on the Modelport that serves already, else on one of its own. With --prompt it answers (at
    temperature 0: the same prompt, the same answer) and ends, without it serves until Ctrl-C. Either way nothing of it
    is left."""
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):  # end like Ctrl-C: nothing is left then either
        signal.signal(number, signal.default_int_handler)
    from modelport.cli.services import located

    settings = options.settings(config, state_dir=state_dir, host=host, port=port)
    spec = options.spec(**wanted, model=located(model), name=name, idle_timeout=0)
    with _control(settings, once=prompt is not None) as control, _service(control, spec, json) as (service, key):
        ready_s = time.monotonic() - began
        if prompt is None:
            _announce(service, key, ready_s, json)
            _until_interrupted()
        else:
            _answer(service, key, prompt, max_tokens, ready_s, json)


@contextlib.contextmanager
def _control(settings: "Settings", *, once: bool) -> "Iterator[Verbs]":
    """The control that serves already, or a private one for as long as this lasts."""
    from modelport import serve as wiring

    if settings.socket.exists() and wiring.running(settings):
        yield wiring.verbs(settings)
        return
    with wiring.private(settings, any_port=once) as own, wiring.background(own):
        yield wiring.verbs(own)


@contextlib.contextmanager
def _service(control: "Verbs", wanted: "Spec", quiet: bool) -> "Iterator[tuple[ServiceView, str]]":
    """The service, ready, and a key for it; both are gone afterwards, unless the service was there before."""
    before = {service.name: service for service in control.list()}
    if (found := before.get(wanted.name)) and found.spec.engine_hash() == wanted.engine_hash():
        wanted = found.spec  # the same model in the same way: use it as it is
    ours = found is None or _others(control, wanted.name)
    key = control.create_key(KeySpec(name=f"run {wanted.name}", models=(wanted.name,), expires_in_s=KEY_LIFE_S))
    try:
        control.start(wanted)
        yield show.wait_ready(control, wanted.name, quiet=quiet), key.secret or ""
    finally:
        with contextlib.suppress(ModelportError):
            control.revoke_key(key.id)
        with contextlib.suppress(ModelportError):
            if ours and not _others(control, wanted.name):
                control.remove(wanted.name)
                show.wait_ended(control, wanted.name)
            elif found and found.desired == "stopped":
                control.stop(wanted.name)


def _others(control: "Verbs", name: str) -> bool:
    """Whether another run uses this service: the last one to end takes it away. Their keys tell."""
    return any(key.name == f"run {name}" and not key.revoked_at for key in control.list_keys())


def _announce(service: "ServiceView", key: str, ready_s: float, json: bool) -> None:
    embeds = service.spec.task == "embed"
    question: dict[str, Any] = (
        {"input": "Hello"}
        if embeds
        else {"temperature": 0, "messages": [{"role": "user", "content": "Which city is the capital of France?"}]}
    )
    body = jsonlib.dumps({"model": service.name, **question})
    path = "/embeddings" if embeds else "/chat/completions"
    curl = (
        f"curl {service.url}{path} -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' "
        f"-d {shlex.quote(body)}"
    )
    if json:
        show.as_json(
            {"url": service.url, "model": service.name, "key": key, "curl": curl, "ready_s": round(ready_s, 3)}
        )
    else:
        typer.echo(f"{service.name} is ready after {show_seconds(ready_s)}.")
        typer.echo(f"URL   {service.url}\nkey   {key}\nmodel {service.name}\n\n{curl}\n\nCtrl-C stops it.")
    sys.stdout.flush()


def _answer(service: "ServiceView", key: str, prompt: str, max_tokens: int, ready_s: float, json: bool) -> None:
    from modelport.cli import inference

    if service.spec.task == "embed":
        answer = inference.embed(service.url, key, service.name, prompt)
        return show.as_json(
            {"embedding": answer["data"][0]["embedding"], "usage": answer["usage"], "ready_s": round(ready_s, 3)}
        )
    messages = [{"role": "user", "content": prompt}]
    body = {"model": service.name, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    if not json:
        for piece in inference.stream_chat(service.url, key, body):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return
    answer = inference.chat(service.url, key, body)
    choice = answer["choices"][0]
    show.as_json(
        {
            "model": service.name,
            "text": choice["message"]["content"],
            "finish_reason": choice["finish_reason"],
            "usage": answer["usage"],
            "ready_s": round(ready_s, 3),
        }
    )


def _until_interrupted() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()


def add_to(app: typer.Typer) -> None:
    app.command()(run)
