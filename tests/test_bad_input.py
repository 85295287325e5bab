"""Bad input, as a user would give it on the command line: each gets its sentence and its exit code, no traceback, and
loses nothing. What comes over HTTP is in tests/gateway/test_bad_input.py."""

import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.catalog.write_gguf import LLAMA, gguf, llama
from tests.harness import ROOT, Serving, environment, modelport


def refused(*arguments: str, state_dir: Path, code: int = 1, **environment: str) -> str:
    """The sentence a command ends with."""
    done = modelport(*arguments, state_dir=state_dir, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("modelport: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model files that are wrong, each in its way."""
    place = tmp_path_factory.mktemp("models")
    whole = llama(place / "whole.gguf").read_bytes()
    (place / "truncated.gguf").write_bytes(whole[:-1000])
    (place / "cut-header.gguf").write_bytes(whole[:100])
    (place / "many.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 10**18, 1) + whole[24:])
    (place / "empty.gguf").touch()
    (place / "picture.gguf").write_bytes(b"\x89PNG" + bytes(1000))
    huge = gguf(LLAMA, {"token_embd.weight": ((64, 3), 1), "output_norm.weight": ((64,), 0)})
    weights = 2**40  # a terabyte and more of them, in a file that has holes for all of it
    header = huge.replace(struct.pack("<QQ", 64, 3), struct.pack("<QQ", 64, weights // 64))
    moved = header.replace(struct.pack("<IQ", 0, 384), struct.pack("<IQ", 0, weights * 2))
    with (place / "huge.gguf").open("wb") as file:
        file.write(moved)
        file.truncate(len(moved) + weights * 2 + 4096)
    (place / "directory").mkdir()
    (place / "yaml").mkdir()
    return place


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("smolm2", "Did you mean 'smollm2'"),
        ("no/such/model", "no/such/model"),
        ("a" * 300, "File name too long"),
        ("~nobody99/x.gguf", "~nobody99"),
        ("", "lacks the key 'model'"),
        ("{}/absent.gguf", "absent.gguf"),
        ("{}/truncated.gguf", "is truncated"),
        ("{}/cut-header.gguf", "its header promises 4 tensors in the 76 bytes"),
        ("{}/many.gguf", "promises 1,000,000,000,000,000,000 tensors"),
        ("{}/empty.gguf", "empty"),
        ("{}/picture.gguf", "GGUF"),
        ("{}/directory", "directory"),
        ("{}/huge.gguf", "does not fit"),
    ],
)
def test_a_model_that_cannot_be_is_one_sentence(files: Path, shared: Serving, model: str, words: str) -> None:
    said = refused("start", model.format(files), "--name", "never", state_dir=shared.state_dir)
    assert words in said
    assert [view.name for view in shared.client.list()] == []


def test_run_says_the_same_and_leaves_nothing(state_dir: Path) -> None:
    assert "Did you mean 'smollm2'" in refused("run", "smolm2", "--prompt", "Hi", state_dir=state_dir)
    assert list((state_dir / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "services: {a: {model: smollm2, replica: 2}}",
            "service 'a' has the unknown key 'replica'. Did you mean 'replicas'",
        ),
        ("services: [", "is not YAML (line"),
        ("services: {a: {model: smollm2}, a: {model: other}}", "has the key 'a' twice"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("", "holds no services"),
        ("services: {a: {model: smollm2, context: 1}}", "context is 1"),
        ("services: {a: {model: smollm2, engine: vllm2}}", "engine 'vllm2' is not known"),
    ],
)
def test_a_yaml_file_that_is_wrong_is_one_sentence(files: Path, shared: Serving, text: str, words: str) -> None:
    file = files / "yaml" / "services.yaml"
    file.write_text(text)
    assert words in refused("apply", str(file), state_dir=shared.state_dir)
    assert "cannot be read: No such file" in refused("apply", "/nowhere.yaml", state_dir=shared.state_dir)


def test_a_port_in_use_is_named_with_the_option_that_helps(state_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for command in (("serve",), ("run", "smollm2", "--engine", "stub")):
            said = refused(*command, "--port", port, state_dir=state_dir)
            assert port in said and "--port" in said


def test_a_state_directory_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert "state_dir (MODELPORT_STATE_DIR)" in refused("serve", state_dir=blocked / "below")


def test_a_state_directory_on_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """The kernel's table of mounts is laid over, in a mount namespace of the command's own: no server is needed."""
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 0:26 / / rw - ext4 /dev/x rw\n30 22 0:27 / {tmp_path} rw - nfs4 server:/export rw\n")
    script = 'mount --bind "$0" /proc/$$/mountinfo && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, str(table), sys.executable, "-m", "modelport.cli.main", "serve"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path / "s"), capture_output=True, text=True, timeout=30
    )
    if "unshare" in done.stderr or "mount" in done.stderr.split("modelport:")[0]:
        pytest.skip("a mount namespace cannot be made here")
    assert done.returncode == 1
    assert "is on a network file system (nfs4)" in done.stderr and "MODELPORT_STATE_DIR" in done.stderr


def test_a_socket_path_that_is_too_long_names_the_setting_that_helps(tmp_path: Path) -> None:
    said = refused("serve", state_dir=tmp_path / ("long" * 30))
    assert "unix socket" in said and "MODELPORT_RUNTIME_DIR" in said
    assert not (tmp_path / ("long" * 30)).exists(), "it was refused before anything was made"


def test_a_store_that_is_damaged_is_said_to_be(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "modelport.db").write_bytes(b"this is no database" * 500)
    assert "cannot be opened: file is not a database" in refused("serve", state_dir=state_dir)


def test_a_setting_that_is_wrong_names_where_it_came_from(state_dir: Path) -> None:
    assert "MODELPORT_PORT" in refused("ps", state_dir=state_dir, MODELPORT_PORT="many")
    assert "Did you mean 'MODELPORT_PORT'" in refused("ps", state_dir=state_dir, MODELPORT_PROT="1")
    assert "log_level is 'loud'" in refused("serve", "--log-level", "loud", state_dir=state_dir)


def test_without_a_server_every_command_says_how_to_start_one(state_dir: Path) -> None:
    for command in (
        ("ps",),
        ("status", "x"),
        ("start", "smollm2"),
        ("stop", "x"),
        ("logs", "x"),
        ("chat",),
    ):
        assert "start it with `modelport serve`" in refused(*command, state_dir=state_dir)
    for command in (("keys", "list"), ("teams", "list"), ("budgets", "list"), ("usage",)):  # on the store alone
        assert "no store in" in refused(*command, state_dir=state_dir)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "..", "%2e%2e", "a b"])
def test_a_service_name_from_a_hostile_hand_is_just_not_found(shared: Serving, name: str) -> None:
    for command in ("status", "stop", "rm", "restart", "logs"):
        said = refused(command, name, state_dir=shared.state_dir)
        assert "no service" in said or "no such route" in said
