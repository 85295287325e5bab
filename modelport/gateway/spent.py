"""BudgetSpent: the refusal that names the budget, and the warning that comes before it."""

import math

from modelport.domain.amounts import Unit, natural
from modelport.errors import BUDGET_SPENT, ModelportError
from modelport.store.budgets import Cap

PERIODS = {"total": "in all", "day": "a day", "week": "a week", "month": "a month"}
LONGEST_RETRY_S = 60.0


class BudgetSpent(ModelportError):
    """402. `remaining` is in natural terms of `unit`; `reset_s` is None for a budget that never begins anew. Its
    headers are named as OpenAI's: `x-ratelimit-remaining-tokens`, and so for every unit."""

    def __init__(self, cap: Cap, extra: int, remaining: int, wanted: int, reset_s: float | None) -> None:
        again = "it does not begin anew" if reset_s is None else f"it begins anew in {_lasting(reset_s)}"
        super().__init__(
            f"The budget of {cap.subject} is spent: {_amount(cap.unit, cap.cap + extra)} {PERIODS[cap.period]}, of "
            f"which {_amount(cap.unit, remaining)} are left, and this request may take {_amount(cap.unit, wanted)}; "
            f"{again}.",
            BUDGET_SPENT,
            retry_after_s=LONGEST_RETRY_S if reset_s is None else min(LONGEST_RETRY_S, reset_s),
        )
        self.unit = cap.unit
        self.remaining = natural(cap.unit, remaining)
        self.reset_s = reset_s
        unit = cap.unit.replace("_", "-")
        told = {"limit": f"{natural(cap.unit, cap.cap + extra):.12g}", "remaining": f"{self.remaining:.12g}"}
        if reset_s is not None:
            told["reset"] = f"{math.ceil(reset_s)}s"
        self.headers = tuple((f"x-ratelimit-{name}-{unit}".encode(), value.encode()) for name, value in told.items())


def warning(cap: Cap, extra: int, used: int) -> str:
    """That a budget is nearly used, or quite."""
    limit = cap.cap + extra
    return (
        f"{_amount(cap.unit, used)} of the {_amount(cap.unit, limit)} that {cap.subject} may use "
        f"{PERIODS[cap.period]} are used."
    )


def _amount(unit: Unit, count: int) -> str:
    return f"{natural(unit, count):.12g} {'of money' if unit == 'money' else unit.replace('_', ' ')}"


def _lasting(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
