"""NVIDIA's own TAO client, unmodified, against a Modelport that serves the sample classifier: the `tao` command and the
SDK, from login to stop. scripts/tao-client.sh makes the client's environment (about 10 s, once)."""

import base64
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.domain.key import KeySpec
from tests.harness import ROOT, Serving, short_directory, until

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport-test" / "tao"
MADE = Path(os.environ.get("MODELPORT_TEST_TAO") or CACHE)
if not (MADE / "bin" / "tao").exists():
    pytest.skip(f"needs NVIDIA's TAO client: `scripts/tao-client.sh {CACHE}`", allow_module_level=True)
pytestmark = pytest.mark.timeout(300)
DIGITS = ROOT / "examples" / "models" / "digits"
ORG, ARCH = "acme", "classification_pyt"


class Client:
    """A user's machine: the client's environment, a home of its own, and a key."""

    def __init__(self, home: Path, url: str, key: str) -> None:
        self.home, self.url, self.key = home, url, key
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("TAO_", "MODELPORT_"))}
        self.environment = {**kept, "HOME": str(home), "TAO_BASE_URL": url, "PATH": f"{MADE / 'bin'}:/usr/bin:/bin"}

    def run(self, *words: str, status: int = 0, **more: str) -> str:
        environment = {**self.environment, **more}
        done = subprocess.run(words, env=environment, cwd=self.home, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if status else "")

    def tao(self, *words: str, **more: Any) -> str:
        return self.run("tao", *words, **more)

    def asked(self, command: str, *words: str) -> dict[str, Any]:
        """A command of the network's group, whose answer is printed as JSON."""
        text = self.tao(ARCH, command, *words, "--output", "json")
        return json.loads(text[text.index("{") :])

    def sdk(self, script: str) -> Any:
        """What a script of the SDK prints last, as JSON."""
        begin = "import json\nfrom tao_sdk import TaoClient\nclient = TaoClient()\n"
        return json.loads(self.run("python", "-c", begin + script).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        with Serving(directory) as running:
            yield running


@pytest.fixture(scope="module")
def client(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Logged in, by a key of ours in the place of NGC's."""
    spec = KeySpec(name="tao", scopes=("infer", "operate"), user="ann")
    key = serving.client.create_key(spec).secret
    assert key
    made = Client(tmp_path_factory.mktemp("home"), serving.url, key)
    said = made.tao("login", "--ngc-org-name", ORG, "--ngc-key", key)
    assert "Login successful" in said
    config = made.home / ".tao" / "config"
    assert key in config.read_text() and f"tao_org = {ORG}" in config.read_text().lower()
    return made


def picture(number: int) -> tuple[str, str]:
    """A held-out digit as a data URI, and which it is."""
    held = np.load(ROOT / "tests" / "data" / "vision" / "digits.npz")
    file = io.BytesIO()
    Image.fromarray(held["pictures"][number]).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", str(held["digits"][number])


def test_whoami_knows_the_login(client: Client) -> None:
    assert f"Authenticated as: {ORG}" in client.tao("whoami")


def test_the_command_starts_asks_and_stops_a_model(client: Client, serving: Serving) -> None:
    begun = client.tao(
        ARCH, "start-inference-microservice", "--docker-image", "nvcr.io/nvidia/tao/tao-toolkit:6.0.0-pyt",
        "--num-gpus", "0", "--model-path", str(DIGITS), "--env", "TAO_LOG_LEVEL=INFO",
    )  # fmt: skip
    job = begun.split("started with ID: ")[1].split()[0]  # the command prints `id`, which upstream does not answer
    assert job != "N/A" and "status: pending" in begun and "message: Inference microservice starting" in begun
    micro = ("--microservice-job-id", job)

    def loaded() -> bool:
        status = client.asked("get-inference-microservice-status", *micro)
        assert status["job_id"] == job and status["status"] == "healthy", status
        return status["model_loaded"]

    until(loaded, 120, "the model is loaded")
    image, digit = picture(3)
    answer = client.asked("inference-request", *micro, "--input", json.dumps([image]))
    assert answer["status"] == "completed" and answer["job_id"] == job
    assert answer["message"] == "Inference completed successfully"
    assert digit in json.dumps(answer["results"])
    assert "stopped" in client.tao(ARCH, "stop-inference-microservice", *micro)
    ended = client.asked("get-inference-microservice-status", *micro)
    assert ended["status"] == "Done" and ended["model_loaded"] is False
    refused = client.tao(ARCH, "inference-request", *micro, "--input", json.dumps([image]), status=1)
    assert "TaoNotFoundError" in refused or "Resource not found" in refused


def test_the_sdk_starts_asks_and_stops_a_model_and_sees_its_job(client: Client) -> None:
    image, digit = picture(7)
    script = f"""
import time
made = client.start_inference_microservice(network_arch="{ARCH}", model_path="{DIGITS}", num_gpus=1)
job = made["job_id"]
seen = set()
while True:
    status = client.get_inference_microservice_status(job)
    seen.add(status["status"])
    if status["model_loaded"] or status["status"] in ("Done", "Error", "Canceled", "Paused"):
        break
    time.sleep(1)
answer = client.inference_request(job, images=["{image}"])
found = client.get_job_metadata(job)
listed = [one["id"] for one in client.list_jobs()]
logs = client.get_job_logs(job)
stopped = client.stop_inference_microservice(job)
print(json.dumps([made, sorted(seen), answer, found, listed, len(logs), stopped]))
"""
    made, seen, answer, found, listed, logs, stopped = client.sdk(script)
    assert made["id"] == made["job_id"] and made["status"] == "pending" and seen == ["healthy"]
    assert answer["status"] == "completed" and digit in json.dumps(answer["results"])
    assert (found["status"], found["kind"], found["network_arch"]) == ("Running", "experiment", ARCH)
    assert made["id"] in listed and logs > 0
    assert stopped["status"] == "stopped" and stopped["message"] == "Inference microservice stopped successfully"


def test_the_sdks_refusals_are_its_own_errors_with_our_sentences(client: Client) -> None:
    script = """
from tao_sdk import TaoAPIError, TaoNotFoundError
def said(call):
    try:
        return [str(type(call()))]
    except TaoNotFoundError as error:
        return ["404", str(error.args)]
    except TaoAPIError as error:
        return ["other", str(error)]
print(json.dumps([
    said(lambda: client.start_inference_microservice(network_arch="dino")),
    said(lambda: client.start_inference_microservice(hf_model="m", custom_inference_fn="def run_inference(): ...")),
    said(lambda: client.get_inference_microservice_status("6f1d0b5e-0c39-4d52-9a3e-0d8c3b1f5a11")),
    said(lambda: client.create_workspace("w", "aws", {"cloud_type": "aws", "access_key": "AKIA", "secret_key": "x",
                                                      "cloud_bucket_name": "b"})),
    said(lambda: client.create_job(kind="experiment", action="train", specs={}, name="n", network_arch="dino", workspace="w")),
]))
"""
    model, code, missing, secret, train = client.sdk(script)
    assert "Model path or hf_model is required for Inference Microservice" in model[1]
    assert "runs no code" in code[1] and missing[0] == "404"
    assert "access_key is a secret" in secret[1] and "AKIA" not in secret[1]
    assert "trains none" in train[1]


def test_the_sdk_of_an_admin_makes_lists_and_deletes_a_workspace(serving: Serving, tmp_path: Path) -> None:
    client = Client(tmp_path, serving.url, serving.admin_key)
    client.tao("login", "--ngc-org-name", ORG, "--ngc-key", serving.admin_key)
    script = """
details = {"cloud_type": "aws", "access_key": "env:AWS_ACCESS_KEY_ID", "secret_key": "env:AWS_SECRET_ACCESS_KEY",
           "cloud_region": "us-west-2", "cloud_bucket_name": "my-bucket"}
made = client.create_workspace("mine", "aws", details)
again = client.create_workspace("mine", "aws", details)
listed = client.list_workspaces()
one = client.get_workspace_metadata(made["id"])
client.delete_workspace(made["id"])
print(json.dumps([made, again, listed, one, client.list_workspaces()]))
"""
    made, again, listed, one, left = client.sdk(script)
    assert made["is_duplicate"] is False and again["is_duplicate"] is True and again["id"] == made["id"]
    assert [found["id"] for found in listed] == [made["id"]] and one["name"] == "mine" and left == []


def test_a_wrong_key_does_not_log_in(client: Client, tmp_path: Path) -> None:
    other = Client(tmp_path, client.url, "")
    said = other.tao("login", "--ngc-org-name", ORG, "--ngc-key", "nvapi-wrong", status=1)
    assert "Login failed with status 401" in said and not (tmp_path / ".tao").exists()
