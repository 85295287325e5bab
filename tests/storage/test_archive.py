"""Tar archives of models: unpacked once and whole, and nothing that they hold leads out of their directory."""

import contextlib
import gzip
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport import storage
from modelport.errors import ModelportError
from modelport.storage import archive
from tests.storage.conftest import Bucket

FILES = {"model/config.json": b"{}", "model/deep/weights.bin": bytes(range(256)) * 5000}
Member = tuple[str, bytes | Callable[[tarfile.TarInfo], None]]


def tar(members: list[Member], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of files, and of members that a function makes something else of."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as made:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            if callable(content):
                content(info)
                made.addfile(info)
            else:
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def plain() -> bytes:
    return tar(list(FILES.items()))


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


def becomes(kind: bytes, to: str = "") -> Callable[[tarfile.TarInfo], None]:
    def become(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, to

    return become


def unpacked(tmp_path: Path, data: bytes, name: str = "m.tar") -> Path:
    (tmp_path / name).write_bytes(data)
    return storage.unpacked(tmp_path / name)


def refused(tmp_path: Path, data: bytes, name: str = "m.tar") -> str:
    with pytest.raises(ModelportError) as caught:
        unpacked(tmp_path, data, name)
    assert {path.name for path in tmp_path.iterdir()} <= {name, "cache"}, "nothing came out"
    assert str(tmp_path) not in caught.value.message
    return caught.value.message


def contents(directory: Path) -> dict[str, bytes]:
    return {f"model/{f.relative_to(directory)}": f.read_bytes() for f in directory.rglob("*") if f.is_file()}


@pytest.mark.parametrize(
    ("name", "pack"),
    [("m.tar", bytes), ("m.tar.gz", gzip.compress), ("M.TGZ", gzip.compress), ("m.tar.zst", zstd)],
)
def test_an_archive_here_is_unpacked_once(tmp_path: Path, name: str, pack: Any) -> None:
    assert storage.is_archive(name) and not storage.is_archive("m.gz")
    found = unpacked(tmp_path, pack(plain()), name)
    assert found.name == "model" and contents(found) == FILES
    at = found.stat().st_ctime_ns
    assert storage.unpacked(tmp_path / name) == found and found.stat().st_ctime_ns == at
    time.sleep(0.01)
    assert contents(unpacked(tmp_path, pack(tar([("model/x", b"new")])), name)) == {"model/x": b"new"}


def test_an_archive_in_a_bucket_is_what_it_holds(bucket: Bucket) -> None:
    uri = bucket.put("packed/model.tar.gz", gzip.compress(plain()))
    assert contents(storage.model(uri, bucket.env)) == FILES


def test_links_inside_are_the_files_they_lead_to(tmp_path: Path) -> None:
    made: list[Member] = [
        ("m/blobs/1", b"weights"),
        ("m/a/symbolic.bin", becomes(tarfile.SYMTYPE, "../blobs/1")),
        ("m/hard.bin", becomes(tarfile.LNKTYPE, "m/blobs/1")),
        ("m/twice.bin", becomes(tarfile.SYMTYPE, "a/symbolic.bin")),
    ]
    found = unpacked(tmp_path, tar(made))
    for name in ("a/symbolic.bin", "hard.bin", "twice.bin"):
        assert (found / name).read_bytes() == b"weights" and not (found / name).is_symlink()


SLIPS: dict[str, list[Member]] = {
    "an absolute name": [("/tmp/escaped", b"x")],
    "a parent": [("../escaped", b"x")],
    "a parent in the middle": [("a/../../escaped", b"x")],
    "a parent that stays inside": [("a/../b", b"x")],
    "a symbolic link out": [("out", becomes(tarfile.SYMTYPE, "../..")), ("out/escaped", b"x")],
    "an absolute link": [("f", b""), ("etc", becomes(tarfile.SYMTYPE, "/etc"))],
    "a hard link out": [("f", b""), ("passwd", becomes(tarfile.LNKTYPE, "../../../etc/passwd"))],
    "a hard link to an absolute path": [("f", b""), ("passwd", becomes(tarfile.LNKTYPE, "/etc/passwd"))],
    "a link to a directory, and a file through it": [
        ("d/f", b""),
        ("l", becomes(tarfile.SYMTYPE, "d")),
        ("l/escaped", b"x"),
    ],
    "a link to nothing": [("f", b""), ("l", becomes(tarfile.SYMTYPE, "nothing"))],
    "links in a circle": [("f", b""), ("a", becomes(tarfile.SYMTYPE, "b")), ("b", becomes(tarfile.SYMTYPE, "a"))],
    "a file over a link": [("t", b"1"), ("l", becomes(tarfile.SYMTYPE, "t")), ("l", b"2")],
    "a name twice": [("f", b"1"), ("f", b"2")],
    "a file as a directory": [("f", b"1"), ("f/g", b"2")],
    "a device": [("null", becomes(tarfile.CHRTYPE))],
    "a pipe": [("pipe", becomes(tarfile.FIFOTYPE))],
    "nothing": [],
    "only a directory": [("d", becomes(tarfile.DIRTYPE))],
}


@pytest.mark.parametrize("what", SLIPS)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, what: str, form: int) -> None:
    assert "'m.tar'" in refused(tmp_path, tar(SLIPS[what], form=form))
    assert not Path("/tmp/escaped").exists()


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LEAST_BOUND_BYTES", 1 << 20)
    bomb = gzip.compress(tar([("zeros", bytes(64 << 20))]), 9)
    assert "unpacks to more than" in refused(tmp_path, bomb, "m.tar.gz")
    (tmp_path / "m.tar.gz").unlink()
    monkeypatch.setattr(archive, "MOST_MEMBERS", 10)
    assert "more than 10 files" in refused(tmp_path, tar([(f"f{n}", b"") for n in range(11)]))


def test_a_header_that_claims_gigabytes_is_never_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    assert "a header of 4,294,967,296 bytes" in refused(tmp_path, info.tobuf() + bytes(4096))


def test_a_sparse_file_counts_as_large_as_it_becomes(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "sparse",
        "GNU.sparse.size": str(1 << 50),
        "GNU.sparse.numblocks": "1",
        "GNU.sparse.map": "0,1",
    }
    info.size = 1
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(info, io.BytesIO(b"x"))
    assert "unpacks to more than" in refused(tmp_path, out.getvalue())


@pytest.mark.parametrize("cut", [0, 100, 512, 1000, 2048, -10240, -1])
def test_a_cut_archive_is_a_sentence(tmp_path: Path, cut: int) -> None:
    data = gzip.compress(plain())[:cut] if cut in (0, 100, -1) else plain()[:cut]
    name = "m.tar.gz" if cut in (0, 100, -1) else "m.tar"
    assert "is no whole tar archive" in refused(tmp_path, data, name)


def test_a_damaged_checksum_at_the_end_is_seen(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(plain()))
    data[-6] ^= 1
    assert "is no whole tar archive" in refused(tmp_path, bytes(data), "m.tar.gz")


@given(at=st.integers(0, 4095), bits=st.binary(min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_damage_is_a_sentence_or_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, at: int, bits: bytes
) -> None:
    where = tmp_path_factory.mktemp("fuzz")
    made: list[Member] = [("d/a", b"1" * 700), ("d/l", becomes(tarfile.SYMTYPE, "a")), ("é" * 70, b"2")]
    data = bytearray(tar(made))
    data[at : at + len(bits)] = bits
    (where / "m.tar").write_bytes(data)
    into = where / "into"
    with contextlib.suppress(ModelportError):
        archive.unpack(where / "m.tar", into, "'m.tar'", lambda have, all: None)
    assert {path.name for path in where.iterdir()} <= {"m.tar", "into"}
    assert not any(path.is_symlink() for path in into.rglob("*"))
