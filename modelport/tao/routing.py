"""Routing: which running service a request is for. It is never guessed: where several could be meant, they are listed
and one has to be named. And whether a body is one that this kind of service understands."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelport.domain.service import ServiceView
from modelport.errors import NOT_FOUND, ModelportError
from modelport.tao import arch as archs
from modelport.tao import registry
from modelport.tao.content import media_items
from modelport.tao.sampling import ONLY

START = "start one with `modelport tao start`"


def target(views: Sequence[ServiceView], job_id: str = "", network_arch: str = "") -> ServiceView:
    """The one service that is meant: by id (or name), else the only one of the architecture, else the only one there
    is. Raises ModelportError, with the list, for none and for several."""
    running = [view for view in views if registry.started_here(view) and registry.runs(view)]
    if job_id:
        found = next((view for view in running if job_id in (view.id, view.name)), None)
        if found is None:
            raise ModelportError(
                f"No running inference service found for job_id={job_id[:80]}{_known(running)}", NOT_FOUND
            )
        if network_arch and registry.arch(found) != archs.find(network_arch).name:
            raise ModelportError(
                f"job_id={found.id} is of the architecture {registry.arch(found)}, not {network_arch[:80]}; give one "
                "of the two, or both of the same service."
            )
        return found
    if network_arch:
        name = archs.find(network_arch).name
        running = [view for view in running if registry.arch(view) == name]
        if not running:
            raise ModelportError(f"No running inference service found for arch={name}; {START}.", NOT_FOUND)
    if not running:
        raise ModelportError(f"No running inference service found; {START}.", NOT_FOUND)
    if len(running) > 1:
        raise ModelportError(f"{len(running)} services could be meant; say which by its job id:{_listed(running)}")
    return running[0]


def line(view: ServiceView) -> str:
    """`job_id=… arch=… url=…`."""
    return f"job_id={view.id} arch={registry.arch(view)} url={registry.host_url(view) or '(no gateway runs)'}"


def cross_check(view: ServiceView, body: Mapping[str, Any]) -> None:
    """Raises ModelportError where a body has what another architecture understands, or lacks what this one needs."""
    name = registry.arch(view)
    for owner, fields in ONLY.items():
        if owner != name and (strange := [field for field in fields if field in body]):
            raise ModelportError(
                f"The body has {', '.join(strange)}, which {owner} understands, and job_id={view.id} is {name}: leave "
                "that out, or name another service.",
                param=strange[0],
            )
    if name == "cosmos-rl" and not media_items(body):
        raise ModelportError(
            f"cosmos-rl needs an image or a video in every request, and this one to job_id={view.id} has none.",
            param="messages",
        )


def _listed(views: Sequence[ServiceView]) -> str:
    return "".join(
        f"\n  {line(view)} started_at={registry.started_at(view)}" for view in sorted(views, key=registry.order)
    )


def _known(running: Sequence[ServiceView]) -> str:
    return f"; running are:{_listed(running)}" if running else f"; none is running: {START}."
