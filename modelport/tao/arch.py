"""Arch: the network architectures that TAO's inference service has a command for, as a table."""

from dataclasses import dataclass

from modelport.errors import ModelportError, nearest


@dataclass(frozen=True, slots=True)
class Arch:
    """One of them. Its name is also that of the engine which runs TAO's own container for it."""

    name: str
    job_payload: bool
    """Whether its container is told by a job's JSON; else by flags."""
    bare_hub_id: bool
    """Whether `org/model` alone is a model path for it."""


ARCHS = {
    arch.name: arch
    for arch in (
        Arch("cosmos-rl", job_payload=True, bare_hub_id=True),
        Arch("cosmos-predict2.5", job_payload=False, bare_hub_id=False),
        Arch("tao-dataservices", job_payload=True, bare_hub_id=True),
    )
}


def find(name: str) -> Arch:
    """By name, in any case. Raises ModelportError for one that has no inference service."""
    found = ARCHS.get(name.strip().lower())
    if found is None:
        raise ModelportError(
            f"TAO has no inference service for the architecture {name[:80]!r}; there is {', '.join(ARCHS)}."
            f"{nearest(name, ARCHS)}",
            param="network_arch",
        )
    return found
