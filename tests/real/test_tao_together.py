"""Fifty clients at once on two jobs, at both versions of the API: every answer is its own picture's. And what a whole
run leaves behind: the value of a secret stands nowhere."""

import base64
import io
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from modelport.domain.spec import Batch, Spec
from modelport.domain.variables import SECRETS
from modelport.domain.workspace import Workspace
from modelport.errors import ModelportError
from modelport.runtime.handler import Call, Medium
from modelport.runtime.handlers import choose
from tests.harness import ROOT, Serving, modelport, short_directory, until

MODELS, DATA = ROOT / "examples" / "models", ROOT / "tests" / "data" / "vision"
CLIENTS = 50
EXPERIMENT = "6f1d0b5e-0c39-4d52-9a3e-0d8c3b1f5a11"
CLOUD = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def digits(count: int) -> list[bytes]:
    """Pictures of held-out digits, each another."""
    made: list[bytes] = []
    for picture in np.load(DATA / "digits.npz")["pictures"][:count]:
        out = io.BytesIO()
        Image.fromarray(picture).save(out, "PNG")
        made.append(out.getvalue())
    return made


def scenes(count: int) -> list[bytes]:
    held = np.load(DATA / "scenes.npz")
    ends = [0, *held["ends"]]
    return [held["files"][ends[n] : ends[n + 1]].tobytes() for n in range(count)]


def bare(model: str, pictures: list[bytes]) -> list[Any]:
    """What the handler itself says of each, with no server around it."""
    handler = choose(MODELS / model, "auto", {"threads": 1})
    handler.load(lambda _sentence, _share: None)
    works = [handler.check(Call("inference", {}, (Medium("image", data, "images[0]"),))) for data in pictures]
    answers = [handler.run([work])[0] for work in works]
    handler.close()
    return [answer.results["predictions"][0] for answer in answers]  # type: ignore[union-attr]


def same(one: Any, other: Any) -> bool:
    """Whether two predictions are of one picture: batches leave numbers the same up to rounding."""
    if "class" in one:
        return one["class"] == other["class"] and abs(one["confidence"] - other["confidence"]) < 1e-4
    return one["labels"] == other["labels"] and np.allclose(one["boxes"], other["boxes"], atol=0.05)


class Clients:
    """Threads that ask until the time is over; what was wrong is kept."""

    def __init__(self, serving: Serving, jobs: dict[str, str], key: str) -> None:
        self.serving, self.jobs, self.key = serving, jobs, key
        self.asked = {name: (digits if name == "digits" else scenes)(40) for name in jobs}
        self.expected = {name: bare(name, pictures) for name, pictures in self.asked.items()}
        self.wrong: list[str] = []
        self.answered = 0
        self.lock = threading.Lock()

    def run(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        threads = [threading.Thread(target=self.client, args=(number, until_s)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def client(self, number: int, until_s: float) -> None:
        name = list(self.jobs)[number % 2]
        job = self.jobs[name]
        v1 = f"/api/v1/orgs/acme/experiments/{EXPERIMENT}/jobs/{job}/inference_microservice/inference"
        v2 = f"/api/v2/orgs/acme/inference_microservices/{job}:inference"
        with httpx.Client(base_url=self.serving.url, headers={"authorization": f"Bearer {self.key}"}) as http:
            turn = number
            while time.monotonic() < until_s:
                turn += 1
                which = turn * 7 % 40
                kind = "png" if name == "digits" else "jpeg"
                uri = f"data:image/{kind};base64," + base64.b64encode(self.asked[name][which]).decode()
                answer = http.post((v1, v2)[turn % 2], json={"images": [uri]}, timeout=60)
                known = self.expected[name][which]
                right = answer.status_code == 200 and same(answer.json()["results"]["predictions"][0], known)
                with self.lock:
                    self.answered += 1
                    if not right:
                        self.wrong.append(f"{name}[{which}]: {answer.text[:300]} instead of {known}")


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        with Serving(directory) as running:
            yield running


@pytest.fixture(scope="module")
def clients(serving: Serving) -> Clients:
    specs = [
        Spec(model=str(MODELS / name), name=f"{name}-job", job=True, labels={"tao.org": "acme"}, options={"threads": 1})
        for name in ("digits", "scenes")
    ]
    made = [serving.client.start(spec) for spec in specs]
    for view in made:
        serving.ready(view.name, 60)
    return Clients(serving, {name: view.id for name, view in zip(("digits", "scenes"), made, strict=True)},
                   serving.admin_key)  # fmt: skip


def test_fifty_at_once_lose_no_answer_and_mix_none(clients: Clients) -> None:
    clients.run(4)
    assert clients.wrong == []
    assert clients.answered > CLIENTS


@pytest.mark.soak
def test_fifty_at_once_for_a_minute(clients: Clients) -> None:
    before = clients.answered
    clients.run(60)
    assert clients.wrong == []
    assert clients.answered > before + 20 * CLIENTS


@pytest.mark.timeout(300)
def test_no_secret_stands_anywhere_after_a_whole_run(tmp_path: Path) -> None:
    values = {name: f"s3cret-{secrets.token_hex(12)}" for name in sorted({*SECRETS, *CLOUD})}
    for directory in short_directory():
        serving = Serving(directory)
        serving.environment |= values | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        with serving:
            said = whole_run(serving, values, tmp_path)
        left = [text for place in (directory, tmp_path) for text in files(place)]
        for name, value in values.items():
            assert not any(value in text for text in said), f"{name} was shown"
            assert not any(value.encode() in data for data in left), f"{name} was written"


def whole_run(serving: Serving, values: dict[str, str], tmp_path: Path) -> list[str]:
    """Everything a user does with secrets by reference, and with raw ones; all that was answered, and all command
    lines that were seen meanwhile."""
    said: list[str] = []
    references = {name: f"env:{name}" for name in SECRETS}
    serving.client.put_workspace(
        Workspace(name="lab", cloud="s3", bucket="nowhere", endpoint="http://127.0.0.1:9", region="us-east-1",
                  access_key_ref="env:AWS_ACCESS_KEY_ID", secret_key_ref="env:AWS_SECRET_ACCESS_KEY")
    )  # fmt: skip
    digits_job = Spec(model=str(MODELS / "digits"), name="d", job=True, env=references, workspace="lab",
                      labels={"tao.org": "acme"})  # fmt: skip
    said.append(serving.client.plan(digits_job).model_dump_json())
    view = serving.client.start(digits_job)
    said.append(serving.ready("d", 60).model_dump_json())
    said += [" ".join(line) for line in command_lines()]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(digits(1)[0])
    batch = Batch(input=str(tmp_path / "in"), results=str(tmp_path / "out"))
    serving.client.start(digits_job.model_copy(update={"name": "b", "batch": batch, "labels": {}}))
    until(lambda: serving.client.status("b").state == "stopped", 60, "the batch is over")
    headers = {"authorization": f"Bearer {serving.admin_key}"}
    with httpx.Client(base_url=serving.url, headers=headers, timeout=30) as http:
        path = "/api/v2/orgs/acme/inference_microservices"
        said.append(http.post(f"{path}/{view.id}:inference", json={"media": "s3://nowhere/cat.png"}).text)
        said.append(http.get(f"{path}/{view.id}:status").text)
        raw = {"network_arch": "x", "model_path": str(MODELS / "digits"), "docker_env_vars": values}
        refused = http.post(f"{path}:start", json=raw)
        assert refused.status_code == 400, refused.text
        said.append(refused.text)
        login = {"ngc_key": values["TAO_API_KEY"], "ngc_org_name": "acme"}
        said.append(http.post("/api/v2/login", json=login).text)
        said.append(http.get("/api/v2/orgs/acme/workspaces").text)
        said.append(http.post("/modelport/v1/services", json={"model": "m", "env": dict(values)}).text)
    missing = Spec(model="s3://nowhere/model", name="m", workspace="lab")
    try:
        serving.client.start(missing)
    except ModelportError as error:
        said.append(error.message)
    for command in (("status", "d"), ("logs", "d"), ("workspaces", "list"), ("workspaces", "check", "lab"),
                    ("config", "show"), ("doctor",), ("ps",), ("tao", "list")):  # fmt: skip
        done = modelport(*command, state_dir=serving.state_dir, **values)
        said += [done.stdout, done.stderr]
    said.append(serving.log.read_text())
    return said


def command_lines() -> Iterator[list[str]]:
    for process in psutil.process_iter():
        try:
            yield process.cmdline()
        except psutil.Error:
            continue


def files(place: Path) -> Iterator[bytes]:
    """The bytes of every file below a directory."""
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                yield path.read_bytes()
