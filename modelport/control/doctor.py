"""Doctor: the checks of `modelport doctor`. Each finds one thing out and says it in words."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelport import __version__, catalog, engines, planner
from modelport.catalog.hub_name import hub_name
from modelport.control import planning
from modelport.control.ports import is_free
from modelport.control.token import whoami
from modelport.domain.facts import ModelFacts
from modelport.domain.spec import Spec
from modelport.domain.units import show_bytes
from modelport.errors import ModelportError
from modelport.planner.cgroup import limits
from modelport.settings import Settings
from modelport.statedir import prepare

DRIVERS = (
    (("nvidia-smi",), "NVIDIA driver {}, CUDA up to {}", r"Driver Version:\s*(\S+)\s+CUDA Version:\s*(\S+)"),
    (("rocm-smi", "--showdriverversion"), "AMD driver {}", r"Driver version:\s*(\S+)"),
)
"""What is asked for the driver's version, how that is said, and where it stands in the answer."""
PROBE_TIMEOUT_S = 10.0
CONTAINERS = ("docker", "podman")


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    found: str


def examine(settings: Settings, serving: str, wanted: Spec | None = None) -> list[Check]:
    """Every check's finding. `serving`: the URL of the Modelport that runs on these settings, or ''. With a Spec also
    what its start would meet; nothing is started or downloaded."""
    checks: dict[str, Callable[[], str]] = {
        "version": lambda: __version__,
        "state directory": lambda: _state(settings),
        "control socket": lambda: str(settings.socket),
        "port": lambda: _port(settings, serving),
        "memory": _memory,
        "memory limit": _memory_limit,
        "driver": _driver,
        "engines": _engines,
    }
    found = [_check(name, look) for name, look in checks.items()]
    return found if wanted is None else [*found, *_of_model(wanted)]


def _of_model(wanted: Spec) -> Iterator[Check]:
    """What stands between a model and its start. The first that is wrong ends the row: the others hang on it."""
    if hub_name(wanted.model):
        yield (token := _check("token", whoami))
        if not token.ok:
            return
    try:
        facts = catalog.resolve(wanted.model)
    except ModelportError as error:
        yield Check("model", False, error.message)
        return
    yield Check("model", True, _described(facts))
    yield Check("licence", True, _licence(facts))
    checks: dict[str, Callable[[], str]] = {
        "engine": lambda: _engine(wanted, facts),
        "download": lambda: _download(facts),
        "fits": lambda: planning.must_fit(planning.prepare(wanted)).plan.sentence(),
    }
    for name, look in checks.items():
        yield _check(name, look)


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


def _memory_limit() -> str:
    bounds = limits()
    if not bounds:
        return "none but the machine's"
    least = min(bounds, key=lambda bound: bound.free_bytes)
    return f"{show_bytes(least.limit_bytes)}, of which {show_bytes(least.free_bytes)} are free (cgroup)"


def _driver() -> str:
    for command, words, pattern in DRIVERS:
        if not shutil.which(command[0]):
            continue
        try:
            done = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            raise ModelportError(f"{command[0]} does not answer; its driver hangs or is damaged.") from None
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        if done.returncode:
            last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
            raise ModelportError(f"{command[0]} fails: {last[:200]}")
        match = re.search(pattern, text)
        return words.format(*match.groups()) if match else f"{command[0]} works; it says no version"
    return "none for GPUs: engines run on the CPU"


def _engines() -> str:
    found = {name: engines.load(name).installed() for name in engines.ENGINES}
    if not any(found.values()):
        raise ModelportError("none is installed: put `llama-server` on PATH, or `pip install 'modelport[local]'`.")
    return "; ".join(f"{name}: {how or 'not installed'}" for name, how in found.items())


def _described(facts: ModelFacts) -> str:
    size = f"{facts.parameters / 1e9:.2f} B parameters, {show_bytes(facts.weight_bytes)}"
    return f"{facts.architecture} ({facts.format}), {size}, {facts.quantization}"


def _licence(facts: ModelFacts) -> str:
    terms = facts.licence or "not said by its files"
    if facts.note:
        return f"{terms}. {facts.note}"
    return f"{terms}; gated, and this token has access" if facts.gated else terms


def _engine(wanted: Spec, facts: ModelFacts) -> str:
    engine = engines.choose(wanted.engine, facts)
    if how := engine.installed():
        return f"{engine.name}: {how}"
    runtime = next((name for name in CONTAINERS if shutil.which(name)), "")
    beside = f"{runtime} is here, but this Modelport starts processes only" if runtime else "no docker or podman either"
    raise ModelportError(f"{engine.name} would serve it and is not installed here ({beside}).")


def _download(facts: ModelFacts) -> str:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    name = hub_name(facts.path)
    blobs = home / "hub" / f"models--{name.repository.replace('/', '--')}" / "blobs" if name else home / "none"
    there = sum(file.stat().st_size for file in blobs.iterdir() if file.is_file()) if blobs.is_dir() else 0
    missing = max(0, facts.download_bytes - there)
    if not missing:
        return "nothing: it is on this machine"
    free = shutil.disk_usage(next(path for path in (home, *home.absolute().parents) if path.exists())).free
    if free < missing:
        raise ModelportError(
            f"{show_bytes(missing)} have to be downloaded, and {home} has {show_bytes(free)} free; free some, or set "
            "HF_HOME to a larger disk."
        )
    return f"{show_bytes(missing)}; {show_bytes(free)} are free in {home}"
