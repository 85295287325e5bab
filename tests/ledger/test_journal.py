"""The journal: what was appended counts, what was half written does not, whatever happened to the process or disk."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.amounts import Amounts
from modelport.errors import ModelportError
from modelport.gateway.journal import Journal, claim
from modelport.store.journals import Done, Head, Open, decoded, encoded, needed, read, segments

OPEN = Open("r1", 1.5, "key-1", "team", "service", Amounts(), [("b", 0, 5)])
DONE = Done("r1", Amounts(requests=0), [("b", 0, 3)], msgspec.Raw(b'{"id":"r1"}'))


def records(directory: Path) -> list[object]:
    return [record for _, record in read(directory) if not isinstance(record, Head)]


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_records_come_back_as_they_were_written_with_positions_that_grow_over_segments(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=300)
    ends = [journal.append(encoded(OPEN if n % 2 else DONE)) for n in range(9)]
    assert len(segments(tmp_path / "j")) > 2
    found = [(end, record) for end, record in read(tmp_path / "j") if not isinstance(record, Head)]
    assert [end for end, _ in found] == ends == sorted(ends)
    assert [record for _, record in found] == [OPEN if n % 2 else DONE for n in range(9)]
    later = [end for end, record in read(tmp_path / "j", ends[4]) if not isinstance(record, Head)]
    assert later == ends[5:]


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    Journal(tmp_path / "j").append(encoded(OPEN))
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "j").iterdir()} == {0o600}


@pytest.mark.parametrize("room", range(0, 60, 7))
def test_a_full_disk_leaves_nothing_that_counts_and_the_next_record_is_whole(tmp_path: Path, room: int) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(encoded(OPEN))
    before = journal.position
    with no_file_beyond(before + room), pytest.raises(OSError):
        journal.append(encoded(DONE))
    assert journal.position == before
    journal.append(encoded(DONE))
    assert records(tmp_path / "j") == [OPEN, DONE]


def test_a_disk_that_is_full_from_the_start_uses_up_no_file_descriptors(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    before = len(os.listdir("/proc/self/fd"))
    with no_file_beyond(10):
        for _ in range(50):
            with pytest.raises(OSError):
                journal.append(encoded(OPEN))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    journal.append(encoded(OPEN))
    assert records(tmp_path / "j") == [OPEN]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_journal_on_a_disk_that_is_really_full(tmp_path: Path) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True
    ).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        journal = Journal(tmp_path / "j")
        written = 0
        with pytest.raises(OSError, match="No space"):
            while True:
                journal.append(encoded(OPEN))
                written += 1
        assert records(tmp_path / "j") == [OPEN] * written
        (tmp_path / "j" / "id").unlink()  # a page is free again
        journal.append(encoded(DONE))
        assert records(tmp_path / "j") == [*[OPEN] * written, DONE]
        journal.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_torn_end_is_skipped_and_counted_and_written_beyond(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(encoded(OPEN))
    end = journal.append(encoded(DONE))
    journal.close()
    with open(segments(tmp_path / "j")[0].path, "ab") as file:
        file.truncate(end - 1)  # a whole record but for its line break
    again = Journal(tmp_path / "j")
    assert again.position == end - 1
    again.append(encoded(OPEN))
    assert records(tmp_path / "j") == [OPEN, None, OPEN]


@given(
    st.binary(max_size=200)
    | st.builds(lambda at, byte: bytes([*b"", *_changed(at, byte)]), st.integers(0, 500), st.integers(0, 255))
)
def test_any_damaged_line_is_a_record_or_none(line: bytes) -> None:
    found = decoded(line)
    assert found is None or isinstance(found, Head | Open | Done)


def _changed(at: int, byte: int) -> bytes:
    line = bytearray(encoded(DONE))
    line[at % len(line)] = byte
    return bytes(line)


def test_one_process_writes_a_journal_and_others_of_the_machine_take_the_next_slot(tmp_path: Path) -> None:
    first = claim(tmp_path)
    with pytest.raises(ModelportError, match="another gateway process"):
        Journal(tmp_path / "0")
    code = (
        "import sys; from pathlib import Path; from modelport.gateway.journal import claim; "
        "j = claim(Path(sys.argv[1])); print(j.directory.name, j.gateway_id)"
    )
    said = [subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True).split() for _ in range(2)]
    assert said[0] == said[1] and said[0][0] == "1" and said[0][1] != first.gateway_id
    mine = first.gateway_id
    first.close()
    assert claim(tmp_path).gateway_id == mine


def test_old_segments_go_when_nothing_needs_them_and_more_than_wanted_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes=200)
    ends = [journal.append(encoded(OPEN)) for _ in range(10)]
    journal.prune(0)
    assert segments(tmp_path / "j")[0].start == 0, "the store does not have any of it"
    journal.needed = ends[5]
    journal.prune(10**6)
    assert segments(tmp_path / "j")[0].start == 0
    journal.prune(0)
    kept = segments(tmp_path / "j")
    assert 0 < kept[0].start <= ends[5] < kept[0].end
    journal.append(encoded(DONE))
    journal.close()
    assert needed(tmp_path / "j") == ends[5]


def test_the_segment_that_is_written_stays_though_nothing_in_it_is_needed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.needed = journal.append(encoded(OPEN))
    journal.prune(0)
    journal.append(encoded(DONE))
    assert records(tmp_path / "j") == [OPEN, DONE]


def test_a_journal_that_was_deleted_goes_on_where_the_store_knows_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.advance(5000)
    assert journal.append(encoded(OPEN)) > 5000
    journal.advance(10)
    journal.close()
    assert [segment.start for segment in segments(tmp_path / "j")] == [5000]
