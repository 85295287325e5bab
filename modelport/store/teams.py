"""Teams: keys that share limits and budgets."""

import sqlalchemy as sa

from modelport.domain.account import TeamView
from modelport.domain.limits import NO_LIMITS, Limits
from modelport.errors import NOT_FOUND, ModelportError, nearest
from modelport.store.dialect import insert
from modelport.store.revision import bump
from modelport.store.tables import keys, teams


def limits(tx: sa.Connection) -> dict[str, Limits]:
    """By team; one without limits is absent."""
    return {name: own for name, own in _rows(tx).items() if own != NO_LIMITS}


def put(tx: sa.Connection, name: str, wanted: Limits, now: float) -> TeamView:
    """A team with these limits, in place of those it had."""
    kept = wanted.model_dump(mode="json", exclude_defaults=True)
    row = insert(tx, teams).values(name=name, limits=kept, created_at=now)
    tx.execute(row.on_conflict_do_update(index_elements=["name"], set_={"limits": row.excluded.limits}))
    bump(tx)
    return next(view for view in views(tx) if view.name == name)


def delete(tx: sa.Connection, name: str) -> TeamView:
    """Forget a team's limits. Its keys stay its own, and its budgets hold. Raises ModelportError (404)."""
    known = _rows(tx)
    if name not in known:
        raise ModelportError(f"No team {name[:80]!r} was set.{nearest(name[:80], known)}", NOT_FOUND)
    view = next(view for view in views(tx) if view.name == name)
    tx.execute(teams.delete().where(teams.c.name == name))
    bump(tx)
    return view


def views(tx: sa.Connection) -> list[TeamView]:
    """Those that were set and those that keys name, by name."""
    known = _rows(tx)
    counted = sa.select(keys.c.team, sa.func.count()).where(keys.c.team != "", keys.c.revoked_at.is_(None))
    count = {team: n for team, n in tx.execute(counted.group_by(keys.c.team))}
    return [
        TeamView(name=name, limits=known.get(name, NO_LIMITS), keys=count.get(name, 0))
        for name in sorted({*known, *count})
    ]


def _rows(tx: sa.Connection) -> dict[str, Limits]:
    return {row.name: Limits.model_validate(row.limits) for row in tx.execute(sa.select(teams))}
