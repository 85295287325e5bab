"""Aliases as rows: what may be put, and what becomes of it."""

import pytest

from modelport.domain.alias import Alias, Target
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.store import Store, aliases, revision, services
from modelport.store.snapshot import snapshot


@pytest.fixture
def served(store: Store) -> Store:
    """With the services qwen and llama."""
    with store.write() as tx:
        for name in ("qwen", "llama"):
            services.insert(tx, Spec(model="/m.gguf", name=name), None, 1.0)
    return store


def alias(name: str, *targets: str) -> Alias:
    return Alias(name=name, targets=tuple(Target(service=target) for target in targets))


def test_an_alias_is_put_changed_listed_and_deleted_and_gateways_hear_of_each(served: Store) -> None:
    seen: list[int] = []
    for now, given in enumerate((alias("fast", "qwen"), alias("fast", "qwen", "llama"), alias("Also/This", "llama"))):
        with served.write() as tx:
            assert aliases.put(tx, given, float(now)) == given
            seen.append(revision.current(tx))
    with served.read() as tx:
        assert snapshot(tx).aliases == (alias("Also/This", "llama"), alias("fast", "qwen", "llama"))
    with served.write() as tx:
        assert aliases.delete(tx, "fast") == alias("fast", "qwen", "llama")
        seen.append(revision.current(tx))
        assert aliases.all_aliases(tx) == [alias("Also/This", "llama")]
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (alias("qwen", "llama"), "'qwen' is a service's own name"),
        (alias("fast", "qwem"), "no service 'qwem'. Did you mean 'qwen'?"),
        (alias("fast", "qwen", "llama", "qwen"), "'qwen' twice"),
    ],
)
def test_an_alias_that_could_not_work_is_refused(served: Store, given: Alias, sentence: str) -> None:
    with pytest.raises(ModelportError, match=sentence.replace("?", r"\?")) as error, served.write() as tx:
        aliases.put(tx, given, 1.0)
    assert error.value.kind.status == 400
    with served.read() as tx:
        assert aliases.all_aliases(tx) == []


def test_deleting_what_is_not_there_names_the_nearest(served: Store) -> None:
    with served.write() as tx:
        aliases.put(tx, alias("fast", "qwen"), 1.0)
    with pytest.raises(ModelportError, match="no alias 'fats'. Did you mean 'fast'") as error, served.write() as tx:
        aliases.delete(tx, "fats")
    assert error.value.kind.status == 404
