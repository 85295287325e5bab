"""Job: plan, print the command, start, wait until it answers, say where, and go on until the server ends.

Each step prints what the job of tails-mpt/inference-endpoint prints there (pipeline/run.sh), so that what reads its
output reads ours; the key is ours: nothing is open.
"""

import ipaddress
import json
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from modelport.domain.key import KeySpec
from modelport.domain.service import PlanView, ServiceView
from modelport.domain.states import InstanceState, ServiceState
from modelport.domain.verbs import Plans, Verbs
from modelport.endpoint.inputs import INPUTS, Wanted, named
from modelport.errors import CANNOT_FIT, NOT_FOUND, NOT_READY, ModelportError

TAIL_LINES = 60
POLL_S = 0.2
WATCH_S = 1.0
AWAY_S = 60.0
"""Control is started again when it dies: its silence is borne for so long."""
ENGINE, MEMORY = (next(input for input in INPUTS if input.name == name) for name in ("ENGINE", "MEM_FRACTION"))

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Planned:
    """What is going to be started."""

    wanted: Wanted
    plan: PlanView


def planned(plans: Plans, wanted: Wanted, say: Say, *, start: bool) -> Planned:
    """Plan it and print inputs, split and command. With `start` the engine has to be installed here.

    Where ENGINE is not set its default is tried, then whatever engine can. Raises ModelportError when it does not fit.
    """
    say("=== modelport endpoint ===")
    for name, text in wanted.given.items():
        say(f"{name}={text}")
    for note in wanted.notes:
        say(note)
    say("=== Computing parallelism ===")
    try:
        found, plan = _with_engine(plans, wanted, say, start=start)
    except ModelportError as error:
        raise named(error, wanted.given) from None
    say(plan.sentence)
    split = plan.split
    say(
        f"TP={split.tensor} DP={split.data} EP={split.expert} PP={split.pipeline}: {split.gpus} of {plan.devices} x "
        f"{plan.device}, {plan.parallel:,} at once of {plan.context_tokens:,} tokens each"
    )
    for reason in plan.reasons:
        say(f"  {reason}")
    if MEMORY.name in wanted.given and not plan.memory_fraction:
        say(f"  {MEMORY.name} has no effect: {plan.engine} takes on {plan.device} what the plan says, and no more.")
    if not plan.fits:
        words = [plan.sentence, *plan.reasons, *(change.sentence for change in plan.changes)]
        raise ModelportError(" ".join(dict.fromkeys(words)), CANNOT_FIT)
    if start and not plan.installed:
        raise ModelportError(plan.unlaunchable or f"{plan.engine} is not installed here; install it, or set ENGINE.")
    if plan.argv:
        say(f"[launch] {plan.engine} argv: {shlex.join(plan.argv)}")
    else:
        say(f"[launch] {plan.engine} has no argv: {plan.unlaunchable}")
    return Planned(found, plan)


def _with_engine(plans: Plans, wanted: Wanted, say: Say, *, start: bool) -> tuple[Wanted, PlanView]:
    if ENGINE.name in wanted.given:
        return wanted, plans.plan(wanted.spec)
    try:
        plan = plans.plan(wanted.spec)
        why = "" if plan.installed or not start else f"{ENGINE.default} is not installed here"
    except ModelportError as error:
        if error.param != ENGINE.field:
            raise
        why, plan = error.message.rstrip("."), None
    if plan and not why:
        say(f"ENGINE is not set: {plan.engine}, its default, is used.")
        return wanted, plan
    wanted = replace(wanted, spec=wanted.spec.model_copy(update={"engine": "auto"}))
    plan = plans.plan(wanted.spec)
    say(f"ENGINE is not set, and its default is no choice ({why}): {plan.engine} is used.")
    return wanted, plan


def started(verbs: Verbs, job: Planned, say: Say, say_error: Say) -> ServiceView:
    """Start it and wait until it answers. Raises ModelportError, with its last lines said, when its process died or it
    was not ready within HEALTH_TIMEOUT; it is stopped then."""
    began = time.monotonic()
    wanted = job.wanted
    try:
        service = verbs.start(wanted.spec)
    except ModelportError as error:
        raise named(error, wanted.given) from None
    say(f"=== Launching server: {service.name}, by {job.plan.engine} ===")
    stage = ""
    while (service := verbs.status(service.id)).state is not ServiceState.READY:
        failed = [i.reason for i in service.instances if i.state is InstanceState.FAILED]
        if failed or service.state in (ServiceState.FAILED, ServiceState.STOPPED):
            reason = next(iter([*failed, service.reason]), "").rstrip(".") or "no reason is known"
            raise _ended(verbs, service, say_error, f"The server process died: {reason}.")
        waited = time.monotonic() - began
        if waited > wanted.health_timeout_s:
            raise _ended(
                verbs,
                service,
                say_error,
                f"The server didn't become healthy in {wanted.health_timeout_s:g}s and is stopped; its last lines are "
                "above. A longer HEALTH_TIMEOUT gives it more time.",
            )
        if service.stage != stage:
            stage = service.stage
            say(f"{stage} after {waited:.0f}s")
        time.sleep(POLL_S)
    say(f"Server ready after {time.monotonic() - began:.0f}s.")
    return service


def announce(verbs: Verbs, job: Planned, service: ServiceView, say: Say) -> None:
    """Print the URL and curl lines that work as they are, with a key for this model alone."""
    key = verbs.create_key(KeySpec(name=f"endpoint {service.name}", models=(service.name,))).secret
    base = f"http://{outward(job.wanted.host)}:{service.url.removesuffix('/v1').rpartition(':')[2]}"
    body: dict[str, Any] = {"model": service.spec.served_name or service.name}
    path = "/v1/chat/completions"
    if service.spec.task == "embed":
        body |= {"input": "Hello"}
        path = "/v1/embeddings"
    else:
        question = {"role": "user", "content": "Which city is the capital of France?"}
        body |= {"temperature": 0, "max_tokens": 64, "messages": [question]}
    bearer = f"-H 'Authorization: Bearer {key}'"
    say(f"Endpoint live at {base}")
    say(f"curl {base}/v1/models {bearer}")
    say(f"curl {base}{path} {bearer} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}")


def follow(verbs: Verbs, service: ServiceView, say: Say, say_error: Say) -> None:
    """Return when the service was stopped. Raises ModelportError when it failed for good; an engine that ends is
    started again meanwhile, which is said."""
    state, heard = service.state, time.monotonic()
    while True:
        time.sleep(WATCH_S)
        try:
            service = verbs.status(service.id)
        except ModelportError as error:
            if error.kind.status == NOT_FOUND.status:
                return
            if error.kind.status != NOT_READY.status or time.monotonic() - heard > AWAY_S:
                raise
            continue
        heard = time.monotonic()
        if service.state is ServiceState.FAILED:
            raise _ended(verbs, service, say_error, f"The server process died: {service.reason.rstrip('.')}.")
        if service.state is ServiceState.STOPPED:
            return
        if service.state is not state:
            state = service.state
            say(f"{service.name} is {state}" + (f": {service.reason}" if service.reason else ""))


def must_be_free(wanted: Wanted) -> None:
    """Raises ModelportError where HOST and PORT cannot be listened on."""
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    try:
        socket.create_server((wanted.host.strip("[]"), wanted.port), family=family).close()
    except OSError as error:
        why = error.strerror or "the address is not known"
        raise ModelportError(
            f"PORT {wanted.port} on HOST {wanted.host} cannot be opened: {why}. Free it, or set another PORT; 0 is any "
            "free one."
        ) from None


def outward(host: str) -> str:
    """The address that others reach a listener at: for a wildcard this machine's own on the way out, with no packet
    sent; 127.0.0.1 where there is no way out."""
    address = host.strip("[]")
    try:
        wildcard = ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return host
    if not wildcard:
        return f"[{address}]" if ":" in address else address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): only the route to it is looked up
            return way.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def _ended(verbs: Verbs, service: ServiceView, say_error: Say, sentence: str) -> ModelportError:
    """Its last lines said, it stopped: the error to raise."""
    try:
        for line in verbs.logs(service.id, TAIL_LINES, False):
            say_error(line)
        verbs.remove(service.id)
    except ModelportError:
        pass  # what is wrong with the server is what counts
    return ModelportError(sentence, NOT_READY)
