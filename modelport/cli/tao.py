"""`modelport tao`: TAO's inference service: start, request, status, list, logs, stop. The same as Python functions is
modelport.tao.skill."""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, StateDir
from modelport.errors import UNAUTHORIZED, ModelportError

if TYPE_CHECKING:
    from modelport.tao.sampling import Parameter, Value
    from modelport.tao.wanted import Wanted

app = typer.Typer(
    help="TAO's inference services: start one, ask it, stop it.", no_args_is_help=True, rich_markup_mode=None
)


JobOption = Annotated[str, typer.Option(help="Which service, by its job id.", show_default=False)]
Arch = Annotated[str, typer.Option(help="cosmos-rl, cosmos-predict2.5 or tao-dataservices.", show_default=False)]
Job = Annotated[str, typer.Argument(help="A job id; the only service by default.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until it is done.")]


@app.command()
def start(
    arch: Arch = "",
    model_path: Annotated[
        str, typer.Option(help="hf_model://org/name of the Hub, or an absolute path.", show_default=False)
    ] = "",
    platform: Annotated[str, typer.Option(help="process, docker, …")] = "process",
    gpus: Annotated[str, typer.Option(help="How many, or NAME:COUNT.")] = "1",
    engine: Annotated[str, typer.Option(help="auto, or the architecture's name for TAO's own container.")] = "auto",
    image: Annotated[
        str, typer.Option(help="The container image, in place of the one it would be.", show_default=False)
    ] = "",
    versions: Annotated[
        Path | None,
        typer.Option(help="Your versions.yaml of images.", envvar="MODELPORT_TAO_VERSIONS", show_default=False),
    ] = None,
    sidecars: Annotated[
        Path | None, typer.Option(help="A directory of {arch}.config.json files.", show_default=False)
    ] = None,
    hf_token_ref: Annotated[
        str, typer.Option(help="Where the Hub's token is: env:HF_TOKEN or file:/path.", show_default=False)
    ] = "",
    workspace: Annotated[str, typer.Option(help="A workspace for models and media.", show_default=False)] = "",
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="A spec of the job, like torch_dtype=bfloat16; repeat it.", metavar="NAME=VALUE", show_default=False
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(help="A variable of its environment; repeat it.", metavar="NAME=VALUE", show_default=False),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            help="What the platform is told, like partition=batch; repeat it.", metavar="NAME=VALUE", show_default=False
        ),
    ] = None,
    idle_timeout: Annotated[
        str, typer.Option(help="End it after so long without requests: 30m, 0 is never.", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be started, and start nothing.")] = False,
    wait: Wait = True,
    timeout: Annotated[float, typer.Option(help="Longest wait for it to be ready, in seconds.", min=1)] = 600,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Start a service. Its job id says which one is meant from then on."""
    from modelport.serve import verbs
    from modelport.tao import skill

    wanted = skill.Wanted(
        network_arch=arch or _ask("arch", "which architecture"),
        model_path=model_path or _ask("model-path", "hf_model://org/name, or an absolute path"),
        platform=platform,
        gpus=gpus,
        engine=engine,
        image=image,
        versions=versions,
        sidecars=sidecars,
        hf_token_ref=hf_token_ref,
        workspace=workspace,
        options={name: _typed(text) for name, text in _pairs("--option", option)},
        env=dict(_pairs("--env", env)),
        on=dict(_pairs("--on", on)),
        idle_timeout=idle_timeout or None,
    )
    settings = options.settings(config, state_dir=state_dir)
    if dry_run:
        return _preview(wanted, state_dir, config)
    key = _key(state_dir, config) if wait else ""
    control = verbs(settings)
    service = skill.start(control, wanted)
    for line in skill.announcement(service):
        typer.echo(line)
    if wait:
        skill.wait(control, service.id, key, timeout_s=timeout, say=_say, verify=_trusted(service.url))
        _say("It is ready.")


@app.command()
def request(
    job_id: JobOption = "",
    arch: Arch = "",
    prompt: Annotated[str, typer.Option(help="What to ask.", show_default=False)] = "",
    system: Annotated[str, typer.Option(help="What the model is told first.", show_default=False)] = "",
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture: a file, an http(s) URL or a data: URI; repeat it.", metavar="IMAGE", show_default=False
        ),
    ] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(help="A video, in the same ways; repeat it.", metavar="VIDEO", show_default=False),
    ] = None,
    body: Annotated[
        Path | None, typer.Option(help="A JSON file with the whole body instead.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        str, typer.Option(help="Longest answer in tokens; frames of a video.", show_default=False)
    ] = "",
    top_p: Annotated[str, typer.Option(help="Share of probability sampled from.", show_default=False)] = "",
    temperature: Annotated[str, typer.Option(help="How freely.", show_default=False)] = "",
    guidance: Annotated[
        str, typer.Option(help="cosmos-predict2.5: how closely the prompt is followed, 0 to 7.", show_default=False)
    ] = "",
    num_steps: Annotated[str, typer.Option(help="cosmos-predict2.5: steps of diffusion.", show_default=False)] = "",
    seed: Annotated[
        str, typer.Option(help="cosmos-predict2.5: the same seed, the same video.", show_default=False)
    ] = "",
    negative_prompt: Annotated[
        str, typer.Option(help="cosmos-predict2.5: what must not be seen.", show_default=False)
    ] = "",
    defaults: Annotated[bool, typer.Option("--defaults", help="Take the defaults of what is not given.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="File for the answer; a video needs one.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(help="Longest wait for the answer, in seconds.", min=300)] = 300,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Ask a service. What is sampled is asked for in a terminal; elsewhere it has to be given, or --defaults."""
    from modelport.serve import verbs
    from modelport.tao import requests, sampling, skill
    from modelport.tao.wanted import ARCH

    control = verbs(options.settings(config, state_dir=state_dir))
    target = skill.target(control, job_id, arch)
    name = target.spec.labels[ARCH]
    options_ = {
        **{"max_tokens": max_tokens, "top_p": top_p, "temperature": temperature, "guidance": guidance},
        **{"num_steps": num_steps, "seed": seed, "negative_prompt": negative_prompt},
    }
    values = sampling.read(name, {parameter: text for parameter, text in options_.items() if text})
    whole = requests.from_file(body) if body else None
    if name in skill.VIDEO_ARCHS and output is None:
        raise ModelportError(f"{name} answers with a video: give --output FILE for it.", param="output")
    if not defaults and _terminal():
        open_ = sampling.missing(name, {**requests.own(name, whole or {}), **values})
        values |= _asked(open_)
        defaults = True  # what was skipped
    _writable(output)
    answer = skill.request(
        control,
        _key(state_dir, config),
        prompt,
        job_id=target.id,
        system=system,
        images=image or (),
        videos=video or (),
        body=whole,
        parameters=values,
        defaults=defaults,
        timeout_s=timeout,
        say=_say,
        verify=_trusted(target.url),
    )
    if output is None:
        return typer.echo(answer.text)
    _write(output, answer.video if answer.video is not None else answer.text.encode())
    typer.echo(f"The answer is in {output}")


@app.command()
def status(job: Job = "", json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Show how a service does."""
    from modelport.serve import verbs
    from modelport.tao import skill

    facts = skill.facts(skill.status(verbs(options.settings(config, state_dir=state_dir)), job))
    show.as_json(facts) if json else show.table(("", ""), ((k, "-" if v == "" else v) for k, v in facts.items()))


@app.command("list")
def list_(
    json: Json = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the registry of what runs to this file.", show_default=False)
    ] = None,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """List services. --json and --export give the registry: what runs, by job id, and the latest."""
    from modelport.serve import verbs
    from modelport.tao import registry, skill

    control = verbs(options.settings(config, state_dir=state_dir))
    if export:
        registry.export(export.absolute(), lambda: skill.list(control))
        _say(f"The registry is in {export}")
    if json:
        show.as_json(skill.list(control))
    elif not export:
        own = [view for view in control.list() if registry.started_here(view)]
        found = [skill.facts(view) for view in sorted(own, key=registry.order)]
        columns = ("job_id", "network_arch", "state", "host_url", "started_at", "reason")
        show.table([c.upper().replace("_", " ") for c in columns], ([row[c] or "-" for c in columns] for row in found))


@app.command()
def logs(
    job: Job = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", help="Lines to begin with.", min=0)] = 100,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Print what a service's engine prints."""
    from modelport.serve import verbs
    from modelport.tao import skill

    for line in skill.logs(verbs(options.settings(config, state_dir=state_dir)), job, tail=tail, follow=follow):
        typer.echo(line)


@app.command()
def stop(job: Job = "", wait: Wait = True, state_dir: StateDir = None, config: Config = None) -> None:
    """End a service for good. Without a job id only where exactly one runs."""
    from modelport.serve import verbs
    from modelport.tao import skill

    control = verbs(options.settings(config, state_dir=state_dir))
    view = skill.stop(control, job, _say)
    if wait:
        show.wait_ended(control, view.id)
    typer.echo(f"Inference service {view.id} is {'stopped' if wait else 'being stopped'}.")


def _preview(wanted: "Wanted", state_dir: Path | None, config: Path | None) -> None:
    from modelport.serve import plans
    from modelport.tao import skill

    order, plan = skill.plan(plans(options.settings(config, state_dir=state_dir)), wanted)
    names = sorted({*order.spec.env, *plan.env})
    typer.echo(f"image: {order.image.uri} (by {order.image.origin})")
    typer.echo(f"engine: {plan.engine}: {plan.sentence}")
    typer.echo(f"argv: {shlex.join(plan.argv) or plan.unlaunchable or '-'}")
    typer.echo(f"env: {' '.join(names) or '-'}")
    typer.echo(f"docker run: {shlex.join(plan.container) or f'none on {order.spec.platform} with {plan.engine}'}")


def _asked(parameters: "list[Parameter]") -> "dict[str, Value]":
    """What somebody at the terminal enters, one round for all; Enter leaves one out, which is its default then."""
    found: dict[str, Value] = {}
    for parameter in parameters:
        question = f"{parameter.name} ({parameter.type}, {parameter.means}) [{parameter.shown_default}]"
        while text := typer.prompt(question, default="", show_default=False, err=True).strip():
            try:
                found[parameter.name] = parameter.read(text)
                break
            except ModelportError as error:
                _say(error.message)
    return found


def _ask(option: str, what: str) -> str:
    if not _terminal():
        raise ModelportError(f"--{option} is needed: {what}.", param=option)
    return typer.prompt(f"--{option} ({what})", err=True).strip()


def _terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _pairs(flag: str, given: Iterable[str] | None) -> list[tuple[str, str]]:
    """Raises ModelportError; a value is never repeated in it, because it may be a secret."""
    found: list[tuple[str, str]] = []
    for one in given or ():
        name, equals, text = one.partition("=")
        if not equals or not name.strip():
            raise ModelportError(f"{flag} is NAME=VALUE, and one of them has no name or no `=`.")
        found.append((name.strip(), text))
    return found


def _typed(text: str) -> str | int | float | bool:
    """As YAML would read it: true, 3, 0.5, else a text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _key(state_dir: Path | None, config: Path | None) -> str:
    from modelport.serve import admin_key

    key = os.environ.get("MODELPORT_KEY") or admin_key(options.settings(config, state_dir=state_dir))
    if key is None:
        raise ModelportError("No key: set MODELPORT_KEY.", UNAUTHORIZED)
    return key


def _trusted(url: str) -> Any:
    from modelport.cli.inference import trusted

    return trusted(url)


def _writable(path: Path | None) -> None:
    """Raises ModelportError for a place that no answer could be written to: before one is asked for."""
    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK | os.X_OK)):
        raise ModelportError(f"{path} cannot be written: name a file in a directory that is there and yours.")


def _write(path: Path, data: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ModelportError(f"{path} cannot be written: {error.strerror}.") from None


def _say(line: str) -> None:
    typer.echo(line, err=True)


def add_to(main: typer.Typer) -> None:
    main.add_typer(app, name="tao")
