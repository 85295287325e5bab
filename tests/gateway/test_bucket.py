"""The request log in a bucket: S3 as moto serves it."""

import gzip
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from modelport.errors import ModelportError
from modelport.gateway.bucket import Bucket
from tests.gateway.world import World, free_port, until

if find_spec("obstore") is None or find_spec("moto") is None:
    pytest.skip("not installed: obstore (the extra `cloud`) or moto", allow_module_level=True)
HTTP = httpx.Client(trust_env=False)


class S3:
    """moto in a process of its own, with the bucket `logs`. It can be stopped and started again, empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, 30, "moto")
        HTTP.put(f"{self.url}/logs").raise_for_status()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def paths(self) -> list[str]:
        return sorted(re.findall("<Key>(.*?)</Key>", HTTP.get(f"{self.url}/logs").text))

    def lines(self, under: str = "") -> list[bytes]:
        """All that is below a prefix, in the order of its objects."""
        import obstore
        from obstore.store import S3Store

        names = {"access_key_id": "user", "secret_access_key": "secret", "region": "us-east-1", "endpoint": self.url}
        store = S3Store("logs", client_options={"allow_http": True}, **names)  # type: ignore[arg-type]
        found = [bytes(obstore.get(store, path).bytes()) for path in self.paths() if path.startswith(under)]
        return [line for data in found for line in gzip.decompress(data).splitlines()]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    s3 = S3()
    yield s3
    s3.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, s3: S3) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def numbered(start: int, stop: int) -> list[bytes]:
    return [b'{"id":"req-%d"}' % n for n in range(start, stop)]


def test_lines_come_to_an_object_of_their_hour(s3: S3) -> None:
    lost: list[int] = []
    bucket = Bucket("s3://logs/here/", "gw-1", lost.append, every_s=0.05)
    before = time.gmtime()
    bucket.add(numbered(0, 3))
    until(lambda: s3.lines("here/") == numbered(0, 3))
    bucket.add(numbered(3, 4))
    bucket.close()
    assert s3.lines("here/") == numbered(0, 4)
    hours = {time.strftime("dt=%Y-%m-%d/%H", at) for at in (before, time.gmtime())}
    for n, path in enumerate((path for path in s3.paths() if path.startswith("here/")), 1):
        found = re.fullmatch(r"here/(dt=\d{4}-\d\d-\d\d/\d\d)/gw-1-\d{13}-(\d{6})\.jsonl\.gz", path)
        assert found and found[1] in hours and int(found[2]) == n
    assert not lost


def test_a_full_batch_does_not_wait_for_its_time(s3: S3) -> None:
    bucket = Bucket("s3://logs/full", "gw-1", print, every_s=600, batch_bytes=1000)
    bucket.add(numbered(0, 100))
    until(lambda: s3.lines("full/") == numbered(0, 100))
    bucket.close()


def test_the_end_sends_what_is_left(s3: S3) -> None:
    bucket = Bucket("s3://logs/end", "gw-1", print, every_s=600)
    bucket.add(numbered(0, 7))
    assert not s3.lines("end/")
    bucket.close()
    assert s3.lines("end/") == numbered(0, 7)


def test_a_gateway_that_starts_again_writes_over_nothing(s3: S3) -> None:
    for n in range(3):
        bucket = Bucket("s3://logs/again", "gw-1", print, every_s=600)
        bucket.add(numbered(n, n + 1))
        bucket.close()
        time.sleep(0.002)
    assert s3.lines("again/") == numbered(0, 3)


def test_what_a_store_that_was_down_did_not_take_comes_later() -> None:
    s3 = S3()
    s3.stop()
    lost: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3.url)
        bucket = Bucket("s3://logs/late", "gw-1", lost.append, every_s=0.05)
    bucket.add(numbered(0, 5))
    until(lambda: bucket._retry_s, what="a failed attempt")
    bucket.add(numbered(5, 9))
    s3.start()
    until(lambda: s3.lines("late/") == numbered(0, 9), 20)
    bucket.close()
    s3.stop()
    assert not lost


def test_what_waits_is_bounded_and_what_is_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    lost: list[int] = []
    bucket = Bucket("s3://logs/nowhere", "gw-1", lost.append, every_s=600, batch_bytes=1000, waiting_bytes=2000)
    sent = 0
    for _ in range(30):
        bucket.add(numbered(0, 20))
        sent += 20
        time.sleep(0.005)
    assert sum(lost) > 0
    assert bucket._sealed_bytes <= 2000 and bucket._size <= 2000
    bucket.close()
    assert sum(lost) == sent


@pytest.mark.parametrize("url", ["logs", "s3://", "file:///tmp/logs", "https://logs.example/x"])
def test_what_names_no_bucket_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ModelportError, match="log_bucket"):
        Bucket(url, "gw-1", print)


@pytest.mark.parametrize("url", ["gs://logs/here", "az://logs/here"])
def test_the_other_clouds_open_by_their_own_variables(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    Bucket(url, "gw-1", print, every_s=600).close()


def test_a_gateway_copies_its_log_before_it_ends(s3: S3, fresh: World) -> None:
    fresh.settings["log_bucket"] = "s3://logs/ours"
    fresh.gateway().http.get("/v1/models", headers={"x-request-id": "copied"})
    fresh.line("copied")
    fresh.process.terminate()
    fresh.process.wait()
    assert [json.loads(line) for line in s3.lines("ours/")] == fresh.lines()
    assert fresh.lines()[-1]["request_id"] == "copied"
