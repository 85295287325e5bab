"""URIs of object stores that lead nowhere. tests/real/test_object_stores.py reads from real ones."""

import importlib.util
import socket
import sys

import pytest

from modelport.catalog import resolve
from modelport.errors import INVALID, NOT_READY, ModelportError

REFUSING = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Stores at an address of this machine where nobody listens, with credentials so that none are looked for."""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 9)) != 0, "something listens on the discard port of this machine"
    for name in ("AWS_ENDPOINT_URL", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT"):
        monkeypatch.setenv(name, REFUSING)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "open-sesame")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "open-sesame")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "b3Blbi1zZXNhbWU=")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def refused(source: str) -> ModelportError:
    with pytest.raises(ModelportError) as caught:
        resolve(source)
    return caught.value


@pytest.mark.parametrize(
    ("scheme", "variable"),
    [("s3", "AWS_ACCESS_KEY_ID"), ("gs", "GOOGLE_APPLICATION_CREDENTIALS"), ("az", "AZURE_STORAGE_ACCOUNT_NAME")],
)
def test_a_store_that_cannot_be_reached_names_the_variables_to_check(scheme: str, variable: str) -> None:
    error = refused(f"{scheme}://bucket/model")
    assert error.kind is NOT_READY and f"'{scheme}://bucket/model' cannot be reached" in error.message
    assert variable in error.message and "open-sesame" not in error.message and "\n" not in error.message


@pytest.mark.parametrize("source", ["s3://", "gs:///model", "az://"])
def test_a_uri_without_a_bucket_says_how_to_write_one(source: str) -> None:
    error = refused(source)
    assert error.kind is INVALID and "://bucket/directory" in error.message


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("modelport.storage.calls.find_spec", lambda name: None if name == "obstore" else find(name))
    assert "pip install 'modelport[cloud]'" in refused("s3://bucket/model").message


def test_other_schemes_are_no_models() -> None:
    assert "neither a file or directory here" in refused("ftp://host/model").message


def test_looking_at_the_catalog_imports_no_client_of_a_store() -> None:
    import subprocess

    code = "import sys, modelport.catalog; sys.exit(any(m in sys.modules for m in ('obstore', 'huggingface_hub', 'httpx')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


@pytest.mark.parametrize("address", ["notaurl", "http://", "http://h:port", "http://h:99999", "http://[::1", "ftp://h"])
def test_an_endpoint_that_is_no_url_is_a_sentence(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    assert refused("s3://bucket/model").message == "AWS_ENDPOINT_URL is not a URL like https://storage.example."


def test_a_client_of_a_store_that_panics_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As pyo3 raises it."""

    def panics(*_: object) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr("modelport.catalog.cloud.open_store", panics)
    assert "could not be looked up: obstore failed" in refused("s3://bucket/model").message
