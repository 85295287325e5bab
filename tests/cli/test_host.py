"""`modelport host`: the model server's own command line, handed through."""

import subprocess
import sys

from tests.harness import ROOT


def host(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelport.cli.main", "host", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_help_is_the_servers_own() -> None:
    shown = host("--help")
    assert shown.returncode == 0
    assert "usage: modelport host" in shown.stdout
    for flag in (
        "--model",
        "--job",
        "--docker_env_vars",
        "--idle_timeout_minutes",
        "--disable_auto_deletion",
        "--batch",
    ):
        assert flag in shown.stdout


def test_wrong_usage_is_a_sentence_and_2() -> None:
    wrong = host("model", "--port", "99999")
    assert (wrong.returncode, wrong.stderr) == (2, "modelport host: --port must be 0 to 65535, not 99999.\n")
    assert host("--no-such-flag").returncode == 2
