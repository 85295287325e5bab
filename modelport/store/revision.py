"""The revision: a number that grows with every change a gateway must see. Gateways poll it, nothing else."""

import sqlalchemy as sa

from modelport.store.tables import revision


def current(tx: sa.Connection) -> int:
    """The revision in force; 0 in a new store."""
    return tx.execute(sa.select(revision.c.value).where(revision.c.id == 1)).scalar() or 0


def bump(tx: sa.Connection) -> int:
    """The next revision, in force when `tx` commits."""
    value = current(tx) + 1
    if value == 1:
        tx.execute(revision.insert().values(id=1, value=value))
    else:
        tx.execute(revision.update().where(revision.c.id == 1).values(value=value))
    return value
