"""The store: opened safely, refused with a sentence where it would be damaged, and never half written."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelport.domain.key import KeySpec
from modelport.errors import ModelportError
from modelport.store import keys, open_store, revision
from modelport.store.database import HEAD, file_system, head
from modelport.store.tables import metadata

MOUNTS = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:26 / /home rw,relatime - nfs4 server:/home rw
31 30 8:2 / /home/local\040disk rw - xfs /dev/sdb1 rw
32 22 0:27 / /mnt/share rw - fuse.sshfs me@host: rw
"""


def test_head_is_the_newest_migration_and_the_migrations_make_the_tables(tmp_path: Path) -> None:
    import sqlalchemy as sa

    assert head() == HEAD
    store = open_store(tmp_path)
    found = sa.inspect(store.engine)
    assert set(metadata.tables) <= set(found.get_table_names())
    for table in metadata.tables.values():
        assert {c["name"] for c in found.get_columns(table.name)} == set(table.columns.keys())


def test_everything_in_the_state_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    with store.write() as tx:
        revision.bump(tx)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/home/local disk/x", "xfs"),
        ("/homes", "ext4"),
        ("/mnt/share", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_longest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_a_state_directory_on_a_network_file_system_is_refused_by_the_name_of_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = f"22 1 0:26 / {tmp_path} rw - nfs4 server:/x rw\n"
    monkeypatch.setattr(Path, "read_text", lambda self, *a: table if str(self) == "/proc/self/mountinfo" else "")
    with pytest.raises(ModelportError, match=r"network file system \(nfs4\).*state_dir"):
        open_store(tmp_path / "state")


def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(ModelportError, match="cannot be used: .*state_dir"):
        open_store(tmp_path / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_an_unreadable_state_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    code = (
        "import os, sys; from pathlib import Path; from modelport.store import open_store; "
        "from modelport.errors import ModelportError\n"
        "os.setuid(65534)\n"
        "try: open_store(Path(sys.argv[1]))\n"
        "except ModelportError as error: print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(theirs)], capture_output=True, text=True)
    assert "cannot be used: Permission denied" in done.stdout, done.stderr


def test_a_damaged_store_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "modelport.db").write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(ModelportError, match="cannot be opened: file is not a database"):
        open_store(tmp_path)


def test_a_store_of_a_newer_modelport_is_left_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.write() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ModelportError, match="made by a newer Modelport"):
        open_store(tmp_path)


def test_many_openers_at_once_agree_on_one_store(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from modelport.store import open_store; s = open_store(Path(sys.argv[1])); print(s.owner, s.pepper.hex())"
    openers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    said = [opener.communicate(timeout=60)[0] for opener in openers]
    assert all(opener.returncode == 0 for opener in openers)
    assert len(set(said)) == 1 and said[0].strip()


def test_writers_wait_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    def bump() -> None:
        for _ in range(25):
            with store.write() as tx:
                revision.bump(tx)

    threads = [threading.Thread(target=bump) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as tx:
        assert revision.current(tx) == 100


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk_is_a_sentence_and_what_was_written_before_stays(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        store = open_store(tmp_path)
        made = []
        with pytest.raises(ModelportError, match="cannot be written") as caught:
            for n in range(100_000):
                with store.write() as tx:
                    view = keys.create(tx, store.pepper, KeySpec(name="x" * 200), float(n))
                made.append(view.id)
        assert caught.value.kind.status == 503
        with store.read() as tx:
            assert {view.id for view in keys.views(tx)} == set(made)
        store.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
