"""The process platform: the shared suite, and what only processes and files can show."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from modelport.domain.instance import Instance, Observed
from modelport.errors import ModelportError
from modelport.platforms import procfs
from modelport.platforms.process import ProcessPlatform
from tests.platforms.conformance import Bench, Conformance, run, until

KILLED_CALLER = Path(__file__).with_name("killed_caller.py")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    owner = f"test-{uuid.uuid4().hex[:12]}"
    bench = Bench(lambda: ProcessPlatform(tmp_path / "state"), tmp_path, owner)
    yield bench
    bench.clear()
    assert [pid for pid, _ in procfs.marked({"MODELPORT_OWNER": owner})] == []


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def home(instance: Instance) -> Path:
    return Path(instance.handle["dir"])


def state(instance: Instance) -> dict[str, int]:
    return json.loads((home(instance) / "state.json").read_text())


def kill_shim(instance: Instance) -> None:
    os.kill(state(instance)["shim_pid"], signal.SIGKILL)


def everything_of(bench: Bench) -> list[int]:
    return [pid for pid, _ in procfs.marked({"MODELPORT_OWNER": bench.owner})]


class TestProcess(Conformance):
    """The process platform passes the suite."""


def test_inspect_gives_the_engines_own_pid_and_memory(bench: Bench) -> None:
    instance = bench.start()
    seen = bench.inspect(instance)
    assert seen.memory_bytes
    pid = seen.pid
    assert (bench.scratch / instance.labels.instance).read_text() == f"{pid}\n"


def test_directories_are_0700_and_files_0600(bench: Bench) -> None:
    instance = bench.start("--say", "hello")
    until(lambda: bench.logs(instance))
    running = {path.name: path.stat().st_mode & 0o777 for path in home(instance).iterdir()}
    bench.stop(instance)
    ended = {path.name: path.stat().st_mode & 0o777 for path in home(instance).iterdir()}
    assert {"launch.json", "key", "lock", "lease", "state.json", "engine.log", "exit.reserve"} == running.keys()
    assert "exit.json" in ended
    assert {*running.values(), *ended.values()} == {0o600}
    assert home(instance).stat().st_mode & 0o777 == home(instance).parent.stat().st_mode & 0o777 == 0o700


def test_the_key_is_random_and_in_no_argv_and_no_other_file(bench: Bench) -> None:
    one, two = bench.start(), bench.start()
    keys = [(home(instance) / "key").read_text() for instance in (one, two)]
    assert keys[0] != keys[1]
    assert min(map(len, keys)) >= 43
    told = [path.read_text() for path in home(one).iterdir() if path.name not in ("key", "exit.reserve")]
    told += [Path(f"/proc/{pid}/cmdline").read_text() for pid in everything_of(bench)]
    assert not any(key in text for key in keys for text in told)


def test_launchers_in_several_processes_start_one(bench: Bench) -> None:
    launch = bench.plan()
    commands = [caller(bench, launch, "step", 0)] * 4
    with ThreadPoolExecutor() as pool:
        assert [done.returncode for done in pool.map(subprocess.run, commands)] == [0] * 4
    instance = bench.launch(launch)
    until(lambda: bench.healthy(instance))
    assert bench.starts(instance) == 1


def test_a_caller_killed_at_any_step_leaves_one_engine_or_none_and_the_next_launch_makes_it_one(bench: Bench) -> None:
    step, completed = 0, False
    while not completed:
        step += 1
        completed = crash_then_launch(bench, "step", step) == 0
    assert step > 10  # so many steps there are: the test did watch them


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.02, 0.03, 0.05])
def test_a_caller_killed_while_its_shim_starts_leaves_one_engine(bench: Bench, after_s: float) -> None:
    crash_then_launch(bench, "after", after_s)


def caller(bench: Bench, launch: object, how: str, when: float) -> list[str]:
    pickled = bench.scratch / "launch.pickle"
    pickled.write_bytes(pickle.dumps(launch))
    return [sys.executable, str(KILLED_CALLER), str(bench.scratch / "state"), str(pickled), how, str(when)]


def crash_then_launch(bench: Bench, how: str, when: float) -> int:
    """Let a caller crash, launch again as its successor would; one engine ran. Returns the caller's exit status."""
    launch = bench.plan()
    status = subprocess.run(caller(bench, launch, how, when)).returncode
    instance = bench.launch(launch)
    until(lambda: bench.inspect(instance).pid and bench.healthy(instance))
    bench.stop(instance, 0)
    assert bench.starts(instance) == 1
    return status


def test_a_live_shim_is_never_seen_as_never_launched(bench: Bench) -> None:
    launch = bench.plan()
    instance = bench.launch(launch)
    bench.stop(instance, 0)
    run(bench.platform.forget(instance))
    with subprocess.Popen(caller(bench, launch, "step", 0)) as process:
        until(lambda: (home(instance) / "lock").exists())
        seen = [bench.inspect(instance)]
        while process.poll() is None:
            seen.append(bench.inspect(instance))
    assert all(observed.running for observed in seen)


def test_an_engine_dies_with_its_shim_and_the_reason_is_kept(bench: Bench) -> None:
    instance = bench.start("--say", "last words", "--children")
    until(lambda: bench.logs(instance))
    kill_shim(instance)
    end = bench.ended(instance)
    assert (end.cause, end.tail) == ("shim died", ("last words",))
    assert everything_of(bench) == []
    assert json.loads((home(instance) / "exit.json").read_text())["cause"] == "shim died"
    assert run(bench.make().inspect(instance)).exit == end


def test_a_shim_that_hangs_does_not_keep_its_engine_from_being_stopped(bench: Bench) -> None:
    instance = bench.start("--children")
    os.kill(state(instance)["shim_pid"], signal.SIGSTOP)
    bench.stop(instance, 0)
    assert everything_of(bench) == []
    assert bench.inspect(instance).exit


def test_a_reused_pid_is_neither_shown_nor_killed(bench: Bench, stranger: subprocess.Popen) -> None:
    instance = bench.start()
    kill_shim(instance)
    until(lambda: not everything_of(bench))
    who = {"pid": stranger.pid, "start": procfs.start_ticks(stranger.pid)}
    forged = {f"{role}_{what}": value for role in ("shim", "engine") for what, value in who.items()}
    (home(instance) / "state.json").write_text(json.dumps(forged))
    seen = bench.inspect(instance)
    bench.stop(instance, 0)
    assert (seen.running, seen.pid) == (False, None)
    assert seen.exit
    assert seen.exit.cause == "shim died"
    assert stranger.poll() is None


def test_a_reused_pid_is_not_shown_under_a_live_shim_either(bench: Bench, stranger: subprocess.Popen) -> None:
    instance = bench.start()
    true = state(instance)
    forged = {**true, "engine_pid": stranger.pid, "engine_start": procfs.start_ticks(stranger.pid)}
    (home(instance) / "state.json").write_text(json.dumps(forged))
    assert bench.inspect(instance) == Observed(running=True)
    (home(instance) / "state.json").write_text(json.dumps({**true, "engine_start": true["engine_start"] + 1}))
    assert bench.inspect(instance).pid is None
    bench.stop(instance, 0)
    assert stranger.poll() is None


def test_an_engine_whose_directory_was_lost_is_found_and_stopped(bench: Bench) -> None:
    instance = bench.start("--children")
    shutil.rmtree(bench.scratch / "state")
    assert bench.discovered() == [instance]
    assert bench.inspect(instance).running
    bench.stop(instance)
    assert everything_of(bench) == []
    with pytest.raises(ModelportError, match="cannot be renewed"):
        run(bench.platform.renew(instance, 60))


def test_leftovers_of_a_dead_shim_are_discovered_and_stopped(bench: Bench) -> None:
    instance = bench.start("--children")
    shutil.rmtree(bench.scratch / "state" / "instances")
    shim = next(pid for pid in everything_of(bench) if b"shim.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(shim, signal.SIGKILL)
    until(lambda: not bench.healthy(instance))
    assert bench.discovered() == [instance]
    bench.stop(instance, 0)
    assert everything_of(bench) == []


def test_an_instance_stopped_before_its_shim_began_is_never_started(bench: Bench) -> None:
    launch = bench.plan()
    assert launch.labels
    path = bench.scratch / "state" / "instances" / launch.labels.instance
    path.mkdir(parents=True, mode=0o700)  # so far had a caller got that died
    instance = Instance(launch.labels, "process", "", "", {"dir": str(path)})
    bench.stop(instance)
    bench.launch(launch)
    assert bench.ended(instance).cause == "stopped"
    assert bench.starts(instance) == 0


def test_an_instance_id_that_could_leave_the_directory_is_refused(bench: Bench) -> None:
    launch = bench.plan()
    for id in ("../x", "", "A", "a/b", "."):
        with pytest.raises(ModelportError, match="not an instance id"):
            run(bench.platform.launch(replace(launch, labels=replace(launch.labels, instance=id))))


def test_only_a_directory_of_its_own_is_forgotten(bench: Bench, tmp_path: Path) -> None:
    instance = bench.start()
    bench.stop(instance)
    elsewhere = tmp_path / "elsewhere" / instance.labels.instance
    shutil.copytree(home(instance), elsewhere)
    shutil.rmtree(home(instance))
    home(instance).symlink_to(elsewhere)
    for handle in (str(elsewhere), instance.handle["dir"]):
        with pytest.raises(ModelportError, match="is not removed"):
            run(bench.platform.forget(replace(instance, handle={"dir": handle})))
    assert (elsewhere / "exit.json").exists()


def test_a_secret_that_nobody_knows_is_refused_before_anything_starts(bench: Bench) -> None:
    with pytest.raises(ModelportError, match="HF_TOKEN refers to no secret"):
        bench.launch(bench.plan(secret_env={"HF_TOKEN": "hub-token"}))
    assert everything_of(bench) == []


def test_a_state_directory_that_cannot_be_written_is_a_sentence(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelportError, match=r"cannot be prepared: Not a directory .* Nothing was started"):
        run(ProcessPlatform(tmp_path / "file").launch(bench.plan()))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "state"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a full disk is tried on a small tmpfs, which needs the right to mount")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, but_bytes: int = 0) -> None:
    """Fill a disk, leaving that many bytes free."""
    for _ in range(50):  # an engine that writes may be faster than we are
        (disk / "filler").write_bytes(b"")
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, free - but_bytes))
            return
    raise AssertionError("the disk cannot be filled")


def test_a_launch_on_a_full_disk_starts_all_or_nothing(small_disk: Path, bench: Bench) -> None:
    outcomes = []
    for free_kib in (0, 4, 8, 12, 16, 40, 72, 76, 80, 84, 88, 100):
        fill(small_disk, free_kib << 10)
        launch = bench.plan()
        try:
            instance = bench.launch(launch)
        except ModelportError as error:
            outcomes.append(False)
            assert "No space left on device" in error.message
            assert everything_of(bench) == []
            fill(small_disk, 512 << 10)
            instance = bench.launch(launch)  # as its owner would after making room
        else:
            outcomes.append(True)
        until(lambda i=instance: bench.healthy(i))
        bench.stop(instance, 0)
        assert bench.starts(instance) == 1
        run(bench.platform.forget(instance))
    assert outcomes == sorted(outcomes)
    assert {*outcomes} == {True, False}


def test_an_engine_outlives_a_full_disk_and_its_reason_is_still_written(small_disk: Path, bench: Bench) -> None:
    instance = bench.start("--tick", "0.001", "--wide", "1000", lease_s=60)
    fill(small_disk)
    size = (home(instance) / "engine.log").stat().st_size
    time.sleep(0.5)
    assert (home(instance) / "engine.log").stat().st_size <= size + 4096  # the last block may have had room
    assert bench.healthy(instance)
    before = (home(instance) / "lease").stat().st_mtime_ns
    run(bench.platform.renew(instance, 60))
    assert (home(instance) / "lease").stat().st_mtime_ns > before
    bench.stop(instance)
    end = bench.inspect(instance).exit
    assert end
    assert end.cause == "stopped"
    assert "lines of output were lost" in end.tail[-1]
