"""What a store answers, and each thing that can be wrong with it in its own sentence, without a secret."""

import base64
import json
import os
from typing import Any

import httpx
import pytest

from modelport import storage
from modelport.errors import FORBIDDEN, INVALID, MODEL_NOT_FOUND, NOT_READY, TOO_LARGE, Kind, ModelportError
from tests.storage.conftest import Bucket

WRONG = base64.b64encode(b"open-sesame-open-sesame").decode()


def refused(kind: Kind, call: Any, *given: Any) -> str:
    with pytest.raises(ModelportError) as caught:
        call(*given)
    said = caught.value.message
    assert caught.value.kind is kind, said
    assert "open-sesame" not in said and WRONG not in said and "\n" not in said
    return said


def test_what_is_written_is_listed_and_read(bucket: Bucket) -> None:
    for path in ("in/b.txt", "in/deeper/a b.txt"):
        storage.write(f"{bucket.uri}/{path}", bucket.env, path.encode())
    storage.write(f"{bucket.uri}/beside.txt", bucket.env, b"")
    listed = storage.files(f"{bucket.uri}/in", bucket.env)
    assert [(file.path, file.size) for file in listed] == [("b.txt", 8), ("deeper/a b.txt", 17)]
    assert all(file.tag and '"' not in file.tag for file in listed)
    assert storage.read(f"{bucket.uri}/in/deeper/a b.txt", bucket.env, 17) == b"in/deeper/a b.txt"
    assert storage.found(f"{bucket.uri}/in/b.txt", bucket.env) == storage.File("b.txt", 8, listed[0].tag)
    assert storage.found(f"{bucket.uri}/in", bucket.env) is None


def test_both_names_of_a_cloud_mean_the_same(bucket: Bucket) -> None:
    bucket.put("named/x", b"1")
    other = bucket.uri.replace("s3:", "aws:").replace("az:", "azure:")
    assert storage.read(f"{other}/named/x", bucket.env, 1) == b"1"
    assert storage.model(f"{other}/named", bucket.env) == storage.model(f"{bucket.uri}/named", bucket.env)


def test_marks_of_directories_are_no_files(s3_bucket: Bucket) -> None:
    url = s3_bucket.env["AWS_ENDPOINT_URL"]
    for path in ("marked/", "marked/sub/", "marked/sub/x"):
        httpx.put(f"{url}/models/{path}", content=b"" if path.endswith("/") else b"1").raise_for_status()
    assert [file.path for file in storage.files("s3://models/marked", s3_bucket.env)] == ["sub/x"]


def test_more_than_is_wanted_is_refused_before_it_comes(bucket: Bucket) -> None:
    uri = bucket.put("many/large", bytes(5000))
    bucket.put("many/other", b"")
    assert "has 5,000 bytes, where 4,999 are the most" in refused(TOO_LARGE, storage.read, uri, bucket.env, 4999)
    with pytest.raises(ModelportError, match="more than 1 files below"):
        storage.files(f"{bucket.uri}/many", bucket.env, most=1)


def test_what_is_not_there(bucket: Bucket) -> None:
    nothing, no_bucket = f"{bucket.uri}/nothing/here", bucket.uri.replace("models", "nobucket") + "/x"
    for call in (storage.files, storage.model):
        assert "There is nothing at" in refused(MODEL_NOT_FOUND, call, nothing, bucket.env)
        assert "no such bucket or container" in refused(MODEL_NOT_FOUND, call, no_bucket, bucket.env)
    assert "There is nothing at" in refused(MODEL_NOT_FOUND, storage.read, nothing, bucket.env, 1)
    assert "no such bucket" in refused(MODEL_NOT_FOUND, storage.read, no_bucket, bucket.env, 1)
    assert "no such bucket" in refused(MODEL_NOT_FOUND, storage.write, no_bucket, bucket.env, b"")


def test_a_wrong_key(az_bucket: Bucket) -> None:
    """Only of Azurite: moto checks no signatures."""
    uri = az_bucket.put("locked/x", b"1")
    env = {**az_bucket.env, "AZURE_STORAGE_ACCOUNT_KEY": WRONG}
    for call, given in ((storage.files, ()), (storage.read, (1,)), (storage.model, ())):
        said = refused(FORBIDDEN, call, f"{az_bucket.uri}/locked" if call is not storage.read else uri, env, *given)
        assert "may not be read: check AZURE_STORAGE_ACCOUNT_NAME" in said
    assert "may not be written" in refused(FORBIDDEN, storage.write, uri, env, b"")
    broken = {**az_bucket.env, "AZURE_STORAGE_ACCOUNT_KEY": "open-sesame!"}
    refused(FORBIDDEN, storage.files, uri, broken)


@pytest.mark.parametrize(
    ("uri", "env"),
    [
        ("s3://models/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "us-east-1"}),
        ("az://models/x", {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9"}),
        ("az://models/x", {"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9"}),
        ("gs://models/x", {"GOOGLE_BASE_URL": "http://127.0.0.1:9"}),
        ("gs://models/x", {"GOOGLE_SERVICE_ACCOUNT_KEY": "{open-sesame"}),
        ("gs://models/x", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json"}),
    ],
)
def test_credentials_that_are_missing_or_none(uri: str, env: dict[str, str]) -> None:
    said = refused(FORBIDDEN, storage.files, uri, env)
    assert "without credentials: set" in said or "check GOOGLE_" in said


def test_a_store_that_nobody_answers_for(bucket: Bucket) -> None:
    env = {**bucket.env, bucket.endpoint: "http://127.0.0.1:9"}
    said = refused(NOT_READY, storage.files, f"{bucket.uri}/x", env)
    assert "cannot be reached: check the network" in said and bucket.env[bucket.endpoint] not in said


@pytest.mark.parametrize(
    "uri", ["s3://", "gs:///x", "s3://b/../x", "s3://b/x//y", "s3://b/x\n", "file:///etc/passwd", "https://h/x"]
)
def test_what_is_no_address_of_a_model(uri: str) -> None:
    refused(INVALID, storage.files, uri)


def test_what_a_workspace_says_wins_and_is_never_mixed(
    s3_bucket: Bucket, az_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of a workspace goes without the session token of the process, wherever the process's stores are."""
    s3_bucket.put("env/x", b"1")
    az_bucket.put("env/x", b"1")
    theirs = {"AWS_ACCESS_KEY_ID": "process", "AWS_SECRET_ACCESS_KEY": "process", "AWS_SESSION_TOKEN": "process",
              "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_REGION": "eu-west-1",
              "AZURE_STORAGE_ACCOUNT_NAME": "process", "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=process",
              "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9"}  # fmt: skip
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    for bucket in (s3_bucket, az_bucket):
        for env in (bucket.env, {**os.environ, **bucket.env}):
            assert storage.read(f"{bucket.uri}/env/x", env, 1) == b"1"
        assert storage.place_of(bucket.uri, bucket.env) != storage.place_of(bucket.uri)


def test_a_key_of_a_workspace_signs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    heads: list[Any] = []
    with Listening(heads) as url:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "process")
        env = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "workspace", "AWS_SECRET_ACCESS_KEY": "x"}
        for given in (env, {**os.environ, **env}):
            with pytest.raises(FileNotFoundError):
                obstore.head(storage.store("s3://models", given), "x")
    for head in heads:
        assert "Credential=workspace/" in head["authorization"] and "x-amz-security-token" not in head


def test_google_is_asked_with_a_service_account_s_key() -> None:
    """Google's own server has no package: the request is seen, and its answer is a listing as Google's XML API has it."""
    heads: list[Any] = []
    listing = (
        "<ListBucketResult><Name>models</Name><IsTruncated>false</IsTruncated><Contents><Key>m/x.onnx</Key>"
        '<LastModified>2026-11-21T10:00:00.000Z</LastModified><ETag>"abc"</ETag><Size>7</Size></Contents></ListBucketResult>'
    )
    with Listening(heads, listing) as url:
        key = {"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": True, "gcs_base_url": ""}
        env = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key), "GOOGLE_BASE_URL": url}
        assert storage.files("gs://models/m", env) == [storage.File("x.onnx", 7, "abc")]
    assert heads and os.environ.get("GOOGLE_SERVICE_ACCOUNT_KEY") is None


class Listening:
    """A server that notes headers, and answers with a text or 404."""

    def __init__(self, heads: list[Any], text: str = "") -> None:
        import http.server
        import threading

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heads.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(200 if text else 404)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
