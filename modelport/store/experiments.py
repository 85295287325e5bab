"""Experiments as rows."""

import sqlalchemy as sa

from modelport.domain.experiment import Experiment
from modelport.errors import NOT_FOUND, ModelportError
from modelport.store import workspaces
from modelport.store.tables import experiments


def all_experiments(tx: sa.Connection) -> list[Experiment]:
    """Every experiment, newest first."""
    rows = tx.execute(sa.select(experiments).order_by(experiments.c.created_at.desc()))
    return [Experiment.model_validate(row.experiment) for row in rows]


def put(tx: sa.Connection, experiment: Experiment, now: float) -> Experiment:
    """This experiment, in place of the one of that id. Raises ModelportError for a workspace that does not exist."""
    if experiment.workspace:
        workspaces.find(tx, experiment.workspace)
    row = {"experiment": experiment.model_dump(mode="json")}
    if not tx.execute(experiments.update().where(experiments.c.id == experiment.id).values(**row)).rowcount:
        tx.execute(experiments.insert().values(id=experiment.id, created_at=now, **row))
    return experiment


def delete(tx: sa.Connection, experiment: str) -> Experiment:
    """Forget an experiment; what serves its model goes on. Raises ModelportError (404)."""
    row = tx.execute(sa.select(experiments).where(experiments.c.id == experiment)).first()
    if row is None:
        raise ModelportError(f"There is no experiment {experiment[:80]!r}.", NOT_FOUND)
    tx.execute(experiments.delete().where(experiments.c.id == experiment))
    return Experiment.model_validate(row.experiment)
