"""The registry of what runs, and the file it is exported to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelport.errors import ModelportError
from modelport.tao import registry
from tests.harness import ROOT
from tests.tao.views import service

COMMON = {"job_id", "platform", "network_arch", "started_at", "host_url"}
MORE = {
    "local-docker": {"docker_url", "host_port"},
    "brev": {"docker_url", "host_port", "instance_id"},
    "lepton": {"platform_job_id"},
    "slurm": {"host_port", "platform_job_id", "slurm_node", "pid"},
    "kubernetes": {"platform_job_id", "namespace"},
    "process": {"host_port", "instance_id", "pid"},
}
"""The skill's registry_write.<platform>, and what its later steps need beside."""


@pytest.mark.parametrize("platform", MORE)
def test_an_entry_has_the_fields_of_its_platform(platform: str) -> None:
    labels = {"tao.namespace": "ml", "tao.instance-id": "brev-7"}
    found = registry.entry(service(2, "cosmos-rl", platform=platform, labels=labels))
    assert set(found) == COMMON | MORE[platform]
    expected = {
        "docker_url": f"http://{found['job_id']}:8080",
        "host_port": 8081,
        "instance_id": "brev-7",
        "namespace": "ml",
        "slurm_node": "10.0.0.2",
        "pid": 4002,
        "platform_job_id": "i-000000000002",
        "host_url": "http://localhost:8081",
        "network_arch": "cosmos-rl",
        "started_at": "2026-05-28T20:28:40+00:00",
        "platform": platform,
    }
    assert {name: found[name] for name in found if name != "job_id"} == {n: expected[n] for n in found if n != "job_id"}


def test_the_latest_is_the_one_that_began_last_of_those_that_run() -> None:
    first, second, third = service(1), service(2), service(3)
    found = registry.document([second, third, first])
    assert found["latest"] == third.id and set(found) == {first.id, second.id, third.id, "latest"}
    ended = [service(3, state="failed"), service(4, desired="removed"), service(5, state="stopped", desired="stopped")]
    assert registry.document([first, second, *ended])["latest"] == second.id
    assert registry.document(ended) == {} == registry.document([])


def test_services_that_the_skill_did_not_start_are_none_of_it() -> None:
    assert registry.document([service(1, skill=False)]) == {}


def test_a_service_without_a_gateway_has_no_address() -> None:
    assert registry.entry(service(1, url=""))["host_url"] == ""


def test_a_file_is_written_for_its_owner_with_two_spaces(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    document = registry.document([service(1)])
    assert registry.export(path, lambda: document) == document
    assert path.read_text() == json.dumps(document, indent=2) + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.json", "state.json.lock"]


def test_a_link_where_the_scratch_file_would_be_is_not_followed(tmp_path: Path) -> None:
    """The skill's own file is in a directory where anybody may write."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "state.json.tmp").symlink_to(victim)
    registry.export(tmp_path / "state.json", dict)
    assert victim.read_text() == "mine" and (tmp_path / "state.json").read_text() == "{}\n"
    (tmp_path / "other.json.lock").symlink_to(victim)
    with pytest.raises(ModelportError, match="cannot be written"):
        registry.export(tmp_path / "other.json", dict)


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelportError, match="cannot be written: No such file or directory"):
        registry.export(tmp_path / "none" / "state.json", dict)


DIES = """
import os, signal, sys
from pathlib import Path
from modelport.tao import registry

left = int(sys.argv[2])

def counted(call):
    def run(*arguments, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **more)
    return run

for name in ("open", "fdopen", "fsync", "replace", "unlink", "write"):
    setattr(os, name, counted(getattr(os, name)))
Path.unlink = counted(Path.unlink)
document = {"new": {"text": "n" * 100_000}}
registry.export(Path(sys.argv[1]), lambda: document)
"""


def test_a_writer_killed_between_any_two_steps_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    old = {"old": {"text": "o" * 1000}}
    seen: list[str] = []
    for step in range(20):
        registry.export(path, lambda: old)  # and what a killed one left does not stand in the way
        done = subprocess.run([sys.executable, "-c", DIES, str(path), str(step)], cwd=ROOT, capture_output=True)
        (name,) = json.loads(path.read_text())
        seen.append(name)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert seen.count("new") == 1 and seen[-1] == "new" and len(seen) > 4


WRITES = """
import sys
from pathlib import Path
from modelport.tao import registry

number = 0
while True:
    number += 1
    document = {str(n): {"by": sys.argv[2], "number": number} for n in range(2000)}
    registry.export(Path(sys.argv[1]), lambda: document)
"""


def test_writers_that_are_killed_at_any_moment_never_leave_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    registry.export(path, dict)
    for turn in range(6):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITES, str(path), str(turn * 2 + n)], cwd=ROOT) for n in (0, 1)
        ]
        before = path.stat().st_ino
        while path.stat().st_ino == before:
            time.sleep(0.005)
        for _ in range(10 * turn):
            found = json.loads(path.read_text())
            assert len({(entry["by"], entry["number"]) for entry in found.values()}) <= 1
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        found = json.loads(path.read_text())
        assert len(found) == 2000 and len({(entry["by"], entry["number"]) for entry in found.values()}) == 1
    assert registry.export(path, lambda: {"after": {}}) == json.loads(path.read_text())
