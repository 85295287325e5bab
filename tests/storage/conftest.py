"""Object stores as real servers: S3 as moto serves it, Azure as Azurite does, and a cache for each test."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_object_stores import ACCOUNT, KEY, azure, s3
from tests.storage.proxy import Proxy

__all__ = ["azure", "s3"]

if find_spec("obstore") is None:
    collect_ignore_glob = ["test_*.py"]


@dataclass(frozen=True)
class Bucket:
    """A bucket `models`, the variables that lead to it, and obstore's own way there."""

    uri: str
    env: dict[str, str]
    raw: Any
    endpoint: str

    def put(self, path: str, data: bytes) -> str:
        """The URI of a new object."""
        import obstore

        obstore.put(self.raw, path, data, use_multipart=False)
        return f"{self.uri}/{path}"

    def through(self, proxy: Proxy) -> dict[str, str]:
        """The variables for the same bucket behind a proxy."""
        return {**self.env, self.endpoint: proxy.url + ("" if self.uri.startswith("s3") else f"/{ACCOUNT}")}

    @property
    def port(self) -> int:
        return int(self.env[self.endpoint].split(":")[2].partition("/")[0])


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where models are kept, empty; and no variable of the caller's that says who asks, nor a machine to ask for it."""
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "modelport" / "models"


@pytest.fixture
def s3_bucket(s3: str) -> Bucket:
    from obstore.store import S3Store

    env = {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "user",
        "AWS_SECRET_ACCESS_KEY": "open-sesame",
        "AWS_REGION": "us-east-1",
    }
    named: Any = {"access_key_id": "user", "secret_access_key": "x", "region": "us-east-1"}
    raw = S3Store("models", endpoint=s3, client_options={"allow_http": True}, **named)
    return Bucket("s3://models", env, raw, "AWS_ENDPOINT_URL")


@pytest.fixture
def az_bucket(azure: str) -> Bucket:
    from obstore.store import AzureStore

    where = f"{azure}/{ACCOUNT}"
    env = {
        "AZURE_STORAGE_ENDPOINT": where,
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
    }
    raw = AzureStore(
        "models", endpoint=where, account_name=ACCOUNT, account_key=KEY, client_options={"allow_http": True}
    )
    return Bucket("az://models", env, raw, "AZURE_STORAGE_ENDPOINT")


@pytest.fixture(params=["s3", "az"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Each of the two clouds in turn."""
    return request.getfixturevalue(f"{request.param}_bucket")


@pytest.fixture
def proxy(request: pytest.FixtureRequest, s3_bucket: Bucket) -> Iterator[Proxy]:
    """Between a test and S3, in a process of its own."""
    with Proxy(s3_bucket.port) as proxy:
        yield proxy
