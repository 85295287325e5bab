"""Batch: a folder in, a folder out; killed and resumed, nothing done twice, nothing lost."""

import json
import os
from pathlib import Path
from typing import Any

from tests.harness import until
from tests.runtime.server import Server, toy
from tests.runtime.test_requests import MP4, PNG, uri


def batch(source: Path, results: Path, **request: Any) -> str:
    return json.dumps({"input": str(source), "results": str(results), "request": request})


def pictures(directory: Path, count: int) -> Path:
    for number in range(count):
        place = directory / f"part{number % 3}" / f"{number:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(PNG + number.to_bytes(2, "big"))
    return directory


def test_each_file_becomes_an_answer_of_its_own_and_the_process_ends(tmp_path: Path) -> None:
    source, results = pictures(tmp_path / "in", 20), tmp_path / "out"
    (source / "clip.mp4").write_bytes(MP4)
    (source / "notes.txt").write_text("no medium")
    (tmp_path / "outside.png").write_bytes(PNG)
    (source / "link.png").symlink_to(tmp_path / "outside.png")
    with Server("--model", toy(tmp_path / "m", most=4), "--batch", batch(source, results, threshold=0.5)) as server:
        assert server.wait() == 0, server.log
    found = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}
    assert found == {f"part{n % 3}/{n:03d}.png.json" for n in range(20)} | {
        "clip.mp4.json", "summary.json", "question.json"}  # fmt: skip
    assert json.loads((results / "question.json").read_text())["request"] == {"threshold": 0.5}
    for number in range(20):
        answer = json.loads((results / f"part{number % 3}" / f"{number:03d}.png.json").read_text())
        assert answer["status"] == "completed"
        assert answer["results"]["echo"] == {"threshold": 0.5}
        assert answer["results"]["media"][0]["sum"] == sum(PNG) + number
    summary = json.loads((results / "summary.json").read_text())
    assert (summary["total"], summary["done"], summary["failed"], summary["skipped"]) == (21, 21, 0, 0)


def test_a_batch_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    source, results = pictures(tmp_path / "in", 40), tmp_path / "out"
    model = toy(tmp_path / "m", run_s=0.02)
    with Server("--model", model, "--batch", batch(source, results)) as server:
        until(lambda: len(list(results.rglob("*.png.json"))) >= 10)
        status = server.get("/api/v1/status").json()["progress"]
        assert status["message"].endswith("of 40")
        assert 0 < status["details"]["share"] < 1
        assert server.infer(prompt="beside it").status_code == 200
        server.process.kill()
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.png.json")}
    assert 10 <= len(before) < 40
    with Server("--model", model, "--batch", batch(source, results)) as server:
        assert server.wait() == 0
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert len(list(results.rglob("*.png.json"))) == 40
    assert all(json.loads(path.read_text())["status"] == "completed" for path in results.rglob("*.png.json"))
    assert not [path for path in results.rglob(".*") if path.stat().st_mtime_ns > max(before.values())]
    assert json.loads((results / "summary.json").read_text())["skipped"] == len(before)


def test_what_failed_says_why_and_is_tried_again(tmp_path: Path) -> None:
    source, results = pictures(tmp_path / "in", 3), tmp_path / "out"
    model = toy(tmp_path / "m")
    with Server("--model", model, "--batch", batch(source, results, refused=True)) as server:
        assert server.wait() == 1
    errors = sorted(results.rglob("*.error.json"))
    assert len(errors) == 3
    assert json.loads(errors[0].read_text())["error"] == "'refused' must not be true."
    summary = json.loads((results / "summary.json").read_text())
    assert summary["failures"][0] == {"input": "part0/000.png", "error": "'refused' must not be true."}
    with Server("--model", model, "--batch", batch(source, results)) as server:
        assert server.wait() == 0
    assert not list(results.rglob("*.error.json"))
    assert len(list(results.rglob("*.png.json"))) == 3


def test_text_models_are_asked_with_texts_and_lines(tmp_path: Path) -> None:
    source, results = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.txt").write_text("Grüß dich")
    (source / "b.jsonl").write_text('{"prompt": "one", "top_k": 3}\n\n"two"\n7\n')
    model = toy(tmp_path / "m", model_type="llm")
    with Server("--model", model, "--batch", batch(source, results, top_k=1)) as server:
        assert server.wait() == 0
    echoes = {path.name: json.loads(path.read_text())["results"]["echo"] for path in results.glob("[ab]*[!r].json")}
    assert echoes == {
        "a.txt.json": {"prompt": "Grüß dich", "top_k": 1},
        "b.jsonl.000001.json": {"prompt": "one", "top_k": 3},
        "b.jsonl.000003.json": {"prompt": "two", "top_k": 1},
    }
    assert "neither a JSON object" in (results / "b.jsonl.000004.error.json").read_text()


def test_annotated_pictures_lie_beside_their_answers_and_are_no_inputs(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", 2)
    model = toy(tmp_path / "m", annotated=uri(PNG + b"drawn"))
    for _ in range(2):
        with Server("--model", model, "--batch", batch(source, source / "results")) as server:
            assert server.wait() == 0
    drawn = source / "results" / "part0" / "000.png.annotated.png"
    assert drawn.read_bytes() == PNG + b"drawn"
    answer = json.loads((source / "results" / "part0" / "000.png.json").read_text())
    assert answer["results"]["annotated"] == "000.png.annotated.png"
    assert json.loads((source / "results" / "summary.json").read_text())["total"] == 2


def test_a_folder_that_is_not_there_ends_with_a_sentence(tmp_path: Path) -> None:
    with Server("--model", toy(tmp_path / "m"), "--batch", batch(tmp_path / "none", tmp_path / "out")) as server:
        assert server.wait() == 1
        assert "batch failed: There is no folder to read" in server.log


def test_answers_to_another_question_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    source, results, model = pictures(tmp_path / "in", 3), tmp_path / "out", toy(tmp_path / "m")
    with Server("--model", model, "--batch", batch(source, results, top_k=1)) as server:
        assert server.wait() == 0
    with Server("--model", model, "--batch", batch(source, results, top_k=3)) as server:
        assert server.wait() == 1 and "another question" in server.log
    with Server("--model", model, "--batch", batch(source, results, top_k=1)) as server:
        assert server.wait() == 0, "the same question goes on"


def test_a_folder_with_nothing_to_ask_about_is_said_and_a_pipe_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.pdf").write_text("x")
    with Server("--model", toy(tmp_path / "m"), "--batch", batch(tmp_path / "in", tmp_path / "out")) as server:
        assert server.wait() == 1 and "no file to ask about" in server.log
