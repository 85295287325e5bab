"""Fixtures that every room's tests may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Serving, short_directory


@pytest.fixture
def state_dir() -> Iterator[Path]:
    yield from short_directory()


@pytest.fixture
def serving(state_dir: Path) -> Iterator[Serving]:
    """A Modelport of the test's own, with the stub engine."""
    with Serving(state_dir) as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[Serving]:
    """A Modelport that the tests of one file share."""
    for directory in short_directory():
        with Serving(directory) as running:
            yield running
