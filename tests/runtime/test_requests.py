"""What comes to a ready model server, well formed or not, and that every answer is the asker's own."""

import asyncio
import base64
import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import until
from tests.runtime.server import Server, toy
from tests.runtime.test_lifecycle import in_background

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">2I5B", 2, 3, 8, 0, 0, 0, 0)
MP4 = b"\0\0\0\x18ftypisom" + b"\0" * 40


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64(data)}"


def user(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One toy, eight requests at most in a run."""
    model = toy(tmp_path_factory.mktemp("model"), most=8)
    with Server("--model", model, "--name", "toy", "--max-queue", "256") as running:
        yield running.ready()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Server]:
    """A toy that takes one request at a time, keeps two waiting, and answers within 1 s or not at all."""
    with Server("--model", toy(tmp_path / "m"), "--max-queue", "2", "--timeout-s", "1") as running:
        yield running.ready()


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 400, "Request body is required"),
        (b"{}", 400, "Request body is required"),
        (b"null", 400, "Request body is required"),
        (b"{", 400, "The request body is not valid JSON."),
        (b'{"a": "\xff"}', 400, "The request body is not valid JSON."),
        (b"[" * 100_000, 400, "The request body is not valid JSON."),
        (b"[1]", 400, "The request body must be a JSON object."),
        (b'{"images": 7}', 400, "'images' must be a text: a data: URI, base64 or an address."),
        (b'{"images": [""]}', 400, "'images[0]' must be a text: a data: URI, base64 or an address."),
        (b'{"refused": true}', 400, "'refused' must not be true."),
        (b'{"breaks": true}', 500, "The model failed on this request; the server's log says why."),
        (b'{"size": []}', 500, "The model failed on this request; the server's log says why."),
    ],
)
def test_a_wrong_body_gets_a_sentence(server: Server, content: bytes, status: int, sentence: str) -> None:
    answer = server.post("/api/v1/inference", content=content)
    said = answer.json()
    assert (answer.status_code, said["status"], said["error"]) == (status, "error", sentence)
    assert set(said) == {"status", "error", "job_id", "timestamp"}
    answer = server.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request"


def test_what_broke_is_told_to_the_log_and_not_to_the_client(server: Server) -> None:
    chat = server.post("/v1/chat/completions", {**user({"type": "text", "text": "x"}), "breaks": True})
    assert (chat.status_code, chat.json()["error"]["type"]) == (500, "internal_error")
    assert "secret words" not in chat.text
    until(lambda: "secret words of a library" in server.log)


def test_routes_and_methods_that_do_not_exist_are_said(server: Server, tmp_path: Path) -> None:
    assert server.get("/api/v1/nothing").status_code == 404
    assert server.get("/api/v1/inference").status_code == 405
    assert server.client.delete("/health").status_code == 405
    with Server("--model", toy(tmp_path / "m", routes=["inference"])) as other:
        said = other.ready().post("/v1/chat/completions", {"messages": []})
        assert said.status_code == 404
        assert said.json()["error"]["message"] == (
            "This model does not answer /v1/chat/completions; it answers /api/v1/inference."
        )


@pytest.mark.parametrize("key", ["image", "images", "media", "files", "file", "input", "video", "videos"])
def test_media_come_under_every_key_as_text_or_list(server: Server, key: str) -> None:
    one = server.infer(**{key: uri(PNG)}).json()["results"]["media"]
    assert [(medium["kind"], medium["name"], medium["sum"]) for medium in one] == [("image", key, sum(PNG))]
    several = server.infer(**{key: [b64(PNG), uri(MP4, "video/mp4"), base64.encodebytes(MP4).decode()]})
    found = several.json()["results"]["media"]
    assert [medium["kind"] for medium in found] == ["image", "video", "video"]
    assert [medium["name"] for medium in found] == [f"{key}[{index}]" for index in range(3)]


def test_first_bytes_decide_what_is_a_picture_and_what_a_video(server: Server) -> None:
    found = server.infer(images=[uri(MP4, "image/png")], video=uri(PNG, "video/mp4")).json()["results"]["media"]
    assert [medium["kind"] for medium in found] == ["video", "image"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/etc/passwd", "files of this server's own disk are not read"),
        ("/etc/passwd1", "files of this server's own disk are not read"),
        ("..\\secret.png", "files of this server's own disk are not read"),
        ("file:///etc/passwd", "file: is not read."),
        ("ftp://host/x.png", "ftp: is not read."),
        ("lustre:///x.png", "lustre: is not read."),
        ("s3://bucket/x.png", "this server has no bucket to read media from"),
        ("https://example.com/x.png", "this server fetches nothing from the web"),
        ("data:application/pdf;base64,AAAA", "Unsupported media type: application/pdf"),
        ("data:image/png,AAAA", "must be a data: URI of base64"),
        ("data:image/png;base64,AA!A", "is not valid base64."),
        ("AAAAAAAA", "no base64 of a picture or video"),
    ],
)
def test_what_is_no_medium_is_refused_in_a_sentence(server: Server, text: str, sentence: str) -> None:
    answer = server.infer(images=[text])
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert "/etc" not in answer.text
    chat = server.post("/v1/chat/completions", user({"type": "image_url", "image_url": {"url": text}}))
    assert (chat.status_code, chat.json()["error"]["type"]) == (400, "invalid_request")


def test_more_media_than_allowed_are_refused(server: Server) -> None:
    assert server.infer(images=[b64(PNG)] * 513).status_code == 413
    assert len(server.infer(images=[b64(PNG)] * 512).json()["results"]["media"]) == 512


def test_a_form_brings_uploads_and_typed_fields(server: Server) -> None:
    files = [("images", ("a/../cat.png", PNG, "image/png")), ("media", ("clip.mp4", MP4, "video/mp4"))]
    data = {"prompt": "7", "top_k": "3", "threshold": "0.5", "classes": ["a", "b"], "image": b64(PNG)}
    results = server.post("/api/v1/inference", data=data, files=files).json()["results"]
    assert results["echo"] == {"prompt": "7", "top_k": 3, "threshold": 0.5, "classes": ["a", "b"]}
    assert [(medium["kind"], medium["name"], medium["type"]) for medium in results["media"]] == [
        ("image", "image[0]", ""),
        ("image", "cat.png", "image/png"),
        ("video", "clip.mp4", "video/mp4"),
    ]
    wrong = server.post("/api/v1/inference", data={"prompt": "x"}, files={"other": ("x.png", PNG)})
    assert "not 'other'" in wrong.json()["error"]
    broken = server.post("/api/v1/inference", content=b"--x", headers={"content-type": "multipart/form-data"})
    assert (broken.status_code, broken.json()["status"]) == (400, "error")


def test_chat_keeps_all_messages_and_marks_where_media_stand(server: Server, tmp_path: Path) -> None:
    body = {
        "model": "another",
        "max_tokens": 5,
        "temperature": 0.5,
        "stop": None,
        "messages": [
            {"role": "system", "content": "Be brief."},
            *user(
                {"type": "text", "text": "What"},
                {"type": "image_url", "image_url": {"url": uri(PNG)}},
                {"type": "video_url", "video_url": uri(MP4, "video/mp4")},
                {"type": "input_image", "image_url": uri(PNG)},
            )["messages"],
        ],
    }
    with Server("--model", toy(tmp_path / "m", words=0), "--name", "toy") as quiet:
        answer = quiet.ready().post("/v1/chat/completions", {**body, "words": 0}).json()
    assert answer["model"] == "toy"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    seen = json.loads(answer["choices"][0]["message"]["content"])  # with no words, a toy says its results
    assert seen["echo"] == {"max_new_tokens": 5, "temperature": 0.5, "words": 0}
    kinds = [{"type": "text", "text": "What"}, {"type": "image"}, {"type": "video"}, {"type": "image"}]
    assert seen["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": kinds}]
    assert [medium["kind"] for medium in seen["media"]] == ["image", "video", "image"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": "hello"},
        {"messages": ["hello"]},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        user({"type": "input_audio", "input_audio": {}}),
        user({"type": "image_url", "image_url": {}}),
        {**user({"type": "text", "text": "x"}), "tools": [{"type": "function"}]},
        {**user({"type": "text", "text": "x"}), "response_format": {"type": "json_object"}},
        {**user({"type": "text", "text": "x"}), "stream": "yes"},
    ],
)
def test_a_chat_that_cannot_be_done_is_refused(server: Server, body: Any) -> None:
    answer = server.post("/v1/chat/completions", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")


def test_chat_streams_word_by_word_with_usage_where_asked(server: Server) -> None:
    body = {
        **user({"type": "text", "text": "x"}),
        "stream": True,
        "stream_options": {"include_usage": True},
        "words": 3,
    }
    lines = [line for line in server.post("/v1/chat/completions", body).text.split("\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:-1]] == [
        "word0 ",
        "word1 ",
        "word2 ",
        None,
    ]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 6)
    plain = server.post("/v1/chat/completions", {**user({"type": "text", "text": "x"}), "stream": True}).text
    assert "usage" not in plain
    refused = server.post("/v1/chat/completions", {**body, "breaks": True})
    assert (refused.status_code, refused.json()["error"]["type"]) == (500, "internal_error")


def test_embeddings_come_as_numbers_or_base64(server: Server) -> None:
    numbers = server.post("/v1/embeddings", {"input": ["ab", "abc"]}).json()
    assert [row["embedding"] for row in numbers["data"]] == [[2.0, 0.5], [3.0, 0.5]]
    assert numbers["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    packed = server.post("/v1/embeddings", {"input": "ab", "encoding_format": "base64"}).json()
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (2.0, 0.5)
    for wrong in ({"input": []}, {"input": [1, 2]}, {"input": ""}, {"input": "x", "encoding_format": "hex"}):
        assert server.post("/v1/embeddings", wrong).status_code == 400


def test_two_hundred_at_once_get_each_their_own_answer_in_joined_runs(server: Server) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> tuple[Any, Any, int]:
        picture = PNG + bytes([number])
        results = (await client.post("/api/v1/inference", json={"id": number, "images": [b64(picture)]})).json()[
            "results"
        ]
        return results["echo"]["id"] - number, results["media"][0]["sum"] - sum(picture), results["together"]

    async def all_of_them() -> list[tuple[Any, Any, int]]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(200)))

    found = asyncio.run(all_of_them())
    assert {(identity, pixels) for identity, pixels, _ in found} == {(0, 0)}
    assert max(together for *_, together in found) > 1
    assert max(together for *_, together in found) <= 8


def test_one_that_breaks_a_joined_run_breaks_nobody_elses(server: Server) -> None:
    async def all_of_them() -> list[int]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            asks = (client.post("/api/v1/inference", json={"id": n, "breaks": n == 20}) for n in range(40))
            return [answer.status_code for answer in await asyncio.gather(*asks)]

    codes = asyncio.run(all_of_them())
    assert (codes[20], codes.count(200)) == (500, 39)


def test_a_full_queue_refuses_with_a_time_to_come_back(slow: Server) -> None:
    threads = [in_background(lambda: slow.infer(delay_s=0.4)) for _ in range(8)]
    answers = [(thread.join(), found[0])[1] for thread, found in threads]
    codes = [answer.status_code for answer in answers]
    assert codes.count(429) >= 8 - 3 - 3
    assert codes.count(200) >= 1
    assert set(codes) <= {200, 429, 504}
    full = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(full.headers["retry-after"]) <= 60
    assert full.json()["error"] == "2 requests wait already; try again soon."


def test_a_deadline_ends_a_request_and_the_run_is_told(slow: Server) -> None:
    answer = slow.infer(delay_s=30)
    assert answer.status_code == 504
    job = answer.json()["job_id"]
    assert answer.json()["error"] == f"Inference request timed out after 1 seconds for job {job}"
    until(lambda: slow.infer(prompt="x").json()["results"]["stops"] == 1)
    chat = slow.post("/v1/chat/completions", {**user({"type": "text", "text": "x"}), "delay_s": 30})
    assert (chat.status_code, chat.json()["error"]["type"]) == (504, "timeout_error")


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_leaves_is_not_worked_for_any_more(slow: Server, stream: bool) -> None:
    body = json.dumps({**user({"type": "text", "text": "x"}), "delay_s": 0.9, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    running, waiting = (socket.create_connection(("127.0.0.1", int(slow.url.rpartition(":")[2]))) for _ in range(2))
    for client in (running, waiting):
        client.sendall(head + body)
        time.sleep(0.1)
    waiting.close()
    time.sleep(0.1)  # the one that runs must not end before the server has heard of this
    running.close()
    found = slow.infer(prompt="x").json()["results"]
    assert (found["stops"], found["runs"]) == (1, 2)  # the one that waited was never begun


def test_a_body_that_never_ends_is_a_deadline_and_leaves_no_trace(slow: Server) -> None:
    with socket.create_connection(("127.0.0.1", int(slow.url.rpartition(":")[2]))) as client:
        client.sendall(b"POST /api/v1/inference HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        client.settimeout(10)
        assert b" 504 " in client.recv(4096)
    with contextlib.closing(socket.create_connection(("127.0.0.1", int(slow.url.rpartition(":")[2])))) as client:
        client.sendall(b"POST /api/v1/inference HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999999\r\n\r\n{")
        client.settimeout(10)
        assert b" 413 " in client.recv(4096)
    assert slow.infer(prompt="x").status_code == 200
    assert slow.stop() == 0


def test_a_large_picture_comes_through_whole(server: Server) -> None:
    data = PNG + bytes(range(256)) * 20_000
    found = server.infer(images=[uri(data)]).json()["results"]["media"]
    assert found[0]["sum"] == sum(data)
