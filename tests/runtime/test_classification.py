"""Classifiers: the same answers as a bare onnxruntime call, what a request may say, and why a model does not load."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from modelport.errors import ModelportError
from modelport.runtime.classification import Classification
from modelport.runtime.handler import Call, LoadFailed, Medium, Result
from tests.harness import ROOT
from tests.runtime.graphs import constant_graph, pixel_graph
from tests.runtime.photos import bomb, call, encoded, told

DIGITS = ROOT / "examples" / "models" / "digits"
HELD_OUT = np.load(ROOT / "tests" / "data" / "vision" / "digits.npz")


@pytest.fixture(scope="module")
def digits() -> Classification:
    return loaded(DIGITS)


def loaded(path: Path, **options: str | int | float | bool) -> Classification:
    handler = Classification(path, "classify", options)
    handler.load(told)
    return handler


def answers(handler: Classification, *calls: Call) -> list[Result]:
    found = handler.run([handler.check(one) for one in calls])
    assert all(isinstance(one, Result) for one in found), found
    return [one for one in found if isinstance(one, Result)]


def load_failure(path: Path, **options: str | int | float | bool) -> LoadFailed:
    with pytest.raises(LoadFailed) as caught:
        loaded(path, **options)
    assert str(path) not in caught.value.message
    return caught.value


def refusal(handler: Classification, asked: Call) -> str:
    with pytest.raises(ModelportError) as caught:
        handler.check(asked)
    return caught.value.message


def test_accuracy_on_held_out_pictures_is_that_of_a_bare_call(digits: Classification) -> None:
    session = ort.InferenceSession(str(DIGITS / "model.onnx"), providers=["CPUExecutionProvider"])
    raw, wanted = HELD_OUT["pictures"], HELD_OUT["digits"]
    large = [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR)) for one in raw]
    inputs = ((np.stack(large).astype(np.float32) / 255 - 0.5) / 0.5)[:, None]
    bare = np.asarray(session.run(None, {"image": inputs})[0])
    files = [encoded(one) for one in raw]
    calls = [call(files[at : at + 64]) for at in range(0, len(files), 64)]
    predictions = [p for result in answers(digits, *calls) for p in result.results["predictions"]]
    assert [p["class_id"] for p in predictions] == bare.argmax(1).tolist()
    grown = np.exp(bare - bare.max(1, keepdims=True))
    confidence = (grown / grown.sum(1, keepdims=True)).max(1)
    assert [p["confidence"] for p in predictions] == pytest.approx(confidence.tolist(), abs=1e-4)
    assert (bare.argmax(1) == wanted).mean() >= 0.97


def test_one_picture_has_its_fields_at_the_top_too(digits: Classification) -> None:
    (result,) = answers(digits, call([encoded(HELD_OUT["pictures"][0])], top_k=2))
    results = result.results
    digit = str(HELD_OUT["digits"][0])
    assert results["class"] == digit and results["class_id"] == int(digit) and results["image"] == "images[0]"
    assert results["response"] == f"{digit} ({results['confidence']:.2f})" == result.text
    assert len(results["top_k"]) == 2 and results["top_k"][0]["class"] == digit
    assert results["predictions"] == [{key: results[key] for key in results["predictions"][0]}]
    assert results["total_images"] == 1


def test_a_request_of_sixty_four_keeps_its_order(digits: Classification) -> None:
    (result,) = answers(digits, call([encoded(one) for one in HELD_OUT["pictures"][:64]], batch_size=64))
    predictions = result.results["predictions"]
    assert result.results["total_images"] == 64 and "class" not in result.results
    assert [p["image"] for p in predictions] == [f"images[{n}]" for n in range(64)]
    assert [p["class"] for p in predictions] == [str(n) for n in HELD_OUT["digits"][:64]]


def test_works_that_share_a_run_do_not_share_answers(digits: Classification) -> None:
    """Sums of sizes over the largest run, and one request that nobody waits for any more."""
    files = [encoded(one) for one in HELD_OUT["pictures"][:150]]
    parts = [(0, 1), (1, 3), (3, 80), (80, 81), (81, 150)]
    works = [digits.check(call(files[start:end])) for start, end in parts]
    works[1].call.stopped = lambda: True
    found = digits.run(works)
    assert isinstance(found[1], ModelportError)
    for (start, end), one in zip(parts, found, strict=True):
        if isinstance(one, Result):
            got = [p["class"] for p in one.results["predictions"]]
            assert got == [str(n) for n in HELD_OUT["digits"][start:end]]
    assert [work.size for work in works] == [1, 2, 77, 1, 69]


def test_top_k_and_threshold(digits: Classification) -> None:
    picture = encoded(HELD_OUT["pictures"][0])
    many, few, none = answers(
        digits, call([picture], top_k=1000), call([picture], threshold="0.5"), call([picture], threshold=1)
    )
    assert len(many.results["top_k"]) == 10
    assert sum(one["confidence"] for one in many.results["top_k"]) == pytest.approx(1, abs=1e-4)
    assert len(few.results["top_k"]) == 1
    assert none.results["top_k"] == [] and none.results["class"] == str(HELD_OUT["digits"][0])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"top_k": 0}, "top_k is 0, where a whole number from 1 to 1000 is wanted."),
        ({"top_k": 1.5}, "top_k is 1.5, where a whole number from 1 to 1000 is wanted."),
        ({"top_k": True}, "top_k is True, where a whole number from 1 to 1000 is wanted."),
        ({"threshold": "high"}, "threshold is 'high', where a number from 0 to 1 is wanted."),
        ({"threshold": float("nan")}, "threshold is nan, where a number from 0 to 1 is wanted."),
        ({"batch_size": [1]}, "batch_size is [1], where a whole number from 1 to 1024 is wanted."),
    ],
)
def test_settings_out_of_range_are_sentences(digits: Classification, body: dict[str, object], sentence: str) -> None:
    assert refusal(digits, call([encoded(HELD_OUT["pictures"][0])], **body)) == sentence


def test_what_is_unknown_is_ignored_as_upstream_does(digits: Classification) -> None:
    answers(digits, call([encoded(HELD_OUT["pictures"][0])], conv_mode="auto", prompt="?"))


def test_requests_without_a_picture_are_sentences(digits: Classification) -> None:
    assert refusal(digits, call([])) == "The request holds no image; send one or more as `images`."
    film = Call("inference", {}, [Medium("video", b"x", "media[0]")])
    assert refusal(digits, film) == "media[0] is a video; this model takes pictures."
    good, bad = encoded(HELD_OUT["pictures"][0]), bomb(10_000, 10_000)
    assert refusal(digits, call([good, bad])).startswith("images[1] has 10,000 × 10,000 pixels")


def test_notes_of_a_picture_come_back_with_it(digits: Classification) -> None:
    frames = [Image.fromarray(one) for one in HELD_OUT["pictures"][:2]]
    film = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    (result,) = answers(digits, call([film]))
    assert result.results["note"] == "Only its first frame was used."
    assert result.results["class"] == str(HELD_OUT["digits"][0])


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (("batch", 3, 2, 2), TensorProto.FLOAT), (("batch", 2, 2, 3), TensorProto.FLOAT), ((1, 3, 2, 2), TensorProto.FLOAT),
        ((4, 3, 2, 2), TensorProto.FLOAT16), (("batch", 3, 2, 2), TensorProto.UINT8), (("n", 3, "h", "w"), TensorProto.FLOAT),
    ],
)  # fmt: skip
def test_the_graph_says_its_layout_type_and_batch(tmp_path: Path, shape: tuple[int | str, ...], kind: int) -> None:
    """The output is the input: five grey pictures of different brightness come back as they were given."""
    pixel_graph(tmp_path / "model.onnx", shape, kind)
    sidecar = {"task": "classify", "scores": "none", "input": {"width": 2, "height": 2}}
    (tmp_path / "vision.json").write_text(json.dumps(sidecar))
    handler = loaded(tmp_path)
    values = [0, 51, 102, 153, 255]
    files = [encoded(Image.new("RGB", (5, 4), (value,) * 3)) for value in values]
    (result,) = answers(handler, call(files))
    scale = 1 if kind == TensorProto.UINT8 else 255
    found = [p["confidence"] * scale for p in result.results["predictions"]]
    assert found == pytest.approx(values, abs=0.2)
    assert handler.most == (shape[0] if isinstance(shape[0], int) else 64)


def test_an_open_batch_that_means_one_is_found_out(tmp_path: Path) -> None:
    """Many exports leave the batch open and then put all pictures into one row."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 2, 2])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["x", "y"])
    node = helper.make_node("Flatten", ["image"], ["probabilities"], axis=0)
    graph = helper.make_graph([node], "g", [image], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    handler = loaded(tmp_path, scores="none")
    assert handler.most == 1
    (result,) = answers(handler, call([encoded(Image.new("RGB", (2, 2), (v,) * 3)) for v in (255, 51)]))
    assert [p["confidence"] for p in result.results["predictions"]] == pytest.approx([1, 0.2])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "cat\ndog\nowl\n"), ("labels.txt", "cat;dog;owl"), ("labels.yaml", "[cat, dog, owl]"),
        ("data.yaml", "names:\n  0: cat\n  1: dog\n  2: owl\n"), ("classmap.json", '{"owl": 2, "cat": 0, "dog": 1}'),
    ],
)  # fmt: skip
def test_labels_lie_in_any_of_the_usual_files(tmp_path: Path, name: str, content: str) -> None:
    constant_graph(tmp_path / "net.onnx", {"logits": np.array([0, 3, 1])})
    (tmp_path / name).write_text(content)
    (result,) = answers(loaded(tmp_path, labels=name), call([encoded(Image.new("RGB", (9, 9)))]))
    assert [one["class"] for one in result.results["top_k"]] == ["dog", "owl", "cat"]


def test_labels_that_do_not_fit_are_said_before_anything_is_answered(tmp_path: Path) -> None:
    constant_graph(tmp_path / "net.onnx", {"logits": np.array([0, 3, 1])})
    failure = load_failure(tmp_path, labels="cat;dog")
    assert failure.message == "The model tells 3 classes apart, but there are 2 labels; correct the labels."
    assert not failure.again
    for labels, sentence in (
        ("../x.txt", "vision.json: labels is '../x.txt', but it is the name of a file beside the model."),
        ("x.txt", "vision.json: the labels' file 'x.txt' is not there, or has more than 4 MiB."),
    ):
        with pytest.raises(ModelportError) as caught:
            Classification(tmp_path, "classify", {"labels": labels})
        assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"topk": 3}, "'topk' is no option of a vision model. Did you mean 'top_k'?"),
        ({"device": "tpu"}, "The option device is 'tpu', where auto, cpu or cuda is wanted."),
        ({"threads": -1}, "The option threads is '-1', where a whole number up to 1024 is wanted."),
        ({"input.width": 0}, "vision.json: input.width is 0, but input should be greater than or equal to 1."),
    ],
)
def test_options_are_checked_before_weights_are_read(options: dict[str, str | int], sentence: str) -> None:
    with pytest.raises(ModelportError) as caught:
        Classification(DIGITS, "classify", options)
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda raw: raw[: len(raw) // 2], "model.onnx is damaged or no ONNX model; copy or export it again."),
        (lambda raw: b"", "model.onnx is damaged or no ONNX model; copy or export it again."),
        (lambda raw: b"not a model at all", "model.onnx is damaged or no ONNX model; copy or export it again."),
    ],
)
def test_a_damaged_model_is_a_sentence_and_not_tried_again(tmp_path: Path, damage: object, sentence: str) -> None:
    assert callable(damage)
    (tmp_path / "model.onnx").write_bytes(damage((DIGITS / "model.onnx").read_bytes()))
    failure = load_failure(tmp_path)
    assert failure.message == sentence and not failure.again


def graph_of(operator: str, *inputs: str, opset: int = 17, ir: int = 8, domain: str = "") -> onnx.ModelProto:
    """One node on a picture of 8×8."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("image", "y")]
    node = helper.make_node(operator, ["image", *inputs], ["y"], domain=domain)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    initializers = [numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32), name) for name in inputs]
    graph = helper.make_graph([node], "g", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (graph_of("Frobnicate"), "model.onnx uses an operator that the installed onnxruntime does not have."),
        (graph_of("BatchedNMS_TRT", domain="trt"), "model.onnx uses an operator that the installed onnxruntime does not have."),
        (graph_of("Relu", opset=99), "model.onnx was written for a newer ONNX than the installed onnxruntime reads; update onnxruntime."),
        (graph_of("Relu", ir=99), "model.onnx was written for a newer ONNX than the installed onnxruntime reads; update onnxruntime."),
    ],
)  # fmt: skip
def test_a_graph_that_this_onnxruntime_cannot_run_says_what_it_lacks(
    tmp_path: Path, model: onnx.ModelProto, sentence: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert load_failure(tmp_path).message == sentence


def test_weights_in_another_file_are_read_through_links_and_missed_when_cut_off(tmp_path: Path) -> None:
    """A Hub's cache holds links to the files, all in one folder."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    onnx.save(
        graph_of("Add", "w"), blobs / "abc", save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    (blobs / "model.onnx_data").rename(blobs / "def")
    (snapshot / "model.onnx").symlink_to("../../blobs/abc")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/def")
    loaded(snapshot)
    (blobs / "def").write_bytes(b"123")
    assert load_failure(snapshot).message == (
        "model.onnx or a file with its weights is missing or cut off; copy the model again, whole."
    )
    (blobs / "def").unlink()
    assert load_failure(snapshot).message == (
        "model.onnx names a file with weights that is not in its directory; put it beside the model."
    )


def test_a_model_that_is_for_something_else_is_a_sentence(tmp_path: Path) -> None:
    pixel_graph(tmp_path / "model.onnx", ("n", 3, "h", "w"))
    assert load_failure(tmp_path).message == (
        "The model takes pictures of any size: vision.json must say input.width and input.height."
    )
    pixel_graph(tmp_path / "model.onnx")
    assert load_failure(tmp_path, **{"input.color": "GRAY"}).message == (
        "vision.json has 1 as the input's channels, or says nothing; the model's is 3."
    )
    assert load_failure(tmp_path, **{"input.width": 9}).message == (
        "vision.json has 9 as the input's width, or says nothing; the model's is 8."
    )
    constant_graph(tmp_path / "model.onnx", {"boxes": np.zeros((7, 4))})
    assert load_failure(tmp_path).message == (
        "The model has no output with a number for each class, so it is no classifier."
    )
    node = helper.make_node("Add", ["a", "b"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "aby"]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx"
    )
    assert load_failure(tmp_path).message == ("The model has 2 inputs, where one picture is what can be given to it.")
    with pytest.raises(ModelportError) as caught:
        Classification(ROOT / "examples" / "models" / "scenes", "classify", {})
    assert caught.value.message == "The model's vision.json is for detect, and classify was asked for."


def test_a_graph_without_cuda_says_so_when_cuda_is_wanted() -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("there is CUDA here")
    assert load_failure(DIGITS, device="cuda").message == (
        "device is cuda, but the installed onnxruntime has none; install onnxruntime-gpu."
    )


def test_a_model_larger_than_memory_is_a_sentence_and_may_go_better_later(tmp_path: Path) -> None:
    """A process of its own, whose address space ends 200 MB on, is given 2 GB of weights."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 200_000_000])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("length", str(2_400_000_000))):
        weight.external_data.add(key=key, value=value)
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2_400_000_000)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 1, 1])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 200_000_000])
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    graph = helper.make_graph(nodes, "g", [image], [out], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    program = f"""
import resource, sys
from pathlib import Path
from modelport.runtime.classification import Classification
from modelport.runtime.handler import LoadFailed
handler = Classification(Path({str(tmp_path)!r}), "classify", {{"threads": 1}})
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
try:
    handler.load(lambda sentence, share: None)
except LoadFailed as failure:
    print(failure.message, failure.again)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "There is not enough memory to load model.onnx. True\n", done.stderr[-2000:]
