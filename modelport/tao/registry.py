"""Registry: the services that TAO's skill started, as the JSON object that its scripts keep in a file.

It is read from Services, never from the file: what is exported is a picture, right at the moment it was made. Fields
are those of the skill's `registry_write.<platform>`, with what its later steps need and do not find there:
instance_id, namespace, pid.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelport.domain.service import InstanceView, ServiceView
from modelport.domain.states import ALIVE, ServiceState
from modelport.errors import ModelportError
from modelport.tao.wanted import ARCH, PLATFORM, SKILL

ENDED = (ServiceState.STOPPING, ServiceState.STOPPED, ServiceState.FAILED)
INNER_PORT = 8080
"""Where a container listens."""
FIELDS = {
    "process": ("host_port", "instance_id", "pid"),
    "local-docker": ("docker_url", "host_port"),
    "brev": ("docker_url", "host_port", "instance_id"),
    "lepton": ("platform_job_id",),
    "slurm": ("host_port", "platform_job_id", "slurm_node", "pid"),
    "kubernetes": ("platform_job_id", "namespace"),
}
"""What each platform's entries have beside what all have."""


def started_here(view: ServiceView) -> bool:
    """Whether TAO's skill made it."""
    return view.spec.labels.get(SKILL) == "1"


def runs(view: ServiceView) -> bool:
    """Whether it is there, be it ready or on the way."""
    return view.desired == "running" and view.state not in ENDED


def arch(view: ServiceView) -> str:
    return view.spec.labels.get(ARCH, "")


def host_url(view: ServiceView) -> str:
    """Its address without a path, this machine's under the name that people know it by; empty while no gateway runs."""
    url = view.url.removesuffix("/v1")
    return url.replace("://127.0.0.1:", "://localhost:", 1)


def order(view: ServiceView) -> tuple[float, str]:
    """What sorts services by their beginning."""
    return view.created_at, view.id


def started_at(view: ServiceView) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(view.created_at, UTC).isoformat()


def document(views: Sequence[ServiceView]) -> dict[str, Any]:
    """The running ones by job_id, and `latest`, which of them began last; that is absent where there are none."""
    running = sorted((view for view in views if started_here(view) and runs(view)), key=order)
    found: dict[str, Any] = {view.id: entry(view) for view in running}
    if running:
        found["latest"] = running[-1].id
    return found


def entry(view: ServiceView) -> dict[str, Any]:
    """One service's fields, in the skill's words."""
    labels = view.spec.labels
    platform = labels.get(PLATFORM, view.spec.platform)
    alive = [one for one in view.instances if one.state in ALIVE]
    more = _more(view, alive[-1] if alive else None)
    return {
        "job_id": view.id,
        "platform": platform,
        "network_arch": arch(view),
        "started_at": started_at(view),
        "host_url": host_url(view),
        **{name: more[name] for name in FIELDS.get(platform, ("host_port",)) if more[name] not in (None, "")},
    }


def _more(view: ServiceView, instance: InstanceView | None) -> dict[str, Any]:
    labels = view.spec.labels
    return {
        "docker_url": f"http://{view.id}:{INNER_PORT}",
        "host_port": view.port,
        # Every platform names what it runs for us by the instance.
        "platform_job_id": instance.id if instance else None,
        "slurm_node": urlsplit(instance.url).hostname if instance else None,
        "namespace": labels.get("tao.namespace"),
        "instance_id": labels.get("tao.instance-id") or (instance.id if instance else None),
        "pid": instance.pid if instance else None,
    }


def export(path: Path, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Write what `read` gives to a file, 0600, and return it. The file is the old one or the new one at every moment,
    whatever dies; of several writers each reads while it is the only one, so that no older picture replaces a newer.
    Raises ModelportError where it cannot be written."""
    try:
        with _alone(path):
            found = read()
            text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
            scratch = path.with_name(path.name + ".tmp")
            with contextlib.suppress(FileNotFoundError):
                scratch.unlink()  # of a writer that was killed
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(scratch, flags, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
            return found
    except OSError as error:
        raise ModelportError(f"{path} cannot be written: {error.strerror}.") from None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the file's lock, which the kernel drops when its holder dies."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(path.with_name(path.name + ".lock"), flags, 0o600), "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
