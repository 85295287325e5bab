"""The shim alone, as it runs on any machine: its files, its exit codes, its log."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.platforms import procfs

ROOT = Path(__file__).parents[2]
SHIM = ROOT / "modelport" / "shim" / "shim.py"
FAKE_ENGINE = ROOT / "tests" / "platforms" / "fake_engine.py"
STARTED, USAGE, ALREADY, CANNOT = 0, 2, 3, 4
KEY = "k3y-" + "0123456789abcdef" * 2
PATIENCE_S = 15.0

KILL_AT = """
import os, runpy, signal, sys
shim, home, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
steps = 0
def watch(event, args):
    global steps
    if event in ("os.fork", "os.exec") or (event in ("open", "os.rename") and home in str(args)):
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.argv = [shim, home]
sys.addaudithook(watch)
runpy.run_path(shim, run_name="__main__")
"""
"""Runs the shim and kills it at its nth step: whichever of its processes gets there."""


def until(what: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain"
        time.sleep(0.02)
    return found


class Home:
    """A directory for one instance, as a platform would have made it."""

    def __init__(self, path: Path) -> None:
        self.path, self.mark = path, {"MODELPORT_INSTANCE": f"t-{uuid.uuid4().hex[:12]}"}
        path.mkdir(mode=0o700)

    def launch(self, *switches: str, run: bool = True, **more: Any) -> int:
        """Write launch.json for the fake engine and run the shim; returns the exit code."""
        (self.path / "key").write_text(KEY)
        launch = {
            "argv": [sys.executable, "-I", "-S", str(FAKE_ENGINE), "--starts", f"{self.path}.starts", *switches],
            "env": {},
            "secret_env": {"ENGINE_KEY": "engine-key"},
            "marks": self.mark,
            "grace_s": 5,
            "lease_s": 0,
            **more,
        }
        (self.path / "launch.json").write_text(json.dumps(launch))
        return self.shim().returncode if run else STARTED

    def shim(self, **more: Any) -> subprocess.CompletedProcess:
        command = [sys.executable, "-I", "-S", str(SHIM), str(self.path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, **more)

    def state(self) -> dict[str, Any]:
        return json.loads((self.path / "state.json").read_text())

    def end(self) -> dict[str, Any]:
        until((self.path / "exit.json").exists)
        return json.loads((self.path / "exit.json").read_text())

    def logged(self) -> str:
        return (self.path / "engine.log").read_text()

    def starts(self) -> int:
        path = Path(f"{self.path}.starts")
        return len(path.read_text().splitlines()) if path.exists() else 0

    def alive(self) -> list[int]:
        return [pid for pid, _ in procfs.marked(self.mark)]

    def clear(self) -> None:
        for pid in self.alive():
            procfs.send(pid, signal.SIGKILL, self.mark)
        until(lambda: not self.alive())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    home.clear()


def test_a_second_shim_leaves_at_once_and_quietly(home: Home) -> None:
    assert home.launch() == STARTED
    second = home.shim()
    assert (second.returncode, second.stdout, second.stderr) == (ALREADY, "", "")
    assert home.state()["engine_pid"] in home.alive()


def test_an_ended_engine_is_not_started_again(home: Home) -> None:
    home.launch("--exit-after", "0.01")
    home.end()
    until(lambda: not home.alive())
    assert home.shim().returncode == ALREADY
    assert home.starts() == 1


@pytest.mark.parametrize("missing", ["launch.json", "key"])
def test_what_is_missing_is_said_and_nothing_started(home: Home, missing: str) -> None:
    home.launch(run=False)
    (home.path / missing).unlink()
    shim = home.shim()
    assert shim.returncode == CANNOT
    assert missing in shim.stderr
    assert not (home.path / "state.json").exists()


def test_an_unknown_secret_is_said_and_nothing_started(home: Home) -> None:
    home.launch(run=False, secret_env={"TOKEN": "hub-token"})
    assert "refers to no secret" in home.shim().stderr
    assert home.alive() == []


def test_no_directory_is_a_usage_error() -> None:
    assert subprocess.run([sys.executable, str(SHIM)], capture_output=True).returncode == USAGE


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["no-such-program-here"], 127, "'no-such-program-here' was not found"),
        (["/etc/passwd"], 126, "'/etc/passwd' cannot be run: Permission denied"),
        (["/"], 126, "'/' cannot be run: Permission denied"),
        (["sh", "\0"], 126, "'sh' cannot be run: Invalid argument"),
    ],
)
def test_a_program_that_cannot_be_run_is_an_exit_with_a_reason(
    home: Home, argv: list[str], code: int, says: str
) -> None:
    assert home.launch(argv=argv) == STARTED
    end = home.end()
    assert (end["code"], end["signal"], end["cause"]) == (code, None, "")
    assert says in end["tail"][-1]
    assert says in home.logged()


def test_a_shim_killed_at_any_step_starts_at_most_one_engine(tmp_path: Path) -> None:
    step, completed = 0, False
    while not completed:
        step += 1
        home = Home(tmp_path / f"home{step}")
        home.launch(run=False)
        command = [sys.executable, "-I", "-S", "-c", KILL_AT, str(SHIM), str(home.path), str(step)]
        completed = subprocess.run(command, capture_output=True).returncode == STARTED
        after = home.shim().returncode
        begun = (home.path / "state.json").exists()
        assert begun
        assert after in (STARTED, ALREADY)
        if after == STARTED or completed:
            until(home.starts)
        else:
            until(lambda h=home: not h.alive())  # PR_SET_PDEATHSIG: nothing runs without its shim
        assert home.starts() <= 1
        home.clear()
    assert step > 8  # so many steps there are: the test did watch them


def test_an_engine_gets_only_what_it_may_see_of_the_environment(home: Home) -> None:
    home.launch("--print-env", "--exit-after", "0.01", run=False, env={"MINE": "1"})
    parents = {"PATH": os.environ["PATH"], "HF_TOKEN": "x", "MODELPORT_KEY": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    home.shim(env={**parents, "CUDA_VISIBLE_DEVICES": "0", "https_proxy": "http://p", "LC_ALL": "C"})
    wanted = "CUDA_VISIBLE_DEVICES ENGINE_KEY LC_ALL MINE MODELPORT_INSTANCE PATH https_proxy"
    assert home.end()["tail"][0] == wanted


def test_a_shim_keeps_nothing_of_its_launcher_open(home: Home) -> None:
    home.launch(run=False)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    home.shim(close_fds=False)
    os.close(writer)
    os.set_blocking(reader, False)
    assert os.read(reader, 1) == b""  # the end of the file: nobody else has it
    os.close(reader)
    state = home.state()
    assert os.getsid(state["shim_pid"]) != os.getsid(0)
    assert os.getsid(state["engine_pid"]) == os.getpgid(state["engine_pid"]) == state["engine_pid"]


def test_the_log_is_rotated_and_keeps_the_newest(home: Home) -> None:
    home.launch("--spew", "600000", "--exit-after", "0.01")
    home.end()
    sizes = {path.name: path.stat().st_size for path in home.path.glob("engine.log*")}
    assert sizes.keys() == {"engine.log", "engine.log.1", "engine.log.2"}
    assert max(sizes.values()) <= 10 << 20
    newest_first = ("engine.log.2", "engine.log.1", "engine.log")
    lines = "".join((home.path / name).read_text() for name in newest_first).splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line")]
    assert numbers == list(range(numbers[0], 600000))


def test_a_line_without_end_is_cut_and_neither_held_nor_lost(home: Home) -> None:
    home.launch("--spew-bytes", str(3 << 20), "--exit-after", "0.2")
    end = home.end()
    lines = home.logged().splitlines()
    assert sum(line.count("z") for line in lines) == 3 << 20
    assert max(map(len, lines)) <= 16 << 10
    assert max(map(len, end["tail"])) <= 2000


def test_a_key_is_not_logged_even_across_the_place_where_a_line_is_cut(home: Home) -> None:
    home.launch("--print-key", "--exit-after", "0.2")
    end = home.end()
    assert KEY not in home.logged().replace("\n", "")
    assert home.logged().replace("\n", "").count("[engine key]") == 3
    assert KEY not in json.dumps(end)


def test_binary_output_and_colours_do_not_reach_the_log(home: Home) -> None:
    home.launch("--binary", "--exit-after", "0.01")
    assert home.end()["tail"][-2:] == ["100%", "leaving"]
    logged = (home.path / "engine.log").read_bytes()
    assert not any(byte in logged for byte in (*range(9), *range(11, 32), 127))


def test_a_touched_lease_is_renewed_and_a_rewritten_one_is_read(home: Home) -> None:
    (home.path / "lease").write_text("3600")
    home.launch(lease_s=0.1)
    time.sleep(0.8)
    assert not (home.path / "exit.json").exists()
    (home.path / "lease").write_text("0.1")
    assert home.end()["cause"] == "lease expired"


def test_sigterm_to_the_shim_stops_the_engine(home: Home) -> None:
    home.launch("--ignore-term", grace_s=0.1)
    until(home.starts)
    os.kill(home.state()["shim_pid"], signal.SIGTERM)
    end = home.end()
    assert (end["signal"], end["cause"]) in ((9, "stopped"), (15, "stopped"))
    until(lambda: not home.alive())
