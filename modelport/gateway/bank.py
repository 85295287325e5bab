"""StoreBank: leases from the store, on a thread, so that the event loop never waits for it."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from modelport.store import Store, leases
from modelport.store.leases import BudgetPeriod, Taken, Want


class StoreBank:
    """The Bank of a gateway's ledger. Raises what the store raises."""

    def __init__(self, store: Store, gateway_id: str, thread: Executor) -> None:
        self._store = store
        self._id = gateway_id
        self._thread = thread

    async def take(self, wants: Sequence[Want]) -> Sequence[Taken]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, wants)

    async def give_back(self, keeps: Mapping[BudgetPeriod, int]) -> Mapping[BudgetPeriod, int]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._give_back, keeps)

    def _take(self, wants: Sequence[Want]) -> Sequence[Taken]:
        with self._store.write(alone=False) as tx:
            return leases.take(tx, self._id, wants)

    def _give_back(self, keeps: Mapping[BudgetPeriod, int]) -> Mapping[BudgetPeriod, int]:
        with self._store.write(alone=False) as tx:
            return leases.give_back(tx, self._id, keeps)
