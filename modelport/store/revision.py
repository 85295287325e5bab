"""The revision: a number that grows with every change a gateway must see. Gateways poll it, nothing else."""

import sqlalchemy as sa

from modelport.store.dialect import insert
from modelport.store.tables import revision


def current(tx: sa.Connection) -> int:
    """The revision in force; 0 in a new store."""
    return tx.execute(sa.select(revision.c.value).where(revision.c.id == 1)).scalar() or 0


def bump(tx: sa.Connection) -> int:
    """The next revision, in force when `tx` commits. One statement, whose row stays locked until then: who sees a
    revision sees all that those before it changed."""
    first = insert(tx, revision).values(id=1, value=1)
    next_one = first.on_conflict_do_update(index_elements=["id"], set_={"value": revision.c.value + 1})
    return tx.execute(next_one.returning(revision.c.value)).scalar_one()
