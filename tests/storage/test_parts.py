"""Parts of an object: whatever comes in which order, and wherever it breaks off, the object is whole in the end."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.storage import parts
from modelport.storage.parts import Parts


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "CHUNK_BYTES", 7)
        yield


def opened(at: Path, size: int, tag: str = "v1") -> Parts:
    return Parts(at / "0.part", at / "0.marks", size, tag)


@given(data=st.binary(max_size=60), steps=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 7)), max_size=40))
@settings(max_examples=80, deadline=None)
def test_an_object_comes_whole_by_any_steps_and_breaks(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, steps: list[tuple[int, int]]
) -> None:
    at = tmp_path_factory.mktemp("parts")
    for number, count in steps:  # each in a process of its own, as it were
        one = opened(at, len(data))
        if number < len(one.chunks) and (chunk := one.chunks[number]).have < chunk.size:
            piece = data[chunk.start + chunk.have : chunk.start + min(chunk.size, chunk.have + count)]
            assert one.put(chunk, chunk.have, piece) == (one.have_bytes + len(piece) == len(data))
        one.close()
    last = opened(at, len(data))
    for chunk in last.chunks:
        if chunk.have < chunk.size:
            last.put(chunk, chunk.have, data[chunk.start + chunk.have : chunk.start + chunk.size])
    assert last.whole
    last.finish(at / "done" / "file")
    assert (at / "done" / "file").read_bytes() == data and [file.name for file in at.iterdir()] == ["done"]


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 100, None])
def test_marks_of_another_version_or_none_are_not_believed(tmp_path: Path, damage: bytes | None) -> None:
    one = opened(tmp_path, 10)
    one.put(one.chunks[0], 0, b"x" * 7)
    one.close()
    assert opened(tmp_path, 10).have_bytes == 7
    assert opened(tmp_path, 10, "v2").have_bytes == opened(tmp_path, 11).have_bytes == 0
    if damage is None:
        (tmp_path / "0.part").unlink()
    else:
        (tmp_path / "0.marks").write_bytes(damage)
    again = opened(tmp_path, 10)
    assert again.have_bytes == 0
    for chunk in again.chunks:
        again.put(chunk, 0, b"y" * chunk.size)
    again.finish(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"y" * 10
