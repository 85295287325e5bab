"""The client's verbs on workspaces and experiments give what the store's own do, over a real control's socket."""

import pytest

from modelport.client import Client
from modelport.control.accounts import StoreAccounts
from modelport.domain.experiment import Experiment
from modelport.domain.key import KeySpec
from modelport.domain.workspace import Workspace
from modelport.errors import ModelportError
from modelport.store import Store
from tests.client.test_accounts import client, store

__all__ = ["client", "store"]


def test_all_of_it(client: Client, store: Store) -> None:
    own = StoreAccounts(store)
    made = client.put_workspace(Workspace(name="team", cloud="gs", bucket="models", endpoint="http://127.0.0.1:9"))
    assert made.id and client.list_workspaces() == own.list_workspaces() == [made]
    with pytest.raises(ModelportError, match="without credentials|cannot be reached"):
        client.check_workspace("team")
    wanted = Experiment.model_validate({"id": "e-1", "checkpoints": [{"path": "gs://models/m"}], "workspace": "team"})
    assert client.put_experiment(wanted) == wanted and client.list_experiments() == own.list_experiments() == [wanted]
    assert client.delete_experiment("e-1") == wanted and client.delete_workspace(made.id) == made
    key = client.create_key(KeySpec(name="n"))
    assert key.secret and client.check_key(key.secret) == own.check_key(key.secret)
    with pytest.raises(ModelportError, match="no API key") as caught:
        client.check_key("mp-nothing")
    assert caught.value.kind.status == 401
