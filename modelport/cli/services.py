"""Commands on services: start, apply, ps, status, logs, stop, rm, restart, usage, version."""

from pathlib import Path
from typing import Annotated, Any

import typer

from modelport.cli import options, show
from modelport.cli.options import Config, Json, ServiceName, StateDir
from modelport.errors import ModelportError

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until it is done.")]


@options.spec_options
def start(
    model: options.Model,
    wanted: dict[str, Any],
    name: options.Name = "",
    replicas: Annotated[int | None, typer.Option(help="Engine processes behind the name.", show_default=False)] = None,
    port: Annotated[str | None, typer.Option(help="A port of its own, or auto.", show_default=False)] = None,
    auth: Annotated[str | None, typer.Option(help="key, or none on its own loopback port.", show_default=False)] = None,
    idle_timeout: Annotated[
        str | None, typer.Option(help="Stop after so long without requests: 30m, 0 is never.", show_default=False)
    ] = None,
    wait: Wait = True,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Start a service for a model, on the Modelport that serves."""
    from modelport.serve import verbs

    spec = options.spec(
        **wanted,
        model=located(model),
        name=name or None,
        replicas=replicas,
        port=int(port) if port and port.isascii() and port.isdigit() else port,
        auth=auth,
        idle_timeout=idle_timeout,
    )
    control = verbs(options.settings(config, state_dir=state_dir))
    service = control.start(spec)
    if wait:
        service = show.wait_ready(control, service.name, quiet=json)
    if json:
        show.as_json(service)
    else:
        typer.echo(f"{service.name} is {service.state} at {service.url or 'no URL: no gateway runs'}")


def apply(
    file: Annotated[Path, typer.Argument(help="YAML with `services:`.", show_default=False)],
    wait: Wait = True,
    json: Json = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Make services be as a file says; running ones are changed without losing a request."""
    from modelport.domain.spec import parse_file
    from modelport.serve import verbs

    specs = [
        spec.model_copy(update={"model": located(spec.model, file.parent)})
        for spec in parse_file(_yaml(file), str(file))
    ]
    control = verbs(options.settings(config, state_dir=state_dir))
    services = control.apply(specs)
    if wait:
        services = [show.wait_ready(control, service.name, quiet=json) for service in services]
    if json:
        show.as_json(services)
    else:
        for service in services:
            typer.echo(f"{service.name} is {service.state} at {service.url or 'no URL: no gateway runs'}")


def ps(json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """List services."""
    from modelport.serve import verbs

    services = verbs(options.settings(config, state_dir=state_dir)).list()
    if json:
        return show.as_json(services)
    show.table(
        ("NAME", "STATE", "MODEL", "REPLICAS", "URL", "LAST REQUEST", "REASON"),
        (
            (
                s.name,
                s.state,
                s.spec.model,
                f"{sum(i.state == 'ready' for i in s.instances)}/{s.spec.replicas}",
                s.url,
                show.ago(s.last_request_at),
                s.reason or "-",
            )
            for s in services
        ),
    )


def status(service: ServiceName, json: Json = False, state_dir: StateDir = None, config: Config = None) -> None:
    """Show one service with its instances."""
    from modelport.serve import verbs

    found = verbs(options.settings(config, state_dir=state_dir)).status(service)
    show.as_json(found) if json else show.details(found)


def logs(
    service: ServiceName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", help="Lines to begin with.", min=0)] = 100,
    state_dir: StateDir = None,
    config: Config = None,
) -> None:
    """Print what a service's engines print."""
    from modelport.serve import verbs

    for line in verbs(options.settings(config, state_dir=state_dir)).logs(service, tail, follow):
        typer.echo(line)


def stop(
    service: ServiceName, wait: Wait = True, json: Json = False, state_dir: StateDir = None, config: Config = None
) -> None:
    """Stop a service once its requests in flight are answered; its name is kept."""
    from modelport.serve import verbs

    control = verbs(options.settings(config, state_dir=state_dir))
    view = control.stop(service)
    if wait:
        show.wait_ended(control, view.id)
        view = control.status(view.id)
    show.as_json(view) if json else typer.echo(f"{view.name} is {view.state}")


def rm(
    service: ServiceName, wait: Wait = True, json: Json = False, state_dir: StateDir = None, config: Config = None
) -> None:
    """Stop a service and forget it."""
    from modelport.serve import verbs

    control = verbs(options.settings(config, state_dir=state_dir))
    view = control.remove(service)
    if wait:
        show.wait_ended(control, view.id)
    show.as_json(view) if json else typer.echo(f"{view.name} is {'removed' if wait else 'being removed'}")


def restart(
    service: ServiceName, wait: Wait = True, json: Json = False, state_dir: StateDir = None, config: Config = None
) -> None:
    """Replace a service's engines, one rolling change; start it if it sleeps, was stopped or had failed."""
    from modelport.serve import verbs

    control = verbs(options.settings(config, state_dir=state_dir))
    view = control.restart(service)
    if wait:
        view = show.wait_ready(control, view.name, quiet=json)
    show.as_json(view) if json else typer.echo(f"{view.name} is {view.state} at {view.url}")


def version() -> None:
    """Print the version."""
    from modelport import __version__

    typer.echo(f"modelport {__version__}")


def add_to(app: typer.Typer) -> None:
    for command in (start, apply, ps, status, logs, stop, rm, restart, version):
        app.command()(command)


def located(model: str, base: Path | None = None) -> str:
    """A path as control sees it, which runs elsewhere: absolute. A path is what exists here or is written as one, with
    `./`, `../`, `/` or `~` in front. Aliases and names of what lies elsewhere stay as they are."""
    from modelport.serve import is_alias

    if not model or is_alias(model):
        return model
    try:
        path = (base or Path()) / Path(model).expanduser()
        looks_like_path = model.startswith(("./", "../", "/", "~")) or path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, a home nobody has, a NUL: the catalog says so
        return model
    return str(path.absolute()) if looks_like_path else model


def _yaml(file: Path) -> object:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice, of which YAML would silently take the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if doubles := [name for name in names if names.count(name) > 1]:
                raise ModelportError(f"{file} has the key {doubles[0]!r} twice (line {node.start_mark.line + 1} on).")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(file.read_text(), Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise ModelportError(f"{file} is nested too deeply.") from None
    except OSError as error:
        raise ModelportError(f"{file} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise ModelportError(f"{file} is not YAML{where}.") from None
