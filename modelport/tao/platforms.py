"""Platforms: what TAO calls the places where a service runs, what ours are called, and what each has to be told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelport.errors import ModelportError, nearest


@dataclass(frozen=True, slots=True)
class Platform:
    name: str
    """As the registry has it."""
    ours: str
    """As a Spec has it."""
    backend: str
    """What TAO_EXECUTION_BACKEND says there."""
    aliases: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    """What a start may be told beside the rest."""
    required: Mapping[str, str] | None = None
    """Those of them it cannot do without: input to the environment variable that says it else, or empty."""


PLATFORMS = {
    platform.name: platform
    for platform in (
        Platform("process", "process", "local-docker"),
        Platform("local-docker", "docker", "local-docker", ("docker",)),
        Platform(
            "brev", "brev", "local-docker", (), ("instance_id", "cloud_cred_id", "workspace_group_id")
        ),
        Platform("lepton", "lepton", "lepton", ("dgx-cloud",), ("resource_shape", "dedicated_node_group"),
                 {"resource_shape": ""}),
        Platform("slurm", "slurm", "slurm", ("cluster",), ("partition", "account"),
                 {"partition": "SLURM_PARTITION", "account": "SLURM_ACCOUNT"}),
        Platform("kubernetes", "kubernetes", "local-k8s", ("k8s", "local-k8s"), ("namespace", "image_pull_secret")),
    )
}  # fmt: skip
PRIVATE_IMAGES = "nvcr.io/"
"""Images below it can be pulled with a key alone, which Kubernetes takes from a secret of its own."""
_NAMES = {alias: platform for platform in PLATFORMS.values() for alias in (platform.name, *platform.aliases)}
_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,252}")


def find(name: str) -> Platform:
    """By name or alias, in any case. Raises ModelportError with the nearest one."""
    found = _NAMES.get(name.strip().lower())
    if found is None:
        raise ModelportError(
            f"The platform {name[:80]!r} is not known; there is {', '.join(PLATFORMS)}.{nearest(name, _NAMES)}",
            param="platform",
        )
    return found


def labels(platform: Platform, given: Mapping[str, str], image: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a platform was told, as labels of the service: `tao.<input>`. Raises ModelportError for what it does not
    take, lacks, or cannot read."""
    if strange := next((name for name in given if name not in platform.inputs), None):
        raise ModelportError(f"{platform.name} takes no {strange}; it takes {', '.join(platform.inputs) or 'nothing'}.")
    told = dict(given)
    for name, variable in (platform.required or {}).items():
        if not told.get(name) and not (told.setdefault(name, environ.get(variable, "")) if variable else ""):
            where = f", or set {variable}" if variable else ""
            raise ModelportError(f"{platform.name} needs {name}: give it by --on {name}=…{where}.", param=name)
    if platform.name == "kubernetes":
        told.setdefault("namespace", "default")
        if image.startswith(PRIVATE_IMAGES) and not told.get("image_pull_secret"):
            raise ModelportError(
                f"{image} is a private image: name the Kubernetes secret it is pulled with by --on image_pull_secret=…",
                param="image_pull_secret",
            )
    for name, text in told.items():
        if not _TEXT.fullmatch(text):
            raise ModelportError(f"{name} is {text[:80]!r}, which is no name of the kind {platform.name} has.")
    return {f"tao.{name.replace('_', '-')}": text for name, text in told.items()}
