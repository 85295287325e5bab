"""Where engines run. Each platform is one file and one line of the table."""

from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from modelport.domain.instance import Instance, Observed
from modelport.domain.launch import Launch
from modelport.errors import ModelportError, nearest

PLATFORMS: dict[str, str] = {
    "process": "modelport.platforms.process:ProcessPlatform",
}
"""Name to `module:class`; imported when first used. A class takes the state directory."""
PLANNED = ("docker", "brev", "slurm", "kubernetes", "lepton")
"""Where a plan can be made for, and its command shown, though nothing is started there yet."""


class Platform(Protocol):
    """Launches instances and finds them again. Passed by every member of tests/platforms/conformance.py.

    All are told apart by the labels of their Launch. No method blocks the event loop for long.
    """

    name: str

    async def launch(self, launch: Launch) -> Instance:
        """Start it; idempotent by instance id: a second launch, even at the same time or after a crash in the middle,
        starts nothing more. Raises ModelportError when it cannot be started at all."""
        ...

    async def inspect(self, instance: Instance) -> Observed:
        """What is so now. An instance whose launch never happened is neither running nor ended."""
        ...

    async def listens(self, instance: Instance) -> bool:
        """Whether it is this instance that listens at its URL, and not a stranger that was faster."""
        ...

    def logs(self, instance: Instance, tail: int, follow: bool) -> AsyncIterator[str]:
        """The last `tail` lines of the engine's output, then new ones until it ends if `follow`."""
        ...

    async def stop(self, instance: Instance, grace_s: float) -> None:
        """SIGTERM, up to `grace_s`, SIGKILL; returns when nothing of it is left. Stopping twice is fine."""
        ...

    async def renew(self, instance: Instance, lease_s: float) -> None:
        """The owner lives: let the instance run for another `lease_s`."""
        ...

    async def discover(self, owner: str) -> list[Instance]:
        """Everything of this owner's that runs, found from the resources' own labels, with no local state."""
        ...

    async def forget(self, instance: Instance) -> None:
        """Remove what is kept of an ended instance (logs, exit file)."""
        ...


def load(name: str, state_dir: Path) -> Platform:
    """The platform of that name. Raises ModelportError for an unknown one."""
    if name not in PLATFORMS:
        raise ModelportError(
            f"platform {name!r} is not known; there is {', '.join(PLATFORMS)}.{nearest(name, PLATFORMS)}",
            param="platform",
        )
    module, _, attribute = PLATFORMS[name].partition(":")
    return cast(Platform, getattr(import_module(module), attribute)(state_dir))
