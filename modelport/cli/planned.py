"""How plans are shown: one with its parts, offers and comparisons as tables."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from modelport.cli import show
from modelport.domain.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from modelport.domain.plan import Offer, Span
    from modelport.domain.service import PlanView

BAR = 24
"""Characters of the budget's bar."""
VERDICTS = {"fits": "fits", "too_close": "too close to say", "does_not_fit": "does not fit"}


def one(plan: "PlanView") -> None:
    """A whole plan: the verdict, memory by part, numbers, reasons, and the command it becomes."""
    typer.echo(plan.sentence)
    show.table(("PART", "MEMORY", "BETWEEN", f"OF {show_bytes(plan.budget_bytes)} PER DEVICE"), _parts(plan))
    show.table(("", ""), _facts(plan))
    for reason in plan.reasons:
        typer.echo(f"  {reason}")
    for change in plan.changes:
        price = f" (${change.usd_per_hour:,.2f} an hour)" if change.usd_per_hour is not None else ""
        typer.echo(f"  - {change.sentence}{price}")
    if plan.unlaunchable:
        typer.echo(f"  {plan.unlaunchable}")
    if plan.argv and plan.fits:
        typer.echo(f"\n{command(plan.argv)}")
        if plan.env:
            typer.echo(f"# with {', '.join(plan.env)} in its environment")


def offers(plans: "Sequence[PlanView]") -> None:
    """What could be rented, one a line."""
    show.table(
        ("ON", "CLOUD", "$/HOUR", "$/M TOKENS (estimate)", "VERDICT", "SPLIT", "KV TOKENS", "CONTEXT", "PRICE OF"),
        (
            (
                plan.accelerators,
                plan.offer.cloud if plan.offer else "-",
                f"{plan.offer.usd_per_hour:,.2f}" if plan.offer else "-",
                _per_million(plan.offer),
                VERDICTS[plan.verdict],
                split(plan),
                _span(plan.kv_tokens, _count),
                f"{plan.context_tokens:,}",
                plan.offer.as_of if plan.offer else "-",
            )
            for plan in plans
        ),
    )


def comparison(rows: "Sequence[tuple[str, str, PlanView | str]]") -> None:
    """Plans side by side: model, accelerators, and the plan or the sentence why there is none."""
    columns = ("MODEL", "ON", "VERDICT", "NEEDS", "OF", "SPLIT", "KV TOKENS", "CONTEXT", "AT ONCE", "$/HOUR")
    show.table((*columns, "$/M TOKENS (estimate)"), (_compared(*row) for row in rows))
    for model, on, plan in rows:
        if isinstance(plan, str):
            typer.echo(f"{model} on {on}: {plan}")


def split(plan: "PlanView") -> str:
    """`TP 4`, with PP, DP and EP where they are more than 1."""
    s = plan.split
    degrees = (("TP", s.tensor), ("PP", s.pipeline), ("DP", s.data), ("EP", s.expert))
    return " ".join(f"{name} {n}" for name, n in degrees if n > 1 or name == "TP")


def command(argv: Sequence[str]) -> str:
    """An argv as a shell would take it; the address that control chooses stays `{host}` and `{port}`."""
    return " ".join(arg if arg in ("{host}", "{port}") else shlex.quote(arg) for arg in argv)


def _parts(plan: "PlanView") -> Iterator[tuple[str, str, str, str]]:
    full, empty = ("█", "·") if "utf" in (sys.stdout.encoding or "").lower() else ("#", ".")
    room, taken = max(1, plan.budget_bytes), 0
    for part in plan.intervals:
        begin, end = (min(BAR, round(BAR * size / room)) for size in (taken, taken + part.bytes))
        taken += part.bytes
        bar = empty * begin + full * (end - begin) + empty * (BAR - end)
        between = f"{show_bytes(part.low_bytes)} to {show_bytes(part.high_bytes)}"
        yield part.name, show_bytes(part.bytes), between, f"{bar} {part.bytes / room:4.0%}"
    left = plan.budget_bytes - plan.need_bytes
    yield ("left", show_bytes(left), "", "") if left >= 0 else ("missing", show_bytes(-left), "", "")


def _facts(plan: "PlanView") -> Iterator[tuple[str, str]]:
    yield "engine", plan.engine + ("" if plan.installed else ", which is not installed here")
    if plan.devices > 1 or plan.split.gpus > 1:
        yield "split", f"{split(plan)}: {plan.split.gpus} of {plan.devices} x {plan.device}"
    if plan.memory_fraction:
        yield "memory fraction", f"{plan.memory_fraction:g}"
    if plan.quantization:
        yield "quantization", plan.quantization
    yield "serves", f"{plan.parallel:,} at once, {plan.context_tokens:,} tokens each"
    if plan.kv_tokens:
        yield "kv cache", f"{_span(plan.kv_tokens, _count)} tokens"
    if plan.max_context:
        yield "longest context", f"{plan.max_context:,} tokens, {plan.parallel:,} at once"
    if plan.max_parallel:
        yield "most at once", f"{plan.max_parallel:,}, {plan.context_tokens:,} tokens each"
    if offer := plan.offer:
        dollars = _per_million(offer)
        yield (
            "cost",
            (
                f"${offer.usd_per_hour:,.2f} an hour ({offer.count} x {offer.gpu} at {offer.cloud}, {offer.as_of})"
                + ("" if dollars == "-" else f", {dollars} per million tokens (estimate, at full load)")
            ),
        )
    if plan.ready_s:
        yield "ready in", f"{_span(plan.ready_s, show_seconds)} (estimate)"
    if plan.extrapolated:
        yield "beyond what was measured", plan.extrapolated


def _compared(model: str, on: str, plan: "PlanView | str") -> tuple[str, ...]:
    if isinstance(plan, str):
        return (model, on, "no plan: see below", *["-"] * 8)
    return (
        model,
        on,
        VERDICTS[plan.verdict],
        show_bytes(plan.need_bytes),
        show_bytes(plan.budget_bytes),
        split(plan),
        _span(plan.kv_tokens, _count),
        f"{plan.context_tokens:,}",
        f"{plan.parallel:,}",
        f"{plan.offer.usd_per_hour:,.2f}" if plan.offer else "-",
        _per_million(plan.offer),
    )


def _per_million(offer: "Offer | None") -> str:
    return f"${offer.usd_per_million_tokens:,.3f}" if offer and offer.usd_per_million_tokens is not None else "-"


def _span(span: "Span | None", shown: Callable[[float], str]) -> str:
    if span is None:
        return "-"
    return (
        shown(span.guess)
        if span.low == span.high
        else (f"about {shown(span.guess)} ({shown(span.low)} to {shown(span.high)})")
    )


def _count(number: float) -> str:
    return f"{number:,.0f}"
