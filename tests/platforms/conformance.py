"""What every platform must do. A platform's test class inherits Conformance and gives it a `bench` fixture."""

import asyncio
import itertools
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelport.domain.instance import Exit, Instance, Observed
from modelport.domain.launch import HOST, PORT, Labels, Launch
from modelport.errors import ModelportError
from modelport.platforms import Platform

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
PATIENCE_S = 15.0
_ids = itertools.count(1)


def until(what: Callable[[], Any]) -> Any:
    """Poll until `what` gives something true, and give that. Fails after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain"
        time.sleep(0.02)
    return found


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))


class Bench:
    """Where a platform is tested: how to make it, what to launch on it, and what must be cleared away afterwards."""

    def __init__(self, make: Callable[[], Platform], scratch: Path, owner: str) -> None:
        self.make, self.scratch, self.owner = make, scratch, owner
        self.platform = make()
        self.launched: dict[str, Instance] = {}

    def plan(self, *switches: str, grace_s: float = 5, lease_s: float = 0, owner: str = "", **more: Any) -> Launch:
        """A Launch of the fake engine with these switches, bound to an instance and a port of its own."""
        id = f"i{next(_ids)}"
        program = (sys.executable, "-I", "-S", str(FAKE_ENGINE), "--host", HOST, "--port", PORT)
        launch = Launch(
            argv=(*program, "--starts", str(self.scratch / id), *switches),
            health_path="/health",
            secret_env={"ENGINE_KEY": "engine-key"},
            grace_s=grace_s,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return replace(launch.bind(Labels("s1", id, owner or self.owner), "127.0.0.1", port, lease_s), **more)

    def launch(self, launch: Launch) -> Instance:
        instance = run(self.platform.launch(launch))
        self.launched[instance.labels.instance] = instance
        return instance

    def start(self, *switches: str, **more: Any) -> Instance:
        """Launch and wait until it answers."""
        instance = self.launch(self.plan(*switches, **more))
        until(lambda: self.healthy(instance))
        return instance

    def healthy(self, instance: Instance) -> bool:
        try:
            return urllib.request.urlopen(f"{instance.url}/health", timeout=5).status == 200
        except OSError:
            return False

    def inspect(self, instance: Instance) -> Observed:
        return run(self.platform.inspect(instance))

    def ended(self, instance: Instance) -> Exit:
        """Wait for its end."""
        return until(lambda: self.inspect(instance).exit)

    def stop(self, instance: Instance, grace_s: float = 5) -> None:
        run(self.platform.stop(instance, grace_s))

    def logs(self, instance: Instance, tail: int = 100, follow: bool = False) -> list[str]:
        async def collect() -> list[str]:
            return [line async for line in self.platform.logs(instance, tail, follow)]

        return run(collect())

    def discovered(self, owner: str = "") -> list[Instance]:
        return run(self.make().discover(owner or self.owner))

    def starts(self, instance: Instance) -> int:
        """How many engines ever ran for it."""
        try:
            return len((self.scratch / instance.labels.instance).read_text().splitlines())
        except FileNotFoundError:
            return 0

    def clear(self) -> None:
        for instance in self.launched.values():
            self.stop(instance, 0)


class Conformance:
    """The suite."""

    def test_a_launched_engine_runs_and_answers(self, bench: Bench) -> None:
        instance = bench.start()
        seen = bench.inspect(instance)
        assert seen.running
        assert seen.exit is None
        assert seen.memory_bytes is None or 1 << 20 < seen.memory_bytes < 1 << 30

    def test_launching_twice_starts_one(self, bench: Bench) -> None:
        launch = bench.plan()
        first, second = bench.launch(launch), bench.launch(launch)
        until(lambda: bench.healthy(first))
        assert first == second
        assert bench.starts(first) == 1

    def test_launching_from_many_places_at_once_starts_one(self, bench: Bench) -> None:
        launch = bench.plan()

        async def herd() -> list[Instance]:
            return await asyncio.gather(*(bench.make().launch(launch) for _ in range(6)))

        first, *others = run(herd())
        bench.launched[first.labels.instance] = first
        until(lambda: bench.healthy(first))
        assert all(other == first for other in others)
        assert bench.starts(first) == 1

    def test_what_was_never_launched_neither_runs_nor_ended(self, bench: Bench) -> None:
        instance = bench.start()
        never = replace(instance, labels=replace(instance.labels, instance="never"), handle={"dir": "/nowhere"})
        assert bench.inspect(never) == Observed(running=False)
        bench.stop(never)

    def test_an_ended_instance_is_not_started_again(self, bench: Bench) -> None:
        launch = bench.plan("--exit-after", "0.01", "--code", "3")
        instance = bench.launch(launch)
        bench.ended(instance)
        assert bench.launch(launch) == instance
        assert bench.ended(instance).code == 3
        assert bench.starts(instance) == 1

    def test_another_object_adopts_what_runs(self, bench: Bench) -> None:
        instance = bench.start()
        other = bench.make()
        assert run(other.inspect(instance)).running
        run(other.stop(instance, 5))
        assert bench.inspect(instance).exit

    def test_the_log_has_its_last_lines(self, bench: Bench) -> None:
        instance = bench.start("--say", "one", "--say", "two", "--say", "three")
        until(lambda: len(bench.logs(instance)) == 3)
        assert bench.logs(instance, tail=2) == ["two", "three"]
        assert bench.logs(instance, tail=0) == []

    def test_a_followed_log_goes_on_until_the_engine_ends(self, bench: Bench) -> None:
        instance = bench.launch(bench.plan("--tick", "0.02", "--exit-after", "0.7"))
        lines = bench.logs(instance, follow=True)
        ticks = [line for line in lines if line.startswith("tick")]
        assert ticks == [f"tick {n}" for n in range(len(ticks))]
        assert "leaving" in lines

    def test_the_exit_code_and_last_lines_are_kept(self, bench: Bench) -> None:
        instance = bench.launch(bench.plan("--spew", "300", "--exit-after", "0.01", "--code", "7"))
        end = bench.ended(instance)
        assert (end.code, end.signal, end.cause) == (7, None, "")
        assert len(end.tail) == 200
        assert end.tail[-1] == "leaving"
        assert abs(end.at - time.time()) < 60

    def test_the_signal_that_killed_it_is_kept(self, bench: Bench) -> None:
        end = bench.ended(bench.launch(bench.plan("--exit-after", "0.01", "--die", "11")))
        assert (end.code, end.signal, end.cause) == (None, 11, "")

    def test_a_program_that_is_missing_is_an_exit_with_a_reason(self, bench: Bench) -> None:
        end = bench.ended(bench.launch(bench.plan(argv=("/nowhere/llama-server",))))
        assert end.code == 127
        assert "'/nowhere/llama-server' was not found" in end.tail[-1]

    def test_stop_lets_an_engine_finish(self, bench: Bench) -> None:
        instance = bench.start("--on-term", "4")
        bench.stop(instance)
        end = bench.inspect(instance).exit
        assert end
        assert (end.code, end.signal, end.cause) == (4, None, "stopped")
        assert not bench.healthy(instance)

    def test_stop_kills_an_engine_that_ignores_it(self, bench: Bench) -> None:
        instance = bench.start("--ignore-term")
        bench.stop(instance, 0.2)
        end = bench.inspect(instance).exit
        assert end
        assert (end.signal, end.cause) == (9, "stopped")

    def test_a_second_stop_may_be_less_patient(self, bench: Bench) -> None:
        instance = bench.start("--ignore-term")

        async def both() -> None:
            patient = asyncio.create_task(bench.platform.stop(instance, 600))
            await asyncio.sleep(0.2)
            await bench.make().stop(instance, 0)
            await patient

        run(both())
        bench.stop(instance)
        assert bench.inspect(instance).exit

    def test_nothing_an_engine_forked_survives_stop(self, bench: Bench) -> None:
        instance = bench.start("--children")
        bench.stop(instance)
        assert bench.discovered() == []

    def test_nothing_an_engine_forked_survives_its_own_end(self, bench: Bench) -> None:
        instance = bench.launch(bench.plan("--children", "--exit-after", "0.1"))
        bench.ended(instance)
        assert bench.discovered() == []

    def test_a_stranger_at_its_port_is_not_taken_for_the_engine(self, bench: Bench) -> None:
        instance = bench.start()
        assert run(bench.platform.listens(instance))
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.listen()
            elsewhere = f"http://127.0.0.1:{stranger.getsockname()[1]}"
            assert not run(bench.platform.listens(replace(instance, url=elsewhere)))

    def test_an_engine_that_nobody_renews_is_ended(self, bench: Bench) -> None:
        end = bench.ended(bench.launch(bench.plan(lease_s=0.3)))
        assert end.cause == "lease expired"

    def test_a_renewed_lease_keeps_an_engine(self, bench: Bench) -> None:
        instance = bench.launch(bench.plan(lease_s=2.5))
        for _ in range(10):
            time.sleep(0.3)
            run(bench.platform.renew(instance, 2.5))
        assert bench.inspect(instance).running
        run(bench.platform.renew(instance, 0.1))
        assert bench.ended(instance).cause == "lease expired"

    def test_what_runs_is_discovered_and_other_owners_things_are_not(self, bench: Bench) -> None:
        ours, theirs = bench.start(), bench.start(owner=f"{bench.owner}-other")
        assert bench.discovered() == [ours]
        assert bench.discovered(f"{bench.owner}-other") == [theirs]
        bench.stop(replace(theirs, labels=replace(theirs.labels, owner=bench.owner), handle={"dir": "/nowhere"}), 0)
        assert bench.inspect(theirs).running

    def test_the_engine_key_is_not_in_the_log(self, bench: Bench) -> None:
        instance = bench.launch(bench.plan("--print-key", "--exit-after", "0.1"))
        end = bench.ended(instance)
        key = Path(instance.key_ref.removeprefix("file:")).read_text()
        lines = bench.logs(instance)
        assert "my key is [engine key]!" in lines
        assert "".join(lines).count("[engine key]") == 3
        assert not any(key in line for line in (*lines, *end.tail))

    def test_a_running_instance_is_not_forgotten_and_an_ended_one_is(self, bench: Bench) -> None:
        instance = bench.start()
        with pytest.raises(ModelportError, match="still runs"):
            run(bench.platform.forget(instance))
        assert bench.healthy(instance)
        bench.stop(instance)
        run(bench.platform.forget(instance))
        assert bench.inspect(instance) == Observed(running=False)
        run(bench.platform.forget(instance))
