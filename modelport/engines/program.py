"""Program: where an engine is installed on this machine, and in which version. Looks at files, runs nothing."""

import re
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from modelport.engines.flags import number


@dataclass(frozen=True, slots=True)
class Program:
    """An engine's own Python environment, or nothing (`python` empty) where it is not installed."""

    path: str = ""
    """The console script on PATH; empty where only the module was found."""
    python: str = ""
    version: str = ""
    """As its package says; empty where that is not known."""

    def __bool__(self) -> bool:
        return bool(self.path or self.python)

    def __str__(self) -> str:
        where = self.path or f"a package of {self.python}"
        return f"{where} ({self.version})" if self.version else where


def find(script: str, module: str) -> Program:
    """The console script on PATH, else the module of this Python."""
    if path := shutil.which(script):
        folder = Path(path).resolve().parent  # the environment's bin, also where PATH holds a link to the script
        python = next((str(folder / name) for name in ("python", "python3") if (folder / name).exists()), "")
        return Program(path, python, _version(folder.parent, module))
    if find_spec(module):
        return Program("", sys.executable, _version(Path(sys.prefix), module))
    return Program()


def _version(prefix: Path, module: str) -> str:
    """From the name of its .dist-info: the packages may be another Python's, whose metadata ours cannot ask for."""
    for info in sorted(prefix.glob(f"lib*/python3*/*-packages/{module}-*.dist-info")):
        if found := re.fullmatch(rf"{re.escape(module)}-(\d[^-]*)\.dist-info", info.name):
            # A checkout without tags calls itself 0.1.dev18496: that says nothing about which options it has.
            return found[1] if number(found[1]) >= (0, 2) else ""
    return ""
