"""A workspace from end to end: model folder, archive, media and batch in S3 (moto) and Azure (Azurite), with credentials
by reference, through control, runtime, gateway and TAO's paths."""

import io
import tarfile
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from modelport.domain.spec import Spec
from modelport.domain.workspace import Workspace
from modelport.errors import ModelportError
from tests.harness import ROOT, Serving, short_directory, until
from tests.real.test_object_stores import ACCOUNT, KEY, azure, s3
from tests.storage.conftest import Bucket, az_bucket, bucket, s3_bucket

__all__ = ["az_bucket", "azure", "bucket", "s3", "s3_bucket"]
DIGITS = ROOT / "examples" / "models" / "digits"
HELD = np.load(ROOT / "tests" / "data" / "vision" / "digits.npz")
ORG = "acme"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    for directory in short_directory():
        running = Serving(directory)
        running.environment |= {
            "LAB_SECRET": "open-sesame",
            "LAB_ACCOUNT_KEY": KEY,
            "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        }
        with running:
            yield running


@pytest.fixture
def lab(serving: Serving, bucket: Bucket) -> str:
    """A workspace of that bucket, and its name."""
    azure = bucket.uri.startswith("az")
    made = Workspace(
        name="lab-az" if azure else "lab-s3",
        cloud="az" if azure else "s3",
        bucket="models",
        endpoint=bucket.env[bucket.endpoint],
        region="" if azure else "us-east-1",
        account=ACCOUNT if azure else "",
        access_key_ref="env:LAB_ACCOUNT_KEY" if azure else "env:LAB_SECRET",
        secret_key_ref="" if azure else "env:LAB_SECRET",
    )
    serving.client.put_workspace(made)
    return made.name


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(HELD["pictures"][number]).save(out, "PNG")
    return out.getvalue()


class Tao:
    def __init__(self, serving: Serving) -> None:
        self.base = f"{serving.url}/api/v2/orgs/{ORG}"
        self.headers = {"authorization": f"Bearer {serving.admin_key}"}

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(method, self.base + path, json=body, headers=self.headers, timeout=60)

    def started(self, **body: Any) -> str:
        answer = self.ask("POST", "/inference_microservices:start", {"network_arch": "classification_pyt", **body})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def ready(self, job: str) -> None:
        def loaded() -> bool:
            status = self.ask("GET", f"/inference_microservices/{job}:status").json()
            assert not status["initialization_error"] and not status["model_load_error"], status
            return status["model_loaded"]

        until(loaded, 60, "the model is loaded")

    def infer(self, job: str, body: Any) -> httpx.Response:
        return self.ask("POST", f"/inference_microservices/{job}:inference", body)


def test_model_folder_and_media_come_from_the_workspace(serving: Serving, bucket: Bucket, lab: str) -> None:
    folder = f"digits-{uuid.uuid4().hex[:6]}"
    for file in DIGITS.iterdir():
        bucket.put(f"{folder}/{file.name}", file.read_bytes())
    pictures = [bucket.put(f"{folder}-media/{number}.png", png(number)) for number in range(3)]
    tao = Tao(serving)
    job = tao.started(model_path=f"{bucket.uri}/{folder}", workspace=lab)
    tao.ready(job)
    answer = tao.infer(job, {"media": pictures})
    assert answer.status_code == 200, answer.text
    said = [one["class_id"] for one in answer.json()["results"]["predictions"]]
    assert said == [int(digit) for digit in HELD["digits"][:3]]
    gone = tao.infer(job, {"media": f"{bucket.uri}/{folder}-media/nothing.png"})
    assert gone.status_code in (400, 404) and "nothing.png" in gone.json()["error_desc"], gone.text
    other = tao.infer(job, {"media": bucket.uri.replace("models", "others") + "/a.png"})
    assert other.status_code == 400, other.text
    assert "open-sesame" not in gone.text + other.text and KEY not in gone.text + other.text


def test_an_archive_is_unpacked_and_served(serving: Serving, bucket: Bucket, lab: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file in DIGITS.iterdir():
            archive.add(file, file.name)
    uri = bucket.put(f"packed-{uuid.uuid4().hex[:6]}.tar.gz", packed.getvalue())
    name = f"packed-{uuid.uuid4().hex[:6]}"
    serving.client.start(Spec(model=uri, name=name, workspace=lab, job=True))
    view = serving.ready(name, 60)
    tao = Tao(serving)
    answer = tao.infer(view.id, {"images": [bucket.put(f"{name}.png", png(0))]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"]["class_id"] == int(HELD["digits"][0])


def test_a_batch_reads_and_writes_the_workspace(serving: Serving, bucket: Bucket, lab: str) -> None:
    import obstore

    folder = f"batch-{uuid.uuid4().hex[:6]}"
    for number in range(5):
        bucket.put(f"{folder}/in/{number}.png", png(number))
    for file in DIGITS.iterdir():
        bucket.put(f"{folder}/model/{file.name}", file.read_bytes())
    tao = Tao(serving)
    body = {
        "action": "inference", "kind": "experiment", "network_arch": "classification_pyt", "workspace": lab,
        "specs": {"model_path": f"{bucket.uri}/{folder}/model", "input": f"{bucket.uri}/{folder}/in",
                  "results_dir": f"{bucket.uri}/{folder}/out"},
    }  # fmt: skip
    answer = tao.ask("POST", "/jobs", body)
    assert answer.status_code == 201, answer.text
    job = answer.json()["id"]

    def over() -> bool:
        found = tao.ask("GET", f"/jobs/{job}").json()
        assert found["status"] in ("Pending", "Running", "Done"), (found, list(serving.client.logs(job, 30, False)))
        return found["status"] == "Done"

    until(over, 90, "the batch is done")
    names = [found["path"] for page in obstore.list(bucket.raw, f"{folder}/out") for found in page]
    assert sorted(name.rpartition("/")[2] for name in names if name.endswith(".png.json")) == [
        f"{number}.png.json" for number in range(5)
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere", "nothing at"), ("", "no model")],
)
def test_what_is_not_there_is_said_before_anything_starts(
    serving: Serving, bucket: Bucket, lab: str, path: str, words: str
) -> None:
    uri = f"{bucket.uri}/{path or 'empty'}"
    if not path:
        bucket.put("empty/readme.txt", b"no model")
    with pytest.raises(ModelportError) as error:
        serving.client.start(Spec(model=uri, name="x", workspace=lab))
    assert words in error.value.message or "no files" in error.value.message, error.value.message


def test_credentials_that_are_not_there_are_said_by_their_place(serving: Serving) -> None:
    serving.client.put_workspace(
        Workspace(name="bare", cloud="s3", bucket="models", access_key_ref="env:NOBODY_SET", secret_key_ref="env:THIS")
    )
    with pytest.raises(ModelportError, match="NOBODY_SET"):
        serving.client.start(Spec(model="s3://models/x", name="x", workspace="bare"))
    with pytest.raises(ModelportError, match="There is no workspace 'nobodys'"):
        serving.client.start(Spec(model="s3://models/x", name="x", workspace="nobodys"))
