"""Skill: TAO's inference service as functions over Verbs: start, wait, request, status, list, logs, stop.

    from modelport.client import Client
    from modelport.tao import skill

    verbs = Client("http://127.0.0.1:8700", key=key)
    service = skill.start(verbs, skill.Wanted("tao-dataservices", "hf_model://org/model"))
    skill.wait(verbs, service.id, key)
    print(skill.request(verbs, key, "What is this?", images=["cat.png"], defaults=True).text)
    skill.stop(verbs, service.id)

All raise ModelportError. A service made so is an ordinary Service whose id is the job_id; nothing is kept beside it.
"""

import builtins
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelport.domain.service import PlanView, ServiceView
from modelport.domain.verbs import Plans, Verbs
from modelport.errors import NOT_FOUND, NOT_READY, ModelportError
from modelport.tao import readiness, registry, reply, requests, routing, sampling
from modelport.tao.reply import LEAST_TIMEOUT_S, Verify
from modelport.tao.wanted import Order, Wanted, order

__all__ = [
    "VIDEO_ARCHS",
    "Answer",
    "Wanted",
    "announcement",
    "facts",
    "list",
    "logs",
    "plan",
    "request",
    "start",
    "status",
    "stop",
    "target",
    "wait",
]

Say = Callable[[str], None]
VIDEO_ARCHS = ("cosmos-predict2.5",)
"""Those that answer with a video."""


def _silent(_: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered."""

    job_id: str
    text: str
    """A text, or a data: URI."""
    video: bytes | None
    """Its bytes, where it is a video."""


def start(verbs: Verbs, wanted: Wanted, environ: Mapping[str, str] = os.environ) -> ServiceView:
    """Start a new service, on the lowest free port of 8080 to 8199; its id is the job_id. Two starts are two
    services."""
    return verbs.start(order(wanted, environ).spec)


def announcement(view: ServiceView) -> tuple[str, ...]:
    """The lines that tell a new service, word for word those of NVIDIA's skill."""
    return (
        "Inference service started.",
        f"  Job ID : {view.id}",
        f"  Arch   : {registry.arch(view)}",
        f"  URL    : {registry.host_url(view)}/v1/chat/completions",
        "Use this Job ID to send requests or stop the service.",
    )


def plan(plans: Plans, wanted: Wanted, environ: Mapping[str, str] = os.environ) -> tuple[Order, PlanView]:
    """What a start would do."""
    made = order(wanted, environ)
    return made, plans.plan(made.spec)


def wait(
    verbs: Verbs,
    job_id: str,
    key: str,
    *,
    timeout_s: float = readiness.TIMEOUT_S,
    interval_s: float = readiness.INTERVAL_S,
    say: Say = _silent,
    verify: Verify = True,
) -> ServiceView:
    """The service, once it is ready."""
    return readiness.wait(
        job_id,
        lambda: verbs.status(job_id),
        lambda: reply.probe(verbs.status(job_id).url, key, verify),
        timeout_s=timeout_s,
        interval_s=interval_s,
        say=say,
    )


def target(verbs: Verbs, job_id: str = "", network_arch: str = "") -> ServiceView:
    """The running service that is meant, never guessed."""
    return routing.target(verbs.list(), job_id, network_arch)


def request(
    verbs: Verbs,
    key: str,
    prompt: str = "",
    *,
    job_id: str = "",
    network_arch: str = "",
    system: str = "",
    images: Sequence[str] = (),
    videos: Sequence[str] = (),
    body: Mapping[str, Any] | None = None,
    parameters: Mapping[str, sampling.Value] | None = None,
    defaults: bool = False,
    timeout_s: float = LEAST_TIMEOUT_S,
    ready_timeout_s: float = readiness.TIMEOUT_S,
    say: Say = _silent,
    verify: Verify = True,
    environ: Mapping[str, str] = os.environ,
) -> Answer:
    """Ask the service that is meant; one that is not ready yet is waited for. Sampling values that neither
    `parameters` nor `body` has are an error, unless `defaults` says to take theirs. Texts of `environ` that are secret
    are not sent."""
    if timeout_s < LEAST_TIMEOUT_S:
        raise ModelportError(f"The time-out is {timeout_s:g} s; it is at least {LEAST_TIMEOUT_S:g} s.", param="timeout")
    view = target(verbs, job_id, network_arch)
    arch = registry.arch(view)
    if body is None:
        body = requests.build(arch, prompt, system=system, images=images, videos=videos)
    elif prompt or system or images or videos:
        raise ModelportError("Give a body, or what it is made of (prompt, system, image, video), not both.")
    routing.cross_check(view, {**body, **(parameters or {})})
    values = dict(parameters or {})
    if open_ := sampling.missing(arch, {**requests.own(arch, body), **values}):
        if not defaults:
            raise sampling.undecided(arch, open_)
        values |= sampling.defaults(open_)
    sent = requests.finish(arch, body, values)
    requests.no_secrets(sent, environ)
    if not view.url:
        raise ModelportError("No gateway runs, so nothing can be asked; start one by `modelport serve`.", NOT_READY)
    say(f"Sending to {routing.line(view)}")
    answer = reply.post(view.url, key, sent, timeout_s=timeout_s, verify=verify)
    if answer.too_early:
        wait(verbs, view.id, key, timeout_s=ready_timeout_s, say=say, verify=verify)
        answer = reply.post(view.url, key, sent, timeout_s=timeout_s, verify=verify)
    said = reply.text(answer, view.id)
    return Answer(view.id, said, reply.video(said))


def status(verbs: Verbs, job_id: str = "") -> ServiceView:
    """One service, ended or not; the only one that runs, where no id is given."""
    return _of_skill(verbs, job_id) if job_id else verbs.status(target(verbs).id)


def facts(view: ServiceView) -> dict[str, Any]:
    """A service's registry entry, with how it does."""
    return {
        **registry.entry(view),
        "model": view.spec.model,
        "state": str(view.state),
        "message": readiness.of_service(view).message,
        "reason": view.reason,
    }


def list(verbs: Verbs) -> dict[str, Any]:
    """The registry: what runs, by job_id, and `latest`."""
    found: builtins.list[ServiceView] = []
    for view in verbs.list():
        if registry.started_here(view) and registry.runs(view):
            try:
                found.append(verbs.status(view.id))  # which knows pids too
            except ModelportError as error:
                if error.kind.status != NOT_FOUND.status:  # it went in this moment
                    raise
    return registry.document(found)


def logs(verbs: Verbs, job_id: str = "", *, tail: int = 100, follow: bool = False) -> Iterator[str]:
    """Lines of its engine's output."""
    return verbs.logs(status(verbs, job_id).id, tail, follow)


def stop(verbs: Verbs, job_id: str = "", say: Say = _silent) -> ServiceView:
    """End a service and forget it: its id is over and its port is free. Without an id only where exactly one runs;
    `say` hears which."""
    view = status(verbs, job_id)
    say(f"Stopping {routing.line(view)}")
    return verbs.remove(view.id)


def _of_skill(verbs: Verbs, job_id: str) -> ServiceView:
    """Raises ModelportError for a service that was not started by this skill: it is not ours to end."""
    try:
        view = verbs.status(job_id)
    except ModelportError as error:
        if error.kind.status != NOT_FOUND.status:
            raise
        view = None
    if view is None or not registry.started_here(view):
        routing.target(verbs.list(), job_id or "-")  # its sentence has the list
        raise ModelportError(f"No inference service found for job_id={job_id[:80]}.", NOT_FOUND)
    return view
