"""Models, media and batches in a cloud: S3 as moto serves it."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.harness import until
from tests.real.test_object_stores import s3
from tests.runtime.server import Server
from tests.runtime.test_requests import PNG
from tests.storage.conftest import Bucket, s3_bucket

__all__ = ["s3", "s3_bucket"]

pytestmark = pytest.mark.skipif(find_spec("obstore") is None, reason="not installed: obstore (the extra `cloud`)")


def test_a_model_and_media_come_from_one_bucket_and_from_nowhere_else(s3_bucket: Bucket, tmp_path: Path) -> None:
    s3_bucket.put("toy/toy.json", b"{}")
    good, other = s3_bucket.put("media/a.png", PNG), s3_bucket.put("other/b.png", PNG)
    env = {**s3_bucket.env, "XDG_CACHE_HOME": str(tmp_path)}
    with Server("--model", "s3://models/toy", "--bucket", "s3://models/media", **env) as server:
        server.ready()
        assert "downloading: Download the model's files" in server.log
        found = server.infer(images=[good, good.replace("s3:", "aws:")]).json()["results"]["media"]
        assert [(medium["name"], medium["sum"]) for medium in found] == [("a.png", sum(PNG))] * 2
        for address, sentence in (
            (other, "not below the bucket"),
            ("s3://models/media/none.png", "There is nothing at"),
            ("s3://models/media/../other/b.png", "has a part"),
        ):
            refused = server.infer(media=address)
            assert refused.status_code == 400
            assert sentence in refused.json()["error"]
        assert "open-sesame" not in server.log


def test_a_model_that_is_not_in_the_bucket_fails_in_a_sentence_that_names_no_place(
    s3_bucket: Bucket, tmp_path: Path
) -> None:
    env = {**s3_bucket.env, "XDG_CACHE_HOME": str(tmp_path)}
    with Server("--model", "s3://models/nothing", **env) as server:
        failed = until(lambda: server.get("/api/v1/status").json()["initialization_error"])
        assert failed.startswith("There is nothing at the model")


def test_a_batch_goes_from_a_bucket_into_a_bucket_and_on(s3_bucket: Bucket, tmp_path: Path) -> None:
    import obstore

    for number in range(5):
        s3_bucket.put(f"in/{number}.png", PNG + bytes([number]))
    s3_bucket.put("model/toy.json", b"{}")
    s3_bucket.put("out/3.png.json", b"{}")
    s3_bucket.put("out/4.png.error.json", b"{}")
    batch = json.dumps({"input": "s3://models/in", "results": "s3://models/out/"})
    env = {**s3_bucket.env, "XDG_CACHE_HOME": str(tmp_path)}
    with Server("--model", "s3://models/model", "--batch", batch, **env) as server:
        assert server.wait() == 0, server.log
    names = {str(found["path"]) for page in obstore.list(s3_bucket.raw, "out") for found in page}
    assert names == {f"out/{number}.png.json" for number in range(5)} | {"out/summary.json", "out/question.json"}
    assert bytes(obstore.get(s3_bucket.raw, "out/3.png.json").bytes()) == b"{}"
    summary = json.loads(bytes(obstore.get(s3_bucket.raw, "out/summary.json").bytes()))
    assert (summary["done"], summary["skipped"]) == (4, 1)
