"""A real PostgreSQL for tests: one a session, on loopback, in a directory of its own, ended with it."""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "S3cret/wörd@:%?#x"
"""What must never be shown; with every character that a URL has to escape."""
PR_SET_PDEATHSIG = 1


class Server:
    """A server that can be stopped and started again at the same port. Root runs it as another user, as it must."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries, self._directory = binaries, directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody", "nogroup")
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        password = directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        made = self._run(
            "initdb", "-D", directory / "data", "-U", "tester", "-A", "scram-sha-256", "--pwfile", password,
            "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _run(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self._binaries / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd="/", **self._user)  # type: ignore[call-overload]

    def start(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": self._directory, "fsync": "off"}
        command = [str(self._binaries / "postgres"), "-D", str(self._directory / "data"), "-p", str(self.port)]
        prctl = ctypes.CDLL(None).prctl
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGQUIT),  # tests that are killed leave no server
                **self._user,  # type: ignore[arg-type]
            )
        deadline = time.monotonic() + 30
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", self.port).returncode:
            assert self._process.poll() is None and time.monotonic() < deadline, (self._directory / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, as a crash is: connections break off, what was committed is there again after `start`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def url(self, database: str, user: str = "tester", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str, database: str = "postgres") -> None:
        """Statements as the administrator."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(sql)  # type: ignore[arg-type]

    def database(self) -> str:
        """A new, empty database's name."""
        name = f"t{secrets.token_hex(4)}"
        self.run(f"CREATE DATABASE {name}")
        return name


class References:
    """What Modelport is told of a store: `url_ref` and `pepper_ref`, files in a directory."""

    def __init__(self, directory: Path, url: str, pepper: str = "pepper-" * 6) -> None:
        directory.mkdir(exist_ok=True)
        for name, text in (("url", url), ("pepper", pepper)):
            (directory / name).write_text(f"{text}\n")
            (directory / name).chmod(0o600)
        self.url_ref, self.pepper_ref = f"file:{directory / 'url'}", f"file:{directory / 'pepper'}"


def _binaries() -> Path | None:
    """Where initdb and postgres are: on PATH, or where Debian keeps them."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    for place in [*found, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    return None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The session's server; tests that need one are skipped where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="the package psycopg is missing: pip install 'modelport[postgres]'")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("initdb and postgres are missing: scripts/test-packages.sh installs them")
    with tempfile.TemporaryDirectory(prefix="mp-pg-") as name:
        server = Server(binaries, Path(name))
        yield server
        server.stop()
