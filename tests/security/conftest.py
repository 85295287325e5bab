"""The gateway that the corpora are sent to, and an engine that notes whatever reaches it."""

from collections.abc import Iterator

import pytest

from tests.gateway.conftest import engine, fresh, world  # noqa: F401
from tests.gateway.world import World
from tests.security.raw_engine import RawEngine


@pytest.fixture(scope="session")
def noted(world: World) -> Iterator[RawEngine]:  # noqa: F811
    """The engine behind the service `noted`, which lists one route only."""
    raw = RawEngine()
    try:
        service = world.service("noted")
        world.instance(service, raw, routes=("POST /v1/chat/completions",))  # type: ignore[arg-type]
        world.settle()
        yield raw
    finally:
        raw.stop()
