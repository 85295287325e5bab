"""Toolbox: what the bench needs on this machine, built and installed into one cache directory."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .postgres import binaries

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport-bench"
RUN = CACHE / "run"
"""Logs, sockets and states of what is measured: on the disk that the cache is on, as a journal's cost is a disk's."""
DEBIAN = {"nginx": "1.22.1", "haproxy": "2.6.12", "wrk": "4.1.0", "postgresql": "15"}
"""Package and the version that published figures were taken with; another one is measured, and named in the output."""
PYTHON = {
    "sglang-router": ("sglang-router==0.3.2",),
    "litellm": ("litellm[proxy]==1.106.2",),
    "fastapi-httpx": ("fastapi==0.165.0", "httpx==0.28.1", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0",
                      "msgspec==0.22.0"),
    "profiler": ("py-spy==0.4.3",),
}  # fmt: skip
"""Virtual environments, each with what it is for: these do not live together, nor with ours."""


def program(source: str) -> Path:
    """A program of c/, compiled once for each version of its source."""
    code = HERE / "c" / f"{source}.c"
    made = CACHE / "bin" / f"{source}-{hashlib.sha256(code.read_bytes()).hexdigest()[:12]}"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        draft = made.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-o", draft, code], check=True)
        draft.rename(made)
    return made


def script(environment: str, name: str) -> Path:
    """A console script of one of the virtual environments."""
    return CACHE / environment / "bin" / name


def installed(name: str) -> bool:
    """Whether a peer can be measured here."""
    if name in PYTHON:
        return script(name, "python").exists()
    return binaries() is not None if name == "postgresql" else shutil.which(name) is not None


def version(name: str) -> str:
    """What is installed, as its package manager names it."""
    if name in PYTHON:
        package = PYTHON[name][0].partition("==")[0].partition("[")[0]
        found = f"from importlib.metadata import version; print(version({package!r}))"
        command = [str(script(name, "python")), "-c", found]
    else:
        command = ["dpkg-query", "-W", "-f", "${Version}", name]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def install() -> None:
    """Install whatever is missing: Debian's packages (as root), and the virtual environments."""
    missing = [name for name in DEBIAN if not installed(name)]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", *missing], check=True)
    for name, packages in PYTHON.items():
        if not script(name, "python").exists():
            subprocess.run([sys.executable, "-m", "venv", CACHE / name], check=True)
            subprocess.run([script(name, "pip"), "install", "-q", *packages], check=True)
