"""How things are shown: JSON, tables, and progress while a service starts."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from modelport.domain.units import show_bytes, show_seconds
from modelport.errors import NOT_READY, ModelportError

if TYPE_CHECKING:
    from modelport.domain.service import InstanceView, ServiceView, View
    from modelport.domain.verbs import Verbs

POLL_S = 0.1
SETTLED = ("ready", "idle", "failed", "stopped")
COMING = ("launching", "initializing", "loading")


def as_json(value: "View | Sequence[View | dict[str, Any]] | dict[str, Any]") -> None:
    """One JSON document on stdout."""
    plain: Any
    if isinstance(value, dict):
        plain = value
    elif isinstance(value, Sequence):
        plain = [item if isinstance(item, dict) else item.model_dump(mode="json") for item in value]
    else:
        plain = value.model_dump(mode="json")
    sys.stdout.write(json.dumps(plain, indent=None if isinstance(value, dict) else 2, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A plain table on stdout: no borders, so that it can be cut and grepped."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, markup=False, emoji=False).print(shown)


def ago(at: float | None) -> str:
    return f"{show_seconds(max(0.0, time.time() - at))} ago" if at else "-"


def at(moment: float | None) -> str:
    """A point in time in UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment)) if moment is not None else "-"


def amount(value: float | None) -> str:
    """A number of anything: whole ones whole, others with the digits that say something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}" if abs(value) >= 0.1 else f"{value:.3g}"


def latency(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms" if seconds < 10 else show_seconds(seconds)


def details(service: "ServiceView") -> None:
    """All of one service, for `status`."""
    facts: list[tuple[str, object]] = [
        ("service", service.name),
        ("id", service.id),
        ("state", service.state),
        ("url", service.url or "-"),
        ("model", service.spec.model),
        ("replicas", service.spec.replicas),
        ("plan", service.plan or "-"),
        ("last request", ago(service.last_request_at)),
        ("idle stop", show_seconds(service.spec.idle_timeout) if service.spec.idle_timeout else "never"),
    ]
    if service.reason:
        facts.insert(3, ("reason", service.reason))
    table(("", ""), facts)
    if service.instances:
        sys.stdout.write("\n")
        table(
            ("INSTANCE", "STATE", "PID", "STARTED IN", "MEMORY", "PLANNED", "KV TOKENS", "PLANNED", "SAYS"),
            (
                (
                    i.id,
                    i.state,
                    i.pid or "-",
                    show_seconds(i.start_s) if i.start_s is not None else "-",
                    show_bytes(memory) if memory else "-",
                    show_bytes(service.planned_bytes) if service.planned_bytes and memory else "-",
                    f"{i.kv_tokens:,}" if i.kv_tokens else "-",
                    f"{service.planned_kv_tokens:,}" if service.planned_kv_tokens and i.kv_tokens else "-",
                    "; ".join(part for part in (i.exit, i.reason or _said(i)) if part) or "-",
                )
                for i in service.instances
                for memory in [_memory(i)]
            ),
        )


def _said(instance: "InstanceView") -> str:
    """What an engine that is on its way, or works on a batch, says of itself."""
    told = instance.progress
    if told is None or instance.state in ("gone", "failed"):
        return ""
    share = f" ({told.share:.0%})" if told.share is not None else ""
    return f"{told.message}{share}" if told.share is not None or instance.state != "ready" else ""


def _memory(instance: "InstanceView") -> int | None:
    """What stands beside the planned memory: on GPUs what the engine said, else what its process takes right now."""
    return instance.measured_bytes if instance.on_gpu else instance.memory_bytes


class Progress:
    """What a service is doing, how long for, and about how long still: one line on stderr that is written anew on a
    terminal, and a line per stage elsewhere."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.began = time.monotonic()
        self.last = ""
        self.terminal = sys.stderr.isatty()

    def show(self, service: "ServiceView") -> None:
        if self.quiet:
            return
        spent = time.monotonic() - self.began
        about = f" of about {show_seconds(service.estimate_s)}" if service.estimate_s else ""
        why = f" ({service.reason})" if service.reason else ""
        if self.terminal:
            told = next((_said(i) for i in service.instances if i.state in COMING), "")
            line = f"{service.name}: {told or service.stage} {show_seconds(spent)}{about}{why}"
            sys.stderr.write(f"\r\x1b[K{line[:200]}")
        elif (stage := f"{service.name}: {service.stage}{why}") != self.last:
            sys.stderr.write(
                stage + (f", about {show_seconds(service.estimate_s)}" if service.estimate_s else "") + "\n"
            )
            self.last = stage
        sys.stderr.flush()

    def end(self) -> None:
        if self.terminal and not self.quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def wait_ready(verbs: "Verbs", name: str, *, quiet: bool = False) -> "ServiceView":
    """Follow a service until it is ready (or sleeps). Raises ModelportError when it failed or was stopped."""
    progress = Progress(quiet)
    try:
        while True:
            service = verbs.status(name)
            if service.state in SETTLED:
                break
            if service.state == "degraded" and service.reason and not any(i.state in COMING for i in service.instances):
                raise ModelportError(
                    f"{name} could not be brought up as wanted: {service.reason.rstrip('.')}. What ran before goes on; "
                    f"`modelport logs {name}` shows the output.",
                    NOT_READY,
                )
            progress.show(service)
            time.sleep(POLL_S)
    finally:
        progress.end()
    if service.state == "failed":
        raise ModelportError(
            f"{name} failed: {service.reason.rstrip('.')}. `modelport logs {name}` shows its output.", NOT_READY
        )
    if service.state == "stopped":
        raise ModelportError(f"{name} was stopped before it was ready.", NOT_READY)
    return service


def wait_ended(verbs: "Verbs", name: str) -> None:
    """Follow a service until it is stopped or gone."""
    while True:
        try:
            if verbs.status(name).state == "stopped":
                return
        except ModelportError as error:
            if error.kind.status == 404:
                return
            raise
        time.sleep(POLL_S)
