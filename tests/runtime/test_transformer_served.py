"""A vision-language model behind the runtime's own server, in the Python that has torch."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.harness import until
from tests.runtime.test_transformer_media import image, video
from tests.runtime.torch_env import ROOT, made, python

pytestmark = pytest.mark.timeout(600)  # the first test on a machine makes the models


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    process = subprocess.Popen(
        [python(), "-m", "modelport.runtime", "--model", str(made("qwen")), "--name", "eyes", "--port", "0"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    try:
        line = next(line for line in process.stderr if "listening on" in line)
        client = httpx.Client(base_url=f"http://127.0.0.1:{line.strip().rpartition(':')[2]}", timeout=60)
        until(lambda: client.get("/health").status_code == 200, timeout_s=300, what="a ready server")
        yield client
    finally:
        process.kill()
        process.wait()


def uri(medium: tuple[str, bytes], mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(medium[1]).decode()}"


def test_media_of_an_inference_request_reach_the_model(server: httpx.Client) -> None:
    asked = {"prompt": "What?", "temperature": 0, "max_new_tokens": 8}
    media = [uri(image("red"), "image/png"), uri(video("red-blue.mp4"), "video/mp4")]
    answer = server.post("/api/v1/inference", json={**asked, "media": media})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert (results["total_images"], results["total_videos"], results["frames"]) == (1, 1, [8])
    assert results["model_type"] == "vlm" and results["is_vlm"]
    other = server.post("/api/v1/inference", json={**asked, "media": media[:1]}).json()["results"]
    assert other["response"] != results["response"]
    assert server.post("/api/v1/inference", json={"media": media}).status_code == 400


def test_chat_streams_an_answer_about_an_image(server: httpx.Client) -> None:
    content = [
        {"type": "image_url", "image_url": {"url": uri(image("red"), "image/png")}},
        {"type": "text", "text": "?"},
    ]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 20}
    whole = server.post("/v1/chat/completions", json=body).json()
    assert whole["model"] == "eyes" and whole["usage"]["completion_tokens"] == 20
    text = ""
    with server.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    assert text == whole["choices"][0]["message"]["content"]
    wrong = server.post("/v1/chat/completions", json={**body, "temperature": 3})
    assert wrong.status_code == 400 and "from 0 to 2" in wrong.json()["error"]["message"]
