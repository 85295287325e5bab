"""Lease: what this gateway holds of one budget in one period."""

from math import inf

from modelport.domain.amounts import OF
from modelport.store.budgets import Cap
from modelport.store.leases import Balance, BudgetPeriod

CHUNK_OF_CAP = 20
CHUNK_OF_FREE = 4
"""A lease is at most a 20th of the cap and a quarter of what the store has left, so that others find some too."""


class Lease:
    """In steps of the budget's unit. `free` + `reserved` + `unapplied` is what the store has leased to us."""

    __slots__ = (
        "balance",
        "began",
        "cap",
        "ends",
        "free",
        "holders",
        "idle",
        "key",
        "refused_until",
        "reserved",
        "unapplied",
        "unsure",
        "waiting",
        "warn_at",
    )

    def __init__(self, cap: Cap, began: int, ends: float) -> None:
        self.key: BudgetPeriod = (cap.id, began)
        self.began = began
        self.ends = ends
        self.free = 0
        """Less than 0 where requests took more than their worst case, until the store counts that as spent."""
        self.reserved = 0
        self.unapplied = 0
        """Charged by us, not yet counted by the store."""
        self.holders = 0
        self.waiting = 0
        """What requests that wait for more want of it."""
        self.idle = 0
        self.unsure = False
        """Whether the store may have leased more to us than we know: an answer was lost."""
        self.refused_until = -inf
        self.balance = Balance()
        """Of all gateways, when the store last said so."""
        self.cap = cap
        self.know(cap, self.balance)

    def know(self, cap: Cap, balance: Balance) -> None:
        self.cap = cap
        self.balance = balance
        self.warn_at = cap.soft * (cap.cap + balance.extra)

    @property
    def used(self) -> int:
        """By all gateways, with what of ours the store does not know yet."""
        return self.balance.spent + self.unapplied

    @property
    def near(self) -> bool:
        """Whether the soft share of the cap is used."""
        return self.used >= self.warn_at

    @property
    def held(self) -> int:
        """What the store has leased to us, as far as we know."""
        return self.free + self.reserved + self.unapplied

    @property
    def unleased(self) -> int:
        """What the store had left when it last said so."""
        return max(0, self.cap.cap + self.balance.extra - self.balance.spent - self.balance.leased)

    @property
    def chunk(self) -> int:
        return max(1, min((self.cap.cap + self.balance.extra) // CHUNK_OF_CAP, self.unleased // CHUNK_OF_FREE))


class Account:
    """One budget with the lease of the period that holds now."""

    __slots__ = ("hard", "lease", "of", "period")

    def __init__(self, cap: Cap, lease: Lease) -> None:
        self.of = OF[cap.unit]
        self.hard = cap.hard
        self.period = cap.period
        self.lease = lease
