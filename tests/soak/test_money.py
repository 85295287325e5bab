"""The books after trouble that lasts: what tests/money does for seconds, for minutes."""

from collections.abc import Iterator

import pytest

from tests.money.world import Till, kills


@pytest.fixture
def till() -> Iterator[Till]:
    made = Till()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_after_50_kills_under_load_every_answer_is_accounted_for(till: Till) -> None:
    kills(till, 50, 1.0)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_after_50_restarts_under_load_nothing_was_interrupted(till: Till) -> None:
    kills(till, 50, 1.0, gently=True)
