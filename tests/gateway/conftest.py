"""One gateway, one engine and one service that most tests share; a test that changes things makes its own names."""

from collections.abc import Iterator

import pytest

from tests.gateway.world import Engine, World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Short limits, so that running into them is quick; long enough for a busy machine."""
    world = World(
        header_timeout=0.7, body_timeout=0.7, request_timeout=1.2, max_body_bytes=1 << 20, max_header_bytes=16 << 10
    )
    try:
        yield world.gateway()
    finally:
        world.close()


@pytest.fixture(scope="session")
def engine(world: World) -> Engine:
    """The engine behind the service `tiny`."""
    engine = world.engine("--name", "tiny")
    world.service("tiny", engine)
    return engine


@pytest.fixture
def fresh() -> Iterator[World]:
    """A world of the test's own, its gateway not started yet."""
    world = World()
    try:
        yield world
    finally:
        world.close()
