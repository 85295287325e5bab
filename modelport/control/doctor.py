"""Doctor: the checks of `modelport doctor`. Each finds one thing out and says it in words."""

from collections.abc import Callable
from dataclasses import dataclass

from modelport import __version__, engines, planner
from modelport.control.ports import is_free
from modelport.domain.units import show_bytes
from modelport.errors import ModelportError
from modelport.settings import Settings
from modelport.store.database import prepare


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    found: str


def examine(settings: Settings, serving: str) -> list[Check]:
    """Every check's finding. `serving`: the URL of the Modelport that runs on these settings, or ''."""
    checks: dict[str, Callable[[], str]] = {
        "version": lambda: __version__,
        "state directory": lambda: _state(settings),
        "control socket": lambda: str(settings.socket),
        "port": lambda: _port(settings, serving),
        "memory": _memory,
        "engines": _engines,
    }
    return [_check(name, look) for name, look in checks.items()]


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except ModelportError as error:
        return Check(name, False, error.message)


def _state(settings: Settings) -> str:
    prepare(settings.state_dir)
    return str(settings.state_dir)


def _port(settings: Settings, serving: str) -> str:
    if serving:
        return f"a Modelport serves at {serving}"
    if settings.port and not is_free(settings.port, settings.host):
        raise ModelportError(f"Port {settings.port} is in use by another program; set another with --port.")
    return f"{settings.port} is free on {settings.host}"


def _memory() -> str:
    return "; ".join(
        f"{d.name}: {show_bytes(d.free_bytes)} free of {show_bytes(d.total_bytes)}" for d in planner.devices()
    )


def _engines() -> str:
    found = {name: engines.load(name).installed() for name in engines.ENGINES}
    if not any(found.values()):
        raise ModelportError("none is installed: put `llama-server` on PATH, or `pip install 'modelport[local]'`.")
    return "; ".join(f"{name}: {how or 'not installed'}" for name, how in found.items())
