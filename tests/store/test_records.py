"""Workspaces and experiments as rows, and a store of the version before that has neither."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from modelport.domain.experiment import Checkpoint, Experiment
from modelport.domain.spec import Spec
from modelport.domain.workspace import Workspace
from modelport.errors import INVALID, NOT_FOUND, ModelportError
from modelport.store import Store, experiments, open_store, services, tables, workspaces


def bucket(name: str, **more: str) -> Workspace:
    return Workspace.model_validate({"name": name, "cloud": "s3", "bucket": "b-1", **more})


def training(id: str, **more: object) -> Experiment:
    return Experiment.model_validate({"id": id, "checkpoints": [Checkpoint(path="/m", epoch=1)], **more})


def test_a_workspace_keeps_its_id_when_it_changes(store: Store) -> None:
    with store.write() as tx:
        first = workspaces.put(tx, bucket("team"), 1.0)
        other = workspaces.put(tx, bucket("other"), 2.0)
        again = workspaces.put(tx, bucket("team", region="eu-west-1", secret_key_ref="env:X"), 3.0)
        assert first.id and first.id == again.id != other.id
        assert workspaces.all_workspaces(tx) == [other, again]
        assert workspaces.find(tx, "team") == workspaces.find(tx, first.id) == again
        assert workspaces.delete(tx, first.id) == again
        assert workspaces.all_workspaces(tx) == [other]


def test_a_workspace_that_a_service_uses_stays(store: Store) -> None:
    with store.write() as tx:
        workspaces.put(tx, bucket("team"), 1.0)
        served = services.insert(tx, Spec(model="s3://b-1/m", name="chat", workspace="team"), None, 1.0)
        with pytest.raises(ModelportError, match="The service 'chat' uses the workspace 'team'") as caught:
            workspaces.delete(tx, "team")
        assert caught.value.kind is INVALID
        services.delete(tx, served)
        assert workspaces.delete(tx, "team").name == "team"


def test_what_is_not_there_names_the_nearest(store: Store) -> None:
    with store.write() as tx:
        workspaces.put(tx, bucket("team"), 1.0)
        with pytest.raises(ModelportError, match="no workspace 'taem'. Did you mean 'team'") as caught:
            workspaces.delete(tx, "taem")
        assert caught.value.kind is NOT_FOUND
        with pytest.raises(ModelportError, match="no experiment 'e-1'") as caught:
            experiments.delete(tx, "e-1")
        assert caught.value.kind is NOT_FOUND
        with pytest.raises(ModelportError, match="no workspace 'nowhere'"):
            experiments.put(tx, training("e-1", workspace="nowhere"), 1.0)


def test_experiments_are_listed_newest_first_and_keep_their_place_when_they_change(store: Store) -> None:
    with store.write() as tx:
        workspaces.put(tx, bucket("team"), 1.0)
        for now, id in enumerate(("e-1", "e-2")):
            experiments.put(tx, training(id), float(now))
        changed = experiments.put(tx, training("e-1", network_arch="vila", workspace="team"), 9.0)
        assert experiments.all_experiments(tx) == [training("e-2"), changed]
        assert experiments.delete(tx, "e-1") == changed
        assert experiments.all_experiments(tx) == [training("e-2")]


def test_a_store_of_the_version_before_keeps_what_it_has(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    import modelport.store

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'modelport.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(modelport.store.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.execute(
            sa.text(
                "INSERT INTO instances (id, service_id, version, state, reason, platform, engine, port, launch,"
                " created_at, changed_at) VALUES ('i-1', 's', 'v', 'ready', '', 'process', 'stub', 1, '{}', 1, 1)"
            )
        )
        connection.execute(
            sa.text("INSERT INTO teams (name, limits, created_at) VALUES ('red', '{\"in_flight\": 3}', 1)")
        )
    engine.dispose()
    store = open_store(tmp_path)
    with store.write() as tx:
        row = tx.execute(sa.select(tables.instances.c.id, tables.instances.c.progress)).one()
        assert tuple(row) == ("i-1", None)
        assert tx.execute(sa.select(tables.teams.c.limits)).scalar() == {"in_flight": 3}
        assert workspaces.put(tx, bucket("team"), 1.0).id and experiments.all_experiments(tx) == []
    store.close()
