"""Aliases as rows."""

import sqlalchemy as sa

from modelport.domain.alias import Alias
from modelport.errors import NOT_FOUND, ModelportError, nearest
from modelport.store.revision import bump
from modelport.store.tables import aliases, services


def all_aliases(tx: sa.Connection) -> list[Alias]:
    """Every alias, by name."""
    return [Alias.model_validate(row.alias) for row in tx.execute(sa.select(aliases).order_by(aliases.c.name))]


def put(tx: sa.Connection, alias: Alias, now: float) -> Alias:
    """Make this name stand for these services, whatever it stood for before.

    Raises ModelportError (400): the name is a service's own, which would hide the alias, or a target is no service or
    comes twice.
    """
    known = {name for (name,) in tx.execute(sa.select(services.c.name).where(services.c.desired != "removed"))}
    if alias.name in known:
        raise ModelportError(f"{alias.name!r} is a service's own name; give the alias another.", param="name")
    targets = [target.service for target in alias.targets]
    for service in targets:
        if service not in known:
            raise ModelportError(f"There is no service {service!r}.{nearest(service, known)}", param="targets")
        if targets.count(service) > 1:
            raise ModelportError(f"The alias names the service {service!r} twice; name it once.", param="targets")
    row = {"alias": alias.model_dump(mode="json")}
    if not tx.execute(aliases.update().where(aliases.c.name == alias.name).values(**row)).rowcount:
        tx.execute(aliases.insert().values(name=alias.name, created_at=now, **row))
    bump(tx)
    return alias


def delete(tx: sa.Connection, name: str) -> Alias:
    """Forget an alias; its services go on. Raises ModelportError (404) with the nearest name."""
    known = {alias.name: alias for alias in all_aliases(tx)}
    if name not in known:
        raise ModelportError(f"There is no alias {name[:80]!r}.{nearest(name[:80], known)}", NOT_FOUND)
    tx.execute(aliases.delete().where(aliases.c.name == name))
    bump(tx)
    return known[name]
