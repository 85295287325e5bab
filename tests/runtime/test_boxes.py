"""What detectors' outputs mean: each head decoded by hand, and doubles removed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modelport.domain.vision import Boxes, Input, parse_vision
from modelport.runtime.boxes import Found, decode, in_order, overlap, probabilities, without_doubles
from modelport.runtime.fit import batch, fit

WIDTH, HEIGHT = 200, 100


def preset(name: str) -> Boxes:
    return parse_vision({"preset": name}).boxes


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def rows(found: Found) -> list[tuple[list[float], int, float]]:
    return [
        ([round(float(edge), 3) for edge in box], int(number), round(float(score), 3))
        for box, number, score in zip(found.edges, found.classes, found.scores, strict=True)
    ]


def test_yolov8_gives_centre_and_size_and_probabilities_by_columns() -> None:
    table = np.array([[50, 40, 20, 10, 0.1, 0.9, 0.2], [10, 10, 4, 4, 0.3, 0.1, 0.1], [80, 80, 8, 8, 0.6, 0.1, 0]]).T
    found = decode([table.astype(np.float32)], preset("yolov8"), WIDTH, HEIGHT, 0.25)
    assert rows(found) == [([40, 35, 60, 45], 1, 0.9), ([76, 76, 84, 84], 0, 0.6), ([8, 8, 12, 12], 0, 0.3)]


def test_yolov5_multiplies_by_objectness() -> None:
    table = np.array([[50, 40, 20, 10, 0.5, 0.2, 0.8], [10, 10, 4, 4, 0.1, 0.9, 0.9]], np.float32)
    assert rows(decode([table], preset("yolov5"), WIDTH, HEIGHT, 0.25)) == [([40, 35, 60, 45], 1, 0.4)]


def test_detr_knows_that_there_is_nothing() -> None:
    logits = np.log(np.array([[0.9, 0.05, 0.05], [0.05, 0.05, 0.9]], np.float32))
    boxes = np.array([[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]], np.float32)
    assert rows(decode([logits, boxes], preset("detr"), WIDTH, HEIGHT, 0.5)) == [([80, 30, 120, 70], 0, 0.9)]


def test_taos_dino_may_see_two_classes_in_one_candidate() -> None:
    logits = np.array([[logit(0.01), logit(0.8), logit(0.6)]], np.float32)
    boxes = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    found = decode([logits, boxes], preset("tao-detection"), WIDTH, HEIGHT, 0.5)
    assert rows(found) == [([80, 30, 120, 70], 1, 0.8), ([80, 30, 120, 70], 2, 0.6)]


def test_detectnets_edges_are_distances_from_the_cell_in_units_of_35_pixels() -> None:
    coverage, edges = np.zeros((2, 3, 4), np.float32), np.zeros((8, 3, 4), np.float32)
    coverage[1, 2, 3] = 0.7  # class 1, third row, fourth column: its centre is (48.5, 32.5)
    edges[4:, 2, 3] = (10 / 35, 20 / 35, 30 / 35, 5 / 35)
    found = decode([coverage, edges], preset("tao-detectnet"), 64, 48, 0.4)
    assert rows(found) == [([38.5, 12.5, 78.5, 37.5], 1, 0.7)]


@pytest.mark.parametrize(
    ("form", "box"), [("xyxy", (10, 20, 40, 80)), ("xywh", (10, 20, 30, 60)), ("cxcywh", (25, 50, 30, 60))]
)
@pytest.mark.parametrize("normalized", [False, True])
def test_every_form_of_a_box_is_the_same_box(form: str, box: tuple[float, ...], normalized: bool) -> None:
    boxes = Boxes.model_validate({"head": "two", "format": form, "normalized": normalized})
    edges = np.array([box], np.float64) / ([WIDTH, HEIGHT] * 2 if normalized else 1)
    found = decode([np.array([[0.9]]), edges.astype(np.float32)], boxes, WIDTH, HEIGHT, 0.5)
    assert rows(found) == [([10, 20, 40, 80], 0, 0.9)]


def test_what_is_not_a_number_or_has_no_area_is_left_out() -> None:
    edges = np.array([[0, 0, 9, 9], [0, 0, np.nan, 9], [5, 5, 5, 9], [9, 9, 1, 1], [0, 0, np.inf, 1]], np.float32)
    scores = np.array([[np.nan, 0.5], [0.9, 0], [0.9, 0], [0.9, 0], [0.9, 0]], np.float32)
    assert rows(decode([scores, edges], Boxes(), WIDTH, HEIGHT, 0.1)) == [([0, 0, 9, 9], 1, 0.5)]


def test_outputs_are_told_apart_by_name_or_by_shape() -> None:
    two = preset("detr")
    assert in_order(["pred_boxes", "pred_logits"], [(100, 4), (100, 92)], two) == [1, 0]
    assert in_order(["boxes", "logits"], [(100, 4), (100, 4)], two) == [1, 0]
    assert in_order(["aux", "out0"], [(3, 4, 5), (84, 8400)], preset("yolov8")) == [1]
    grid = preset("tao-detectnet")
    assert in_order(["output_bbox/BiasAdd:0", "output_cov/Sigmoid:0"], [(12, 34, 60), (3, 34, 60)], grid) == [1, 0]
    named = two.model_copy(update={"outputs": ("b", "a")})
    assert in_order(["a", "b", "c"], [(9, 4), (9, 7), (9, 7)], named) == [1, 0]
    with pytest.raises(ValueError, match="its outputs do not have the shapes that boxes.head means"):
        in_order(["logits"], [(10,)], two)
    with pytest.raises(ValueError, match="boxes.outputs must be 2 of the model's outputs, which are: a"):
        in_order(["a"], [(9, 4)], two.model_copy(update={"outputs": ("a", "x")}))


def test_probabilities_are_the_logits() -> None:
    raw = np.array([[1.0, 2.0, 3.0], [-1000.0, 0.0, 1000.0]])
    assert np.allclose(probabilities(raw, "softmax").sum(1), 1)
    assert probabilities(raw, "sigmoid")[1].tolist() == pytest.approx([0, 0.5, 1])
    assert probabilities(raw, "none").tolist() == raw.tolist()


boxes_of = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40), st.integers(1, 40))


@given(st.lists(st.tuples(boxes_of, st.integers(0, 2), st.integers(1, 100)), max_size=40), st.sampled_from([0.0, 0.3, 0.7, 1.0]),
       st.integers(1, 20))  # fmt: skip
def test_no_two_boxes_of_a_class_overlap_and_none_is_lost_without_a_better_one(
    made: list[tuple[tuple[int, int, int, int], int, int]], most_iou: float, most: int
) -> None:
    made = sorted(made, key=lambda one: -one[2])
    edges = np.array([[x, y, x + w, y + h] for (x, y, w, h), _, _ in made], np.float64).reshape(-1, 4)
    found = Found(edges, np.array([c for _, c, _ in made], int), np.array([s / 100 for *_, s in made]))
    kept = without_doubles(found, most_iou, most)
    assert len(kept) <= most and list(kept.scores) == sorted(kept.scores, reverse=True)
    for row in range(len(kept)):
        others = kept.only((np.arange(len(kept)) != row) & (kept.classes == kept.classes[row]))
        assert (overlap(kept.edges[row], others.edges) <= most_iou).all()
    if len(kept) < most:
        for edge, number, score in zip(found.edges, found.classes, found.scores, strict=True):
            same = kept.only((kept.classes == number) & (kept.scores >= score))
            equal = (same.edges == edge).all(1) & (same.scores == score)
            assert equal.any() or (overlap(edge, same.edges) > most_iou).any()


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.sampled_from(["stretch", "shortest_crop", "letterbox"]),
    st.sampled_from([1.0, 0.875]),
    st.sampled_from(["both", "end"]),
)
def test_a_point_of_the_input_finds_its_way_back(
    own: tuple[int, int], size: tuple[int, int], resize: str, crop: float, pad_at: str
) -> None:
    wanted = Input.model_validate(
        {"width": size[0], "height": size[1], "resize": resize, "crop": crop, "pad_at": pad_at}
    )
    fitted = fit(Image.new("RGB", own), wanted)
    assert fitted.pixels.shape == (size[1], size[0], 3)
    place = fitted.place
    box = np.array([[own[0] * 0.25, own[1] * 0.25, own[0] * 0.75, own[1] * 0.75]])
    there = box * ([place.scale_x, place.scale_y] * 2) + [place.left, place.top] * 2
    assert np.allclose(place.back(there), box)
    assert (place.back(np.array([[-9e9, -9e9, 9e9, 9e9]])) == [[0, 0, *own]]).all()


def test_the_input_has_the_sidecars_colours_layout_and_numbers() -> None:
    image = Image.new("RGB", (4, 2), (255, 51, 0))
    caffe = parse_vision({"preset": "tao-classification-caffe"}).input
    caffe = caffe.model_copy(update={"width": 4, "height": 2, "resize": "stretch"})
    values = batch([fit(image, caffe)], caffe.model_copy(update={"layout": "NCHW"}))
    assert values.shape == (1, 3, 2, 4) and values.dtype == np.float32
    assert values[0, :, 0, 0].tolist() == pytest.approx([0 - 103.939, 51 - 116.779, 255 - 123.68], abs=1e-4)
    torch = parse_vision({"preset": "torchvision"}).input.model_copy(update={"width": 4, "height": 2, "layout": "NHWC"})
    values = batch([fit(image, torch)], torch)
    assert values.shape == (1, 2, 4, 3)
    wanted = [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225]
    assert values[0, 0, 0].tolist() == pytest.approx(wanted, abs=1e-5)


def test_letterbox_keeps_the_shape_and_fills_with_grey() -> None:
    yolo = parse_vision({"preset": "yolov8", "input": {"width": 8, "height": 8}}).input
    pixels = fit(Image.new("RGB", (16, 8), "red"), yolo).pixels
    assert pixels[:2].tolist() == [[[114] * 3] * 8] * 2 and pixels[6:].tolist() == [[[114] * 3] * 8] * 2
    assert pixels[2:6].tolist() == [[[255, 0, 0]] * 8] * 4


def test_shortest_crop_takes_the_middle_as_torchvision_does() -> None:
    """A ramp of 512 × 256 becomes the middle 224 of its middle 256 columns, at full size."""
    ramp = np.tile(np.arange(512, dtype=np.uint16) // 2, (256, 1)).astype(np.uint8)
    wanted = parse_vision({"preset": "torchvision"}).input.model_copy(update={"width": 224, "height": 224})
    pixels = fit(Image.fromarray(ramp).convert("RGB"), wanted).pixels
    assert pixels[0, :, 0].tolist() == ramp[0, 144:368].tolist()


def test_a_thread_of_a_picture_needs_no_memory_of_a_wall() -> None:
    wanted = parse_vision({"preset": "torchvision"}).input.model_copy(update={"width": 224, "height": 224})
    fitted = fit(Image.new("RGB", (1, 60_000), "blue"), wanted)
    assert fitted.pixels.shape == (224, 224, 3) and (fitted.pixels == [0, 0, 255]).all()


def test_without_antialias_pixels_are_sampled_as_opencv_does() -> None:
    """Half the size: each new pixel is the mean of the two by two in its middle, of four by four at a quarter."""
    random = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    wanted = Input(width=4, height=4, antialias=False)
    pixels = fit(Image.fromarray(random), wanted).pixels.astype(float)
    middle = random.reshape(4, 4, 4, 4, 3)[:, 1:3, :, 1:3].astype(float).mean((1, 3))
    assert np.abs(pixels - middle).max() <= 1
