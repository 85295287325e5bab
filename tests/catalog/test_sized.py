"""Models of which only a size is known from outside: tar archives here and in a bucket, ONNX models in a bucket."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from modelport.catalog import resolve
from modelport.errors import MODEL_NOT_FOUND, ModelportError
from tests.storage.conftest import Bucket, azure, bucket, cache, s3, s3_bucket
from tests.storage.conftest import az_bucket as az_bucket

__all__ = ["azure", "bucket", "cache", "s3", "s3_bucket"]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("obstore") is None, reason="not installed: obstore")


def test_an_archive_here_is_as_large_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "m.tar.gz"
    file.write_bytes(bytes(5000))
    facts = resolve(str(file))
    assert (facts.format, facts.path, facts.weight_bytes, facts.download_bytes) == ("archive", str(file), 5000, 0)
    assert facts.task == "generate" and "only once it is unpacked" in facts.note


def test_an_archive_in_a_bucket_is_known_by_its_size_and_version(bucket: Bucket) -> None:
    uri = bucket.put("packed/m.tgz", bytes(7000))
    facts = resolve(uri, bucket.env)
    assert (facts.format, facts.path, facts.weight_bytes, facts.download_bytes) == ("archive", uri, 7000, 7000)
    bucket.put("packed/m.tgz", bytes(8000))
    again = resolve(uri, bucket.env)
    assert again.weight_bytes == 8000 and again.revision != facts.revision
    with pytest.raises(ModelportError, match="There is no file") as caught:
        resolve(f"{bucket.uri}/packed/other.tgz", bucket.env)
    assert caught.value.kind is MODEL_NOT_FOUND


def test_an_onnx_model_in_a_bucket_is_what_its_sidecar_says(bucket: Bucket) -> None:
    other = bucket.uri.replace("s3:", "aws:").replace("az:", "azure:")
    sidecar: dict[str, Any] = {"task": "classify", "labels": ["cat", "dog"]}
    bucket.put("vision/model.onnx", bytes(3000))
    bucket.put("vision/model.onnx.data", bytes(4000))
    bucket.put("vision/vision.json", json.dumps(sidecar).encode())
    for source, path in ((f"{bucket.uri}/vision", "/vision"), (f"{other}/vision/model.onnx", "/vision/model.onnx")):
        facts = resolve(source, bucket.env)
        assert (facts.format, facts.task, facts.weight_bytes) == ("onnx", "classify", 7000)
        assert facts.path == bucket.uri + path and facts.inputs == ("image",) and facts.note == ""


def test_what_is_wrong_with_an_onnx_model_in_a_bucket_is_said(s3_bucket: Bucket) -> None:
    s3_bucket.put("bad/model.onnx", bytes(300))
    assert "No vision.json" in resolve("s3://models/bad", s3_bucket.env).note
    s3_bucket.put("bad/vision.json", b"[")
    with pytest.raises(ModelportError, match="not a JSON object"):
        resolve("s3://models/bad", s3_bucket.env)
    with pytest.raises(ModelportError, match=r"no file 'other\.onnx'"):
        resolve("s3://models/bad/other.onnx", s3_bucket.env)


def test_onnx_files_bring_what_belongs_to_them(s3_bucket: Bucket) -> None:
    from modelport import storage

    for name in ("m.onnx", "m.onnx.data", "labels.txt", "vision.json", "other.onnx", "train.log", "deep/labels.txt"):
        s3_bucket.put(f"whole/{name}", name.encode())
    found = storage.model("s3://models/whole/m.onnx", s3_bucket.env)
    assert found.name == "m.onnx"
    assert {file.name for file in found.parent.iterdir()} == {"m.onnx", "m.onnx.data", "labels.txt", "vision.json"}
