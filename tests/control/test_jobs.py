"""Jobs: over for good when they idle or are stopped; batches: done by themselves, and gone on with after a crash."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.domain.progress import Stage
from modelport.domain.service import ENDED_IDLE
from modelport.domain.spec import Batch, Spec
from modelport.errors import ModelportError
from tests.harness import ROOT, Serving, modelport, short_directory, until

DIGITS = ROOT / "examples" / "models" / "digits"


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    for directory in short_directory():
        with Serving(directory) as running:
            yield running


def job(name: str, **fields: object) -> Spec:
    return Spec.model_validate({"model": str(DIGITS), "name": name, "job": True, **fields})


def folder(path: Path, count: int) -> Path:
    path.mkdir()
    for number, picture in enumerate(np.load(ROOT / "tests/data/vision/digits.npz")["pictures"][:count]):
        Image.fromarray(picture).save(path / f"{number:04}.png")
    return path


def test_a_job_that_nobody_uses_ends_for_good(serving: Serving) -> None:
    made = serving.client.start(job("idle", idle_timeout=0.5, port="8080-8199"))
    assert made.port in range(8080, 8200)
    ended = serving.reach("idle", "stopped", 60)
    assert ended.reason == ENDED_IDLE
    assert ended.port is None, "others may have it now"
    for again in (lambda: serving.client.start(job("idle")), lambda: serving.client.restart("idle"),
                  lambda: serving.client.apply([job("idle")])):  # fmt: skip
        with pytest.raises(ModelportError, match="over, and its id cannot be used again"):
            again()
    serving.client.remove("idle")


def test_a_job_that_is_stopped_keeps_its_id_and_never_runs_again(serving: Serving) -> None:
    made = serving.client.start(job("stopped"))
    serving.ready("stopped", 60)
    serving.client.stop("stopped")
    assert serving.reach("stopped", "stopped", 30).id == made.id
    with pytest.raises(ModelportError, match="over"):
        serving.client.start(job("stopped"))


def test_a_model_that_cannot_be_loaded_says_so_in_its_status(serving: Serving, tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "broken")
    (tmp_path / "broken" / "model.onnx").write_bytes((DIGITS / "model.onnx").read_bytes()[:-5000])
    serving.client.start(job("broken", model=str(tmp_path / "broken")))
    failed = serving.reach("broken", "failed", 60)
    assert failed.reason.startswith("Model failed to load: ")
    assert failed.instances[-1].progress and failed.instances[-1].progress.stage is Stage.ERROR
    shown = modelport("status", "broken", state_dir=serving.state_dir)
    assert failed.reason in " ".join(shown.stdout.split())
    assert str(tmp_path) not in failed.reason


def test_a_batch_is_over_when_it_is_done(serving: Serving, tmp_path: Path) -> None:
    batch = Batch(input=str(folder(tmp_path / "in", 12)), results=str(tmp_path / "out"), request={"top_k": 1})
    serving.client.start(job("batch", batch=batch))
    over = serving.reach("batch", "stopped", 60)
    assert over.reason == "" and over.instances[-1].exit == "exit code 0"
    assert len(list((tmp_path / "out").glob("*.png.json"))) == 12


def test_a_batch_whose_engine_is_killed_goes_on_where_it_was(serving: Serving, tmp_path: Path) -> None:
    batch = Batch(input=str(folder(tmp_path / "in", 400)), results=str(tmp_path / "out"))
    made = serving.client.start(job("killed", batch=batch, options={"threads": 1}))
    out = tmp_path / "out"
    until(lambda: len(list(out.glob("*.png.json"))) > 20, 60, "some are answered")
    instance = serving.client.status(made.id).instances[-1]
    assert instance.pid
    os.kill(instance.pid, signal.SIGKILL)
    first = {path: path.stat().st_mtime_ns for path in out.glob("*.png.json")}
    serving.reach("killed", "stopped", 90)
    assert len(list(out.glob("*.png.json"))) == 400
    assert all(path.stat().st_mtime_ns == at for path, at in first.items()), "none was done twice"


def test_a_batch_of_which_nothing_could_be_answered_failed(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture at all")
    serving.client.start(job("nothing", batch=Batch(input=str(tmp_path / "in"), results=str(tmp_path / "out"))))
    assert "none of the batch's files" in serving.reach("nothing", "failed", 60).reason
