"""Postgres: a server of the bench's own, for several gateways that share one store. Its writes are durable."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PORT = 19432


def binaries() -> Path | None:
    """Where Debian puts its programs, the newest version's; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def postgres(core: int, run: Path) -> Iterator[str]:
    """A new server's URL, on loopback; removed at the end. Root runs it as `nobody`, as it refuses to be root."""
    programs = binaries()
    assert programs is not None
    password = secrets.token_hex(16)
    as_nobody: dict[str, Any] = {"cwd": "/"}
    # Below /var/tmp: a user who is not root may be unable to look into the cache directory of one who is.
    with TemporaryDirectory(prefix="modelport-bench-", dir="/var/tmp") as name:
        directory = Path(name)
        (directory / "password").write_text(password)
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody", "nogroup")
            shutil.chown(directory / "password", "nobody", "nogroup")
            as_nobody |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
        data = str(directory / "data")
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "bench", "-A", "scram-sha-256", "--pwfile", directory / "password"],
            check=True, stdout=subprocess.DEVNULL, **as_nobody,
        )  # fmt: skip
        with (run / "postgres.log").open("wb") as log:
            server = subprocess.Popen(
                ["taskset", "-c", str(core), str(programs / "postgres"), "-D", data, "-p", str(PORT), "-k", name, "-h",
                 "127.0.0.1"], stdout=log, stderr=log, **as_nobody,
            )  # fmt: skip
        try:
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(PORT)]
            while server.poll() is None and subprocess.run(ready).returncode:
                time.sleep(0.05)
            yield f"postgresql://bench:{password}@127.0.0.1:{PORT}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # does not wait for clients, as SIGTERM would
            server.wait()
