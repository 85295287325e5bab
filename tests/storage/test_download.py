"""Models that are downloaded: once, whole, unbroken, and as they are in the store."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelport import storage
from modelport.errors import MODEL_NOT_FOUND, NOT_READY, ModelportError
from modelport.storage import download, parts
from modelport.storage.clouds import place
from tests.harness import ROOT, until
from tests.storage.conftest import Bucket
from tests.storage.proxy import Proxy

MIB = 1 << 20
CODE = (
    "import sys; from modelport import storage; from modelport.errors import ModelportError\n"
    "try: print(storage.model(sys.argv[1]))\n"
    "except ModelportError as error: print(error.message); sys.exit(3)"
)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def process(uri: str, env: dict[str, str], before: str = "") -> "subprocess.Popen[str]":
    """Another process that downloads."""
    command = [sys.executable, "-c", before + CODE, uri]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)


def test_a_file_and_a_folder_come_as_they_are(bucket: Bucket) -> None:
    data = noise(3 * MIB)
    uri = bucket.put("one/file with space.gguf", data)
    for path, content in (("config.json", b"{}"), ("deep/er/weights.bin", data), ("empty", b"")):
        bucket.put(f"folder/{path}", content)
    heard: list[tuple[int, int]] = []
    found = storage.model(uri, bucket.env, lambda have, all: heard.append((have, all)))
    assert found.name == "file with space.gguf" and found.read_bytes() == data
    assert heard[0] == (0, 3 * MIB) and heard[-1] == (3 * MIB, 3 * MIB) and heard == sorted(heard)
    folder = storage.model(f"{bucket.uri}/folder/", bucket.env)
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == {
        "config.json",
        "deep/er/weights.bin",
        "empty",
    }
    assert (folder / "deep/er/weights.bin").read_bytes() == data
    assert oct(folder.parent.stat().st_mode)[-3:] == "700"


def test_the_parts_of_a_split_model_come_together(s3_bucket: Bucket) -> None:
    for number in (1, 2):
        s3_bucket.put(f"split/m-0000{number}-of-00002.gguf", b"x" * number)
    s3_bucket.put("split/other.gguf", b"y")
    found = storage.model("s3://models/split/m-00001-of-00002.gguf", s3_bucket.env)
    assert sorted(file.name for file in found.parent.iterdir()) == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_what_did_not_change_is_not_downloaded_again_and_what_did_is(s3_bucket: Bucket, proxy: Proxy) -> None:
    env = s3_bucket.through(proxy)
    uri = s3_bucket.put("again/model.onnx", noise(2 * MIB))
    first = storage.model(uri, env)
    brought = proxy.count()
    assert brought > 2 * MIB
    assert storage.model(uri, env) == first
    assert proxy.count() - brought < 4096
    s3_bucket.put("again/model.onnx", noise(2 * MIB, 2))
    assert storage.model(uri, env).read_bytes() == noise(2 * MIB, 2)
    assert first.read_bytes() == noise(2 * MIB), "who uses the one from before still has it"


def test_a_connection_that_is_cut_costs_only_what_was_under_way(s3_bucket: Bucket, proxy: Proxy) -> None:
    data = noise(40 * MIB)
    uri = s3_bucket.put("cut/model.gguf", data)
    proxy.say("cut", 24 * MIB)
    assert storage.model(uri, s3_bucket.through(proxy)).read_bytes() == data
    assert proxy.count() < 52 * MIB


def test_a_download_that_broke_off_goes_on_in_the_next_call(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.01)
    data = noise(40 * MIB)
    uri = bucket.put("broken/model.gguf", data)
    heard: list[int] = []
    with Proxy(bucket.port) as proxy:
        env = bucket.through(proxy)
        proxy.say("down", 24 * MIB)
        with pytest.raises(ModelportError, match="cannot be reached") as caught:
            storage.model(uri, env)
        assert caught.value.kind is NOT_READY and not list(cache.glob("*/*.gguf"))
        proxy.say("up")
        before = proxy.count()
        assert storage.model(uri, env, lambda have, all: heard.append(have)).read_bytes() == data
        again = proxy.count() - before
    assert heard[0] > 12 * MIB, "what had come is told first"
    assert again < 28 * MIB, "the rest, and little more"
    assert not list(cache.glob("*.part"))


def test_a_download_that_was_killed_goes_on(s3_bucket: Bucket, proxy: Proxy, cache: Path) -> None:
    data = noise(40 * MIB)
    uri = s3_bucket.put("killed/model.gguf", data)
    proxy.say("slow", 12 * MIB)
    killed = process(uri, s3_bucket.through(proxy))
    until(lambda: proxy.count() > 24 * MIB)
    killed.kill()
    killed.wait()
    proxy.say("slow", 0)
    before = proxy.count()
    assert storage.model(uri, s3_bucket.through(proxy)).read_bytes() == data
    assert proxy.count() - before < 30 * MIB


def test_two_processes_at_once_download_once(s3_bucket: Bucket, proxy: Proxy) -> None:
    uri = s3_bucket.put("both/model.gguf", noise(12 * MIB))
    env = s3_bucket.through(proxy)
    proxy.say("slow", 12 * MIB)
    both = [process(uri, env) for _ in range(2)]
    said = {one.communicate(timeout=30)[0] for one in both}
    assert len(said) == 1 and Path(said.pop().strip()).stat().st_size == 12 * MIB
    assert proxy.count() < 13 * MIB


def test_an_object_that_changes_on_the_way_is_begun_anew(bucket: Bucket) -> None:
    old, new = noise(40 * MIB), noise(40 * MIB, 2)
    uri = bucket.put("changes/model.gguf", old)
    changed = threading.Event()

    def change(have: int, all: int) -> None:
        if have > 4 * MIB and not changed.is_set():
            changed.set()
            bucket.put("changes/model.gguf", new)

    with Proxy(bucket.port) as proxy:
        proxy.say("slow", 24 * MIB)
        found = storage.model(uri, bucket.through(proxy), change).read_bytes()
    assert changed.is_set() and found in (new, old)
    assert storage.model(uri, bucket.env).read_bytes() == new


def test_ranges_of_two_versions_are_never_mixed(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one range at a time there is always a request after the change."""
    monkeypatch.setattr(download, "WORKERS", 1)
    monkeypatch.setattr(parts, "CHUNK_BYTES", MIB)
    old, new = noise(8 * MIB), noise(8 * MIB, 2)
    uri = s3_bucket.put("mixed/model.gguf", old)
    heard: list[int] = []

    def change(have: int, all: int) -> None:
        heard.append(have)
        if heard.count(3 * MIB) == 1 and have == 3 * MIB:
            s3_bucket.put("mixed/model.gguf", new)

    assert storage.model(uri, s3_bucket.env, change).read_bytes() == new
    assert heard.count(0) == 2, "it began anew"


def test_an_object_that_is_deleted_on_the_way_is_gone(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    monkeypatch.setattr(download, "WORKERS", 1)
    monkeypatch.setattr(parts, "CHUNK_BYTES", MIB)
    uri = s3_bucket.put("gone/model.gguf", noise(4 * MIB))

    def delete(have: int, all: int) -> None:
        if have == MIB:
            obstore.delete(s3_bucket.raw, "gone/model.gguf")

    with pytest.raises(ModelportError, match="nothing at") as caught:
        storage.model(uri, s3_bucket.env, delete)
    assert caught.value.kind is MODEL_NOT_FOUND


def test_bytes_that_are_damaged_on_the_way_are_not_taken(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = parts.Parts.put
    uri = bucket.put("damaged/model.gguf", noise(2 * MIB))
    with monkeypatch.context() as patch:
        patch.setattr(parts.Parts, "put", lambda self, chunk, at, data: whole(self, chunk, at, b"\0" * len(data)))
        with pytest.raises(ModelportError, match="damaged on its way"):
            storage.model(uri, bucket.env)
    assert not [file for file in cache.glob("*/*.gguf")]
    assert storage.model(uri, bucket.env).read_bytes() == noise(2 * MIB)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    s3_bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(small))
        uri = s3_bucket.put("large/model.gguf", noise(2 * MIB))
        with pytest.raises(ModelportError, match="not enough disk for 's3://models/large/model.gguf'"):
            storage.model(uri, s3_bucket.through(proxy))
        assert proxy.count() < 4096
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_fills_on_the_way_is_a_sentence(s3_bucket: Bucket) -> None:
    uri = s3_bucket.put("fills/model.gguf", noise(4 * MIB))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    failed = process(uri, s3_bucket.env, limit)
    said = failed.communicate(timeout=30)[0]
    assert failed.returncode == 3 and "The disk is full, or a limit on it reached" in said and "\n" not in said.strip()


def test_a_folder_of_more_files_than_may_be_open_comes_whole(s3_bucket: Bucket) -> None:
    for number in range(80):
        s3_bucket.put(f"many/{number}", b"%d" % number)
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
    said, _ = process("s3://models/many", s3_bucket.env, few).communicate(timeout=30)
    found = Path(said.strip())
    assert {file.name: file.read_bytes() for file in found.iterdir()} == {str(n): b"%d" % n for n in range(80)}


def test_an_object_encrypted_with_a_key_of_its_own_has_no_md5_to_hold_against(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    from modelport.storage import digest

    url = f"{s3_bucket.env['AWS_ENDPOINT_URL']}/models/sealed"
    httpx.put(url, content=b"x", headers={"x-amz-server-side-encryption": "aws:kms"}).raise_for_status()
    where, store = place("s3://models/sealed"), storage.store("s3://models", s3_bucket.env)
    tag = storage.files("s3://models", s3_bucket.env, deep=False)[-1].tag
    assert digest.same(where, store, "sealed", tag, lambda: b"another")
    s3_bucket.put("plain", b"x")
    assert not digest.same(where, store, "plain", tag, lambda: b"another")


def test_names_that_lead_out_are_refused(s3_bucket: Bucket, tmp_path: Path) -> None:
    import httpx

    httpx.put(f"{s3_bucket.env['AWS_ENDPOINT_URL']}/models/out/%2e%2e%2f%2e%2e%2fescaped", content=b"x")
    with pytest.raises(ModelportError):
        storage.model("s3://models/out", s3_bucket.env)
    assert not list(tmp_path.rglob("escaped"))
