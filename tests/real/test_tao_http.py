"""TAO's documentation as it is read: v1 by plain HTTP, its whole workflow against the sample models, through gateway and
runtime, and what each answers key by key."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from modelport.domain.key import KeySpec
from tests.harness import ROOT, Serving, short_directory, until

ORG = "your-org-name"
EXPERIMENT = "6f1d0b5e-0c39-4d52-9a3e-0d8c3b1f5a11"
DATA = ROOT / "tests" / "data" / "vision"


class Api:
    """The documentation's $BASE_URL and $TOKEN."""

    def __init__(self, serving: Serving, key: str | None) -> None:
        self.url = f"{serving.url}/api/v1"
        answer = httpx.post(f"{self.url}/login", json={"ngc_key": key, "ngc_org_name": ORG}, timeout=30)
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["token"]
        self.base = f"{self.url}/orgs/{ORG}/experiments"

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.request(method, f"{self.base}{path}", json=body, headers=headers, timeout=60)

    def done(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.ask(method, path, body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def trained(self, model: str, arch: str) -> str:
        """A finished training job, as the documentation takes for granted."""
        path = str(ROOT / "examples" / "models" / model)
        return self.done("POST", "", {"network_arch": arch, "model_path": path}, 201)["id"]

    def ready(self, train_job: str) -> str:
        """Steps 1 and 2: start, and poll until the model is loaded. The path of the job's routes."""
        job = self.done("POST", f"/{EXPERIMENT}/inference_microservice/start", {"parent_id": train_job})["job_id"]
        path = f"/{EXPERIMENT}/jobs/{job}/inference_microservice"

        def loaded() -> bool:
            status = self.done("GET", f"{path}/status")
            assert status["initialization_error"] is None and status["model_load_error"] is None, status
            return status["model_loaded"]

        until(loaded, 120, "the model is loaded")
        return path


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        with Serving(directory) as running:
            yield running


@pytest.fixture(scope="module")
def api(serving: Serving) -> Api:
    return Api(serving, serving.client.create_key(KeySpec(scopes=("infer", "operate"))).secret)


def uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def test_the_classification_example_from_login_to_stop(api: Api) -> None:
    path = api.ready(api.trained("digits", "classification_pyt"))
    held = np.load(DATA / "digits.npz")
    images: list[str] = []
    for picture in held["pictures"][:2]:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        images.append(uri(file.getvalue()))
    answer = api.done("POST", f"{path}/inference", {"images": images, "batch_size": 1})
    assert (answer["status"], answer["message"]) == ("completed", "Inference completed successfully")
    assert answer["job_id"] == path.split("/")[3] and isinstance(answer["results"], dict)
    for digit in held["digits"][:2]:
        assert str(digit) in str(answer["results"])
    empty = api.ask("POST", f"{path}/inference", {})
    assert empty.status_code == 400
    status = api.done("GET", f"{path}/status")
    assert (status["status"], status["pod_status"], status["auto_deletion_enabled"]) == ("healthy", "Running", True)
    stopped = api.done("POST", f"{path}/stop")
    assert (stopped["status"], stopped["message"]) == ("stopped", "Inference microservice stopped successfully")
    assert api.done("GET", f"{path}/status")["status"] == "Done"
    until(lambda: api.ask("POST", f"{path}/inference", {"images": images}).status_code == 404, 10, "the id is gone")


def test_the_detection_example(api: Api) -> None:
    path = api.ready(api.trained("scenes", "dino"))
    held = np.load(DATA / "scenes.npz")
    scene = held["files"][: held["ends"][0]].tobytes()
    answer = api.done("POST", f"{path}/inference", {"images": [uri(scene)], "confidence_threshold": 0.5})
    assert answer["status"] == "completed" and "box" in str(answer["results"])
    api.done("POST", f"{path}/stop")


def test_a_folder_is_answered_by_a_batch_job(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> None:
    api = Api(serving, serving.admin_key)  # only admins may name folders of the machine
    root = tmp_path_factory.mktemp("batch")
    (root / "in").mkdir()
    for number, picture in enumerate(np.load(DATA / "digits.npz")["pictures"][:5]):
        Image.fromarray(picture).save(root / "in" / f"{number}.png")
    body = {
        "action": "inference",
        "parent_job_id": api.trained("digits", "classification_pyt"),
        "specs": {"input": str(root / "in"), "results_dir": str(root / "out"), "top_k": 1},
    }
    job = api.done("POST", f"/{EXPERIMENT}/jobs", body)

    def over() -> str:
        found = api.done("GET", f"/{EXPERIMENT}/jobs/{job}")
        assert found["status"] in ("Pending", "Running", "Done"), found
        return found["status"] == "Done"

    until(over, 120, "the batch is done")
    assert sorted(file.name for file in (root / "out").glob("*.png.json")) == [f"{n}.png.json" for n in range(5)]


def test_a_model_that_cannot_be_loaded_says_why_in_status_and_inference(api: Api, tmp_path_factory: Any) -> None:
    """A corrupt file: refused at once, in a sentence, or shown by the status as the documentation has it."""
    broken = tmp_path_factory.mktemp("broken") / "model.onnx"
    broken.write_bytes(b"\x08\x07" + b"\xff" * 64)
    body = {"network_arch": "classification_pyt", "model_path": str(broken)}
    trained = api.done("POST", "", body, 201)["id"]
    answer = api.ask("POST", f"/{EXPERIMENT}/inference_microservice/start", {"parent_id": trained})
    if answer.status_code == 400:
        assert answer.json()["error_desc"]
        return
    path = f"/{EXPERIMENT}/jobs/{answer.json()['job_id']}/inference_microservice"
    status = until(lambda: (s := api.done("GET", f"{path}/status"))["status"] == "Error" and s, 120, "it failed")
    assert status["model_load_error"] or status["initialization_error"]
    refused = api.done("POST", f"{path}/inference", {"images": ["x"]}, 503)
    assert refused["status"] == "error" and refused["error"]
