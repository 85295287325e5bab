"""Two installations on one PostgreSQL: one control leads, every gateway serves, and another control takes over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Serving, short_directory, until
from tests.postgres import References, Server, postgres

__all__ = ["postgres"]


class Second(Serving):
    """One whose control waits while it serves."""

    def answers(self) -> bool:
        return "another control leads" in self.log.read_text()


@pytest.fixture
def state_dir() -> Iterator[Path]:
    yield from short_directory()


def test_the_next_control_takes_over_when_the_one_that_leads_is_killed(postgres: Server, state_dir: Path) -> None:
    references = References(state_dir.parent / "secrets", postgres.url(postgres.database()))
    shared = {"store_url_ref": references.url_ref, "pepper_ref": references.pepper_ref}
    with Serving(state_dir, gateways="2", **shared) as first:
        first.start("tiny")
        first.ready("tiny")
        assert first.client.info().gateways == 2
        second = Second(state_dir.parent / "other", engine_ports="28700", **shared)
        second.state_dir.mkdir()
        key = first.admin_key
        second.begin()
        try:
            assert second.ask("tiny", key=key).status_code == 200  # its gateway has the same routes and keys
            first.kill()  # the engine goes on under its shim
            until(super(Second, second).answers, 30, "the second control to lead")
            assert until(lambda: second.client.status("tiny").state == "ready", 30, "the engine to be adopted")
            assert second.ask("tiny", key=key).status_code == 200
        finally:
            second.client.stop("tiny")
            second.reach("tiny", "stopped")
            assert second.end() == 0
