"""Models in object stores: S3 as moto serves it, Azure as Azurite does. Google's has no server in a package to test by."""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelport.catalog import resolve
from modelport.errors import FORBIDDEN, MODEL_NOT_FOUND, ModelportError
from tests.catalog.write_gguf import LLAMA, LLAMA_TENSORS, gguf
from tests.fakes.checkpoint import checkpoint
from tests.fakes.hub import SMALL
from tests.harness import until

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport-test" / "azurite"
BIN = CACHE / "node_modules" / ".bin"
AZURITE = shutil.which("azurite-blob", path=f"{os.environ['PATH']}:{BIN}")
ACCOUNT, KEY = "account", base64.b64encode(b"a key for tests").decode()

pytestmark = pytest.mark.skipif(find_spec("obstore") is None, reason="not installed: obstore (the extra `cloud`)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answering(url: str) -> bool:
    try:
        httpx.get(url, timeout=2)
    except httpx.HTTPError:
        return False
    return True


def served(arguments: list[str], url: str, **environment: str) -> Iterator[str]:
    process = subprocess.Popen(
        arguments, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: answering(url), 30, arguments[0])
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    if find_spec("moto") is None:
        pytest.skip("not installed: moto (requirements/dev.txt)")
    port = free_port()
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    for url in served(arguments, f"http://127.0.0.1:{port}", AWS_ACCESS_KEY_ID="user", AWS_SECRET_ACCESS_KEY="secret"):
        httpx.put(f"{url}/models").raise_for_status()
        yield url


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if AZURITE is None:
        pytest.skip(f"not installed: azurite (scripts/azurite.sh {CACHE})")
    port = free_port()
    place = str(tmp_path_factory.mktemp("azurite"))
    arguments = [AZURITE, "--blobPort", str(port), "--location", place, "--silent", "--skipApiVersionCheck"]
    for url in served(arguments, f"http://127.0.0.1:{port}", AZURITE_ACCOUNTS=f"{ACCOUNT}:{KEY}"):
        make_container(url)
        yield url


def make_container(url: str) -> None:
    """Obstore has no call for it. Signed as Azure's REST reference says under "Authorize with Shared Key"."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "\n".join(f"{name}:{value}" for name, value in headers.items())
    text = f"PUT{chr(10) * 12}{signed}\n/{ACCOUNT}/{ACCOUNT}/models\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    headers |= {"authorization": f"SharedKey {ACCOUNT}:{signature}", "content-length": "0"}
    httpx.put(f"{url}/{ACCOUNT}/models?restype=container", headers=headers).raise_for_status()


@pytest.fixture(params=["s3", "az"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, Any]:
    """The URI of a bucket with models in it, and how obstore itself reaches it."""
    import obstore
    import obstore.store

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    options: Any = {"client_options": {"allow_http": True}}
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        bucket: Any = obstore.store.S3Store(bucket="models", **options)
    else:
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{request.getfixturevalue('azure')}/{ACCOUNT}")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        bucket = obstore.store.AzureStore(container_name="models", **options)
    for name, file in checkpoint(SMALL).items():
        if file.size < 1 << 20:
            obstore.put(bucket, f"team/small/{name}", file.read(0, file.size))
    obstore.put(bucket, "team/gguf/m.gguf", gguf(LLAMA, LLAMA_TENSORS))
    return f"{request.param}://models", bucket


def test_a_directory_of_a_bucket_is_a_model(store: tuple[str, Any]) -> None:
    uri = f"{store[0]}/team/small"
    facts = resolve(f"{uri}/")
    assert (facts.path, facts.format, facts.precision, facts.layers) == (uri, "safetensors", "tensors", 2)
    assert facts.chat_template and facts.revision and facts.download_bytes > facts.weight_bytes > 100_000


def test_a_gguf_file_of_a_bucket_is_a_model(store: tuple[str, Any]) -> None:
    for source in (f"{store[0]}/team/gguf/m.gguf", f"{store[0]}/team/gguf"):
        facts = resolve(source)
        assert (facts.source, facts.path, facts.format) == (source, f"{store[0]}/team/gguf/m.gguf", "gguf")


def test_what_changes_in_a_bucket_is_read_again(store: tuple[str, Any]) -> None:
    import obstore

    uri = f"{store[0]}/team/small"
    before = resolve(uri)
    assert resolve(uri) == before
    obstore.put(store[1], "team/small/notes.txt", b"more")
    assert resolve(uri).revision != before.revision


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_what_was_read_holds_while_the_store_does_not_answer(
    store: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{store[0]}/team/small"
    before = resolve(uri)
    # Where a proxy has to be asked and nobody listens, no store answers.
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = resolve(uri)
    assert replace(found, note="") == before and "as last seen" in found.note
    with pytest.raises(ModelportError, match="cannot be reached"):
        resolve(f"{store[0]}/team/gguf")


@pytest.mark.parametrize("path", ["models/nothing", "nobucket/model"])
def test_what_is_not_there_says_so(store: tuple[str, Any], path: str) -> None:
    with pytest.raises(ModelportError, match="There are no files|no such bucket") as caught:
        resolve(f"{store[0].partition('://')[0]}://{path}")
    assert caught.value.kind is MODEL_NOT_FOUND


@pytest.mark.parametrize("store", ["az"], indirect=True)
def test_a_wrong_key_names_the_variables_to_check(store: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of Azurite: moto checks no signatures."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"another").decode())
    with pytest.raises(ModelportError, match="may not be read: check AZURE_STORAGE_ACCOUNT_NAME") as caught:
        resolve(f"{store[0]}/team/small")
    assert caught.value.kind is FORBIDDEN
