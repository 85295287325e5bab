"""Recount: a budget's period counted anew from this machine's journals, by other prices where wanted."""

from pathlib import Path

import msgspec
import sqlalchemy as sa

from modelport.domain.account import RecountView
from modelport.domain.amounts import OF, natural
from modelport.errors import NOT_FOUND, ModelportError
from modelport.store import services
from modelport.store.budgets import Cap
from modelport.store.journals import Done
from modelport.store.recount import Difference, Reprice

JOURNALS = "journal"
"""Below the state directory: a directory for each gateway process."""


class _Line(msgspec.Struct):
    """What of a request's line says whose price it had."""

    service_id: str


_line = msgspec.json.Decoder(_Line).decode


def journals(state_dir: Path) -> list[Path]:
    """The journals' directories. Raises ModelportError where no gateway ever wrote one here."""
    try:
        return sorted(path for path in (state_dir / JOURNALS).iterdir() if path.is_dir())
    except OSError:
        raise ModelportError(
            "No gateway has kept a journal on this machine, so nothing can be counted.", NOT_FOUND
        ) from None


def by_todays_prices(tx: sa.Connection, cap: Cap) -> Reprice:
    """What a settlement comes to by the services' prices now; by what it was charged where its service is gone."""
    prices = {service.id: service.spec.price for service in services.all_services(tx)}

    def repriced(done: Done) -> int:
        if cap.unit != "money":
            return OF[cap.unit](done.used)
        price = prices.get(_line(done.line).service_id)
        if price is None:
            return sum(steps for budget, _, steps in done.charges if budget == cap.id)
        return price.nano(done.used)

    return repriced


def view(difference: Difference, applied: bool) -> RecountView:
    cap = difference.budget
    return RecountView(
        budget=cap.id,
        subject=cap.subject,
        unit=cap.unit,
        began=difference.began or None,
        counted=natural(cap.unit, difference.counted),
        stored=natural(cap.unit, difference.stored),
        settlements=difference.settlements,
        damaged=difference.damaged,
        applied=applied,
    )
