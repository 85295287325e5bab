"""vision.json: presets, overrides, and a sentence for whatever is wrong."""

import pytest

from modelport.domain.presets import PRESETS
from modelport.domain.vision import OPTIONS, onnx_name, parse_vision
from modelport.errors import ModelportError


def refusal(data: object, **options: object) -> str:
    with pytest.raises(ModelportError) as caught:
        parse_vision(data, options=options)
    return caught.value.message


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_whole_description(preset: str) -> None:
    vision = parse_vision({"preset": preset})
    assert vision.preset == preset and vision.task == PRESETS[preset]["task"]


def test_a_preset_gives_way_to_the_file_and_the_file_to_options() -> None:
    said = {"preset": "yolov8", "score": 0.5, "input": {"width": 320}, "boxes": {"several": True}}
    vision = parse_vision(said, options={"score": 0.6, "input.height": 160, "input.mean": "0.1, 0.2,0.3"})
    assert (vision.score, vision.nms_iou) == (0.6, 0.45)
    assert (vision.input.width, vision.input.height, vision.input.resize) == (320, 160, "letterbox")
    assert vision.input.mean == (0.1, 0.2, 0.3)
    assert vision.boxes.several and vision.boxes.channels_first


def test_labels_are_a_list_a_file_or_what_tao_writes() -> None:
    assert parse_vision({"task": "classify", "labels": ["a", "b"]}).labels == ("a", "b")
    assert parse_vision({"task": "classify", "labels": "a; b"}).labels == ("a", "b")
    assert parse_vision({"task": "classify", "labels": "labels.txt"}).labels == "labels.txt"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([], "vision.json must be a mapping of keys to values, not list."),
        ({}, "vision.json lacks the key 'task'."),
        ({"task": "segment"}, "vision.json: task is 'segment', but input should be 'classify' or 'detect'."),
        ({"task": "detect", "scores_": 1}, "vision.json has the unknown key 'scores_'. Did you mean 'scores'?"),
        (
            {"task": "detect", "input": {"widht": 1}},
            "vision.json has the unknown key 'input.widht'. Did you mean 'width'?",
        ),
        (
            {"task": "detect", "boxes": {"normalised": True}},
            "vision.json has the unknown key 'boxes.normalised'. Did you mean 'normalized'?",
        ),
        (
            {"preset": "yolo8"},
            f"vision.json has the unknown preset 'yolo8'; there are {', '.join(PRESETS)}. Did you mean 'yolov8'?",
        ),
        (
            {"task": "classify", "input": {"mean": [1, 2]}},
            "vision.json: input: mean has 2 numbers, where RGB has 3 channels.",
        ),
        (
            {"task": "classify", "input": {"std": [1, 0, 1]}},
            "vision.json: input: std holds a 0, by which nothing can be divided.",
        ),
        ({"task": "detect", "score": 2}, "vision.json: score is 2, but input should be less than or equal to 1."),
        (
            {"task": "classify", "input": {"dtype": "uint8"}},
            "vision.json: input: a uint8 input takes pixels as they are: scale 1, mean 0, std 1.",
        ),
    ],
)
def test_what_is_wrong_is_a_sentence(data: object, sentence: str) -> None:
    assert refusal(data) == sentence


def test_numbers_that_are_none_are_refused() -> None:
    assert "input.scale" in refusal({"task": "classify", "input": {"scale": float("nan")}})
    assert "input.mean" in refusal({"task": "classify"}, **{"input.mean": "a,b,c"})


def test_the_options_are_all_keys_but_the_task() -> None:
    assert {"preset", "labels", "top_k", "input.width", "boxes.head"} <= set(OPTIONS) and "task" not in OPTIONS


def test_a_directory_has_one_model_or_one_that_is_called_so() -> None:
    assert onnx_name(["a.txt", "net.onnx"]) == "net.onnx"
    assert onnx_name(["model.onnx", "model_int8.onnx"]) == "model.onnx"
    for names, sentence in (
        ([], "The model's directory holds no .onnx file."),
        (["b.onnx", "a.onnx"], "The model's directory holds 2 .onnx files; name one: a.onnx, b.onnx."),
    ):
        with pytest.raises(ModelportError) as caught:
            onnx_name(names)
        assert caught.value.message == sentence
