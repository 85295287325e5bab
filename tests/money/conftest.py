"""A till that most tests of one file share; a test makes its own keys, services and budgets there."""

from collections.abc import Iterator

import pytest

from tests.money.world import Shifted, Till


@pytest.fixture(scope="module")
def till() -> Iterator[Till]:
    made = Till(request_timeout=5)
    try:
        made.gateway()
        yield made
    finally:
        made.close()


@pytest.fixture
def fresh() -> Iterator[Till]:
    """A till of the test's own, its gateway not started yet."""
    made = Till()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def shifted() -> Iterator[Shifted]:
    made = Shifted()
    try:
        yield made
    finally:
        made.close()
