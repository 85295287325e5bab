"""A process that uses a ledger as fast as it can, until it is killed: `python -m tests.ledger.hammer STATE JOURNALS`.

It prints each request's id before it is dispatched, and `done ID` once it is settled.
"""

import asyncio
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelport.gateway.bank import StoreBank
from modelport.gateway.journal import claim
from modelport.gateway.ledger import Ledger
from modelport.gateway.outbox import Batch
from modelport.gateway.replay import replay
from modelport.gateway.spent import BudgetSpent
from modelport.store import leases, open_store
from modelport.store.budgets import caps
from tests.ledger.world import insert, line, line_of, tokens

WORST = 10


async def hammer(state: Path, journals: Path, many: int) -> None:
    store = open_store(state)
    journal = claim(journals)
    replay(store, journal, line_of, insert, time.time())
    thread = ThreadPoolExecutor(1)
    ledger = Ledger(journal, StoreBank(store, journal.gateway_id, thread))
    with store.read() as tx:
        ledger.swap(caps(tx))
    print("ready", flush=True)

    async def one(worker: int) -> None:
        chance = random.Random(f"{journal.gateway_id}{time.time_ns()}{worker}")
        while True:
            id = f"{journal.gateway_id}-{chance.getrandbits(64):x}"
            try:
                reservation = await ledger.reserve_waiting(id, "k", "t", "s", tokens(WORST))
            except BudgetSpent:
                return
            print(id, flush=True)
            await asyncio.sleep(chance.random() / 500)
            used = tokens(chance.randint(1, WORST))
            ledger.settle(reservation, used, line(id, used))
            print("done", id, used.input_tokens, flush=True)

    def write(batch: Batch) -> dict[leases.BudgetPeriod, leases.Applied] | None:
        journal.sync()
        with store.write(alone=False) as tx:
            insert(tx, batch.lines)
            return leases.apply(tx, journal.gateway_id, batch.position, batch.charges, time.time())

    async def report() -> None:
        while (batch := ledger.take_batch()) is not None:
            ledger.applied(batch, await asyncio.get_running_loop().run_in_executor(thread, write, batch))
        await ledger.keep(close=not working)

    working = [asyncio.create_task(one(worker)) for worker in range(many)]
    while working:
        await report()
        _, pending = await asyncio.wait(working, timeout=0.02)
        working = list(pending)
    await report()
    journal.close()
    print("over", flush=True)


if __name__ == "__main__":
    asyncio.run(hammer(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
