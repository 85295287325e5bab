"""Detectors: boxes as a bare onnxruntime call gives them, in the picture's own pixels, and what a request may say."""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from modelport.domain.presets import PRESETS
from modelport.errors import ModelportError
from modelport.runtime.detection import Detection
from modelport.runtime.handler import Call, LoadFailed, Result
from tests.harness import ROOT
from tests.runtime.graphs import constant_graph
from tests.runtime.photos import call, encoded, told
from tests.runtime.precision import iou, mean_average_precision

SCENES = ROOT / "examples" / "models" / "scenes"
HELD_OUT = np.load(ROOT / "tests" / "data" / "vision" / "scenes.npz")
FILES = [part.tobytes() for part in np.split(HELD_OUT["files"], HELD_OUT["ends"][:-1])]
TRUTH = [HELD_OUT["boxes"][HELD_OUT["boxes"][:, 0] == number, 1:] for number in range(len(FILES))]


@pytest.fixture(scope="module")
def scenes() -> Detection:
    return loaded(SCENES)


def loaded(path: Path, **options: str | int | float | bool) -> Detection:
    handler = Detection(path, "detect", options)
    handler.load(told)
    return handler


def answer(handler: Detection, asked: Call) -> dict[str, Any]:
    (found,) = handler.run([handler.check(asked)])
    assert isinstance(found, Result), found
    return dict(found.results)


def rows(prediction: dict[str, Any]) -> np.ndarray:
    """N×6: edges, class, score."""
    return np.array(
        [
            [*box, number, score]
            for box, number, score in zip(
                prediction["boxes"], prediction["label_ids"], prediction["scores"], strict=True
            )
        ]
    ).reshape(-1, 6)


def bare(files: list[bytes], least: float) -> list[np.ndarray]:
    """The same model without anything of ours: onnxruntime, Pillow, and doubles removed one by one."""
    session = ort.InferenceSession(str(SCENES / "model.onnx"), providers=["CPUExecutionProvider"])
    pixels = np.stack([np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in files])
    outputs = np.asarray(session.run(None, {"images": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255})[0])
    all_kept: list[np.ndarray] = []
    for table in outputs:
        best = table[4:].argmax(0)
        made = [
            (x - w / 2, y - h / 2, x + w / 2, y + h / 2, number, table[4 + number, at])
            for at, ((x, y, w, h), number) in enumerate(zip(table[:4].T, best, strict=True))
            if table[4 + number, at] >= least
        ]
        kept: list[np.ndarray] = []
        for one in sorted(np.array(made).reshape(-1, 6), key=lambda each: -each[5]):
            if not any(k[4] == one[4] and iou(one, k[None])[0] > 0.5 for k in kept):
                kept.append(one)
        all_kept.append(np.array(kept).reshape(-1, 6))
    return all_kept


def test_precision_on_held_out_scenes_is_that_of_a_bare_call(scenes: Detection) -> None:
    """A batch of 64 in one request."""
    results = answer(scenes, call(FILES, confidence_threshold=0.05, nms_threshold=0.5))
    assert results["total_images"] == 64
    found = [rows(prediction) for prediction in results["predictions"]]
    plain = [np.concatenate([np.clip(boxes[:, :4], 0, 128), boxes[:, 4:]], 1) for boxes in bare(FILES, 0.05)]
    for ours, theirs in zip(found, plain, strict=True):
        assert ours.shape == theirs.shape
        assert np.allclose(ours, theirs, atol=0.02)
    mean = mean_average_precision(found, TRUTH, 10, 0.5)
    assert mean == pytest.approx(mean_average_precision(plain, TRUTH, 10, 0.5), abs=1e-6)
    assert mean >= 0.97


def test_one_picture_has_its_fields_at_the_top_too(scenes: Detection) -> None:
    results = answer(scenes, call(FILES[:1]))
    (prediction,) = results["predictions"]
    assert {key: results[key] for key in prediction} == prediction
    assert (results["width"], results["height"], results["image"]) == (128, 128, "images[0]")
    assert results["labels"] == [str(number) for number in results["label_ids"]]
    assert results["confidence"] == max(results["scores"])
    assert results["response"].startswith(f"{len(results['labels'])} found: {results['labels'][0]} (")


def test_boxes_are_in_the_pixels_of_the_picture_that_was_sent(scenes: Detection) -> None:
    """A scene three times as large with a border of grey, on its side by EXIF: letterboxed and found at its place."""
    scene = Image.open(BytesIO(FILES[1])).resize((384, 384), Image.Resampling.BICUBIC)
    wide = Image.new("RGB", (640, 384), (114, 114, 114))
    wide.paste(scene, (200, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = wide.transpose(Image.Transpose.ROTATE_90)
    results = answer(scenes, call([encoded(stored, "JPEG", quality=95, exif=exif)]))
    assert (results["width"], results["height"]) == (640, 384)
    truth = TRUTH[1].copy()
    truth[:, :4] = truth[:, :4] * 3 + [200, 0, 200, 0]
    found = rows(results)
    for one in truth[(truth[:, 2] - truth[:, 0]) > 75]:  # at a third of this size smaller ones are below what it learnt
        same = found[found[:, 4] == one[4]]
        assert len(same) and iou(one, same).max() > 0.5, (one, found)


def test_the_threshold_the_most_and_the_classes_are_the_requests(scenes: Detection) -> None:
    many = rows(answer(scenes, call(FILES[:1], confidence_threshold=0)))
    few = rows(answer(scenes, call(FILES[:1], confidence_threshold="0.5")))
    assert len(many) > len(few) > 0 and few[:, 5].min() >= 0.5
    assert len(rows(answer(scenes, call(FILES[:1], confidence_threshold=0, max_detections=2)))) == 2
    first = few[0, 4]
    for classes in ([str(int(first))], int(first), f"{int(first)}"):
        only = rows(answer(scenes, call(FILES[:1], classes=classes)))
        assert len(only) and set(only[:, 4]) == {first}
    nothing = answer(scenes, call(FILES[:1], confidence_threshold=1))
    assert (nothing["boxes"], nothing["response"], nothing["confidence"]) == ([], "Nothing found", 0.0)


def test_doubles_stay_where_the_request_wants_them(scenes: Detection) -> None:
    apart = answer(scenes, call(FILES[:1], iou_threshold=0.3))
    together = answer(scenes, call(FILES[:1], iou_threshold=1.0))
    assert len(together["boxes"]) > len(apart["boxes"])
    assert answer(scenes, call(FILES[:1], iou_threshold=0.3, nms_threshold=1))["boxes"] == together["boxes"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"confidence_threshold": 1.1}, "confidence_threshold is 1.1, where a number from 0 to 1 is wanted."),
        ({"nms_threshold": -1}, "nms_threshold is -1, where a number from 0 to 1 is wanted."),
        ({"max_detections": 0}, "max_detections is 0, where a whole number from 1 to 3000 is wanted."),
        ({"annotate": "maybe"}, "annotate is 'maybe', where true or false is wanted."),
        ({"classes": ["seven"]}, "classes names 'seven', which this model does not know."),
        ({"classes": [10]}, "classes names '10', which this model does not know. Did you mean '1'?"),
        ({"classes": {"a": 1}}, "classes names \"{'a': 1}\", which this model does not know."),
    ],
)
def test_settings_out_of_range_are_sentences(scenes: Detection, body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelportError) as caught:
        scenes.check(call(FILES[:1], **body))
    assert caught.value.message == sentence


def test_the_annotated_picture_is_the_picture_with_its_boxes(scenes: Detection) -> None:
    results = answer(scenes, call(FILES[:2], annotate=True))
    for file, prediction in zip(FILES, results["predictions"], strict=False):
        head, _, content = prediction["annotated"].partition(",")
        assert head == "data:image/jpeg;base64"
        drawn = Image.open(BytesIO(base64.b64decode(content)))
        assert drawn.size == (128, 128)
        changed = np.abs(np.asarray(drawn).astype(int) - np.asarray(Image.open(BytesIO(file))).astype(int)).sum(2)
        left, _, right, bottom = (round(edge) for edge in prediction["boxes"][0])
        assert changed[min(127, bottom - 1), left:right].mean() > 60, "the lower edge of the best box is drawn"
    assert "annotated" not in answer(scenes, call(FILES[:1]))


def test_a_large_annotated_picture_is_made_smaller(scenes: Detection) -> None:
    large = encoded(Image.open(BytesIO(FILES[0])).resize((3000, 1500)), "JPEG")
    results = answer(scenes, call([large], annotate="true"))
    drawn = Image.open(BytesIO(base64.b64decode(results["annotated"].partition(",")[2])))
    assert drawn.size == (2048, 1024) and results["width"] == 3000


def head(preset: str) -> dict[str, np.ndarray]:
    """Outputs by which each preset says: class 1 with 0.9 at (2, 2, 6, 4) of an input of 8×8. By hand."""
    table = np.zeros((5, 6), np.float32)
    table[2] = (4, 3, 4, 2, 0.05, 0.9)
    logits = np.full((5, 3), -9.0, np.float32)
    logits[2] = (-9, np.log(9), -9)
    shares = np.tile(np.array([0.5, 0.375, 0.5, 0.25], np.float32), (5, 1))
    nothing = np.tile(np.array([-9, -9, 9], np.float32), (5, 1))
    nothing[2] = np.log([0.05, 0.9, 0.05])
    if preset == "yolov8":
        return {"output0": table.T}
    if preset == "yolov10":
        return {"output0": np.array([[2, 2, 6, 4, 0.9, 1], [0, 0, 8, 8, 0.1, 0]])}
    if preset == "yolov5":
        return {"output": np.insert(table, 4, [0, 0, 1, 0, 0], 1)}
    if preset == "detr":
        return {"logits": nothing, "pred_boxes": shares}
    if preset == "tao-detection":
        return {"pred_logits": logits, "pred_boxes": shares}
    coverage, edges = np.zeros((2, 1, 1), np.float32), np.zeros((8, 1, 1), np.float32)
    coverage[1] = 0.9
    edges[4:, 0, 0] = (-1.5 / 35, -1.5 / 35, 5.5 / 35, 3.5 / 35)
    return {"output_bbox/BiasAdd:0": edges, "output_cov/Sigmoid:0": coverage}


@pytest.mark.parametrize("preset", [name for name, row in PRESETS.items() if row["task"] == "detect"])
def test_every_preset_finds_the_one_box_that_its_graph_says(tmp_path: Path, preset: str) -> None:
    """Through onnxruntime, by a graph of its output's shape, on a picture twice as wide and three times as tall."""
    constant_graph(tmp_path / "model.onnx", head(preset))
    (tmp_path / "labels.txt").write_text("b\nc\n" if preset == "tao-detection" else "a\nb\n")
    handler = loaded(tmp_path, preset=preset, labels="labels.txt")
    results = answer(handler, call([encoded(Image.new("RGB", (16, 24)))]))
    # YOLO's letterbox makes 5×8 of 16×24, with a column of grey at the left.
    wanted = [3.2, 6, 16, 12] if preset.startswith("yolo") else [4, 6, 12, 12]
    assert results["labels"] == ["b"] and results["label_ids"] == [1]
    assert results["scores"] == pytest.approx([0.9], abs=1e-3)
    assert results["boxes"][0] == pytest.approx(wanted, abs=0.01)


def test_a_head_of_another_shape_does_not_load(tmp_path: Path) -> None:
    constant_graph(tmp_path / "model.onnx", {"logits": np.zeros(10)})
    (tmp_path / "vision.json").write_text(json.dumps({"preset": "detr"}))
    with pytest.raises(LoadFailed) as caught:
        loaded(tmp_path)
    assert caught.value.message == (
        "The model does not fit its vision.json: its outputs do not have the shapes that boxes.head means."
    )
    constant_graph(tmp_path / "model.onnx", {"output0": np.zeros((4 + 3, 20))})
    with pytest.raises(LoadFailed) as caught:
        loaded(tmp_path, preset="yolov8", labels="a;b;c;d")
    assert caught.value.message == (
        "The model tells 3 classes apart, but there are 4 labels, of which the last is for class 3; correct the labels."
    )
