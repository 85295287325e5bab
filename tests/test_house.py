"""The house itself: who may import whom, and that a new engine or platform is one file and one line."""

import subprocess
import sys
from pathlib import Path

from tests.harness import ROOT, Serving


def test_every_room_imports_only_what_it_may() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_new_engine_and_a_new_platform_are_one_file_and_one_table_line_each(shared: Serving) -> None:
    """tests/fakes/modelport.py adds a line to each table; stub.py and slow_platform.py are the files."""
    shared.start("dummy", platform="slow")
    assert shared.ready("dummy").instances[0].platform == "slow"
    assert shared.ask("dummy").status_code == 200


def test_no_lock_file_names_a_registry_and_every_line_is_hashed() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, lock
        pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert pinned and all("==" in line and line.endswith("\\") for line in pinned), lock


def test_no_file_of_ours_is_longer_than_a_head_holds() -> None:
    """400 lines hold two nouns (docs/design.md); the shim is one file because it is copied to other machines."""
    long = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "modelport").rglob("*.py")
        if file.name != "shim.py" and len(file.read_text().splitlines()) > 400
    ]
    assert long == []
