"""One TAO API for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tao.world import Tao, opened


@pytest.fixture
def tao(tmp_path: Path) -> Iterator[Tao]:
    with opened(tmp_path) as made:
        yield made
