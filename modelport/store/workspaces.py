"""Workspaces as rows."""

import uuid

import sqlalchemy as sa

from modelport.domain.spec import Spec
from modelport.domain.workspace import Workspace
from modelport.errors import NOT_FOUND, ModelportError, nearest
from modelport.store.tables import services, workspaces


def all_workspaces(tx: sa.Connection) -> list[Workspace]:
    """Every workspace, by name."""
    rows = tx.execute(sa.select(workspaces).order_by(workspaces.c.name))
    return [Workspace.model_validate(row.workspace) for row in rows]


def put(tx: sa.Connection, workspace: Workspace, now: float) -> Workspace:
    """This workspace, in place of the one of that name, whose id it keeps."""
    before = tx.execute(sa.select(workspaces.c.id).where(workspaces.c.name == workspace.name)).scalar()
    made = workspace.model_copy(update={"id": before or str(uuid.uuid4())})
    row = {"id": made.id, "workspace": made.model_dump(mode="json")}
    if before is None:
        tx.execute(workspaces.insert().values(name=made.name, created_at=now, **row))
    else:
        tx.execute(workspaces.update().where(workspaces.c.name == made.name).values(**row))
    return made


def find(tx: sa.Connection, ref: str) -> Workspace:
    """By name or id. Raises ModelportError (404) with the nearest name."""
    known = {each.name: each for each in all_workspaces(tx)}
    found = known.get(ref) or next((each for each in known.values() if each.id == ref), None)
    if found is None:
        raise ModelportError(f"There is no workspace {ref[:80]!r}.{nearest(ref[:80], known)}", NOT_FOUND)
    return found


def delete(tx: sa.Connection, ref: str) -> Workspace:
    """Forget a workspace, by name or id. Raises ModelportError: 404 with the nearest name, 400 while a service that is
    wanted running uses it."""
    found = find(tx, ref)
    wanted = tx.execute(sa.select(services.c.name, services.c.spec).where(services.c.desired == "running"))
    if used := [name for name, spec in wanted if Spec.model_validate(spec).workspace == found.name]:
        raise ModelportError(f"The service {used[0]!r} uses the workspace {found.name!r}: stop it first.")
    tx.execute(workspaces.delete().where(workspaces.c.name == found.name))
    return found
