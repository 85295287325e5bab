"""ONNX models on this machine become facts without being loaded."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.catalog import resolve
from modelport.errors import ModelportError
from tests.harness import ROOT

MODELS = ROOT / "examples" / "models"


def refusal(source: Path) -> str:
    with pytest.raises(ModelportError) as caught:
        resolve(str(source))
    return caught.value.message


def with_external_data(directory: Path) -> Path:
    """A model whose one weight, 4000 bytes, lies in a file beside it."""
    weight = numpy_helper.from_array(np.zeros(1000, np.float32), "weight")
    node = helper.make_node("Add", ["x", "weight"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1000]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:], [weight]))
    onnx.save(model, directory / "net.onnx", save_as_external_data=True, location="net.weights", size_threshold=0)
    return directory / "net.onnx"


@pytest.mark.parametrize(("name", "task", "kind"), [("digits", "classify", "onnx"), ("scenes", "detect", "yolov8")])
def test_the_sample_models_say_what_they_are(name: str, task: str, kind: str) -> None:
    facts = resolve(str(MODELS / name))
    assert (facts.format, facts.task, facts.architecture, facts.inputs) == ("onnx", task, kind, ("image",))
    assert facts.weight_bytes == (MODELS / name / "model.onnx").stat().st_size and facts.note == ""
    assert facts.path == str(MODELS / name) and facts.precision == "total"


def test_a_file_alone_is_a_classifier_until_somebody_says_more(tmp_path: Path) -> None:
    facts = resolve(str(with_external_data(tmp_path)))
    assert facts.task == "classify" and "No vision.json lies beside the model" in facts.note


def test_weights_in_other_files_are_counted_and_missed(tmp_path: Path) -> None:
    file = with_external_data(tmp_path)
    (tmp_path / "notes.txt").write_text("not a weight")
    assert resolve(str(tmp_path)).weight_bytes == file.stat().st_size + 4000
    (tmp_path / "net.weights").unlink()
    assert "lacks a file of its weights, 'net.weights'" in refusal(tmp_path)


def test_weights_outside_of_the_directory_are_refused(tmp_path: Path) -> None:
    file = with_external_data(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"net.weights", b"../../x/y.w"))
    assert "names a file outside of its directory" in refusal(file)


def test_a_wrong_sidecar_is_said_by_key(tmp_path: Path) -> None:
    with_external_data(tmp_path)
    (tmp_path / "vision.json").write_text(json.dumps({"preset": "timm", "lables": []}))
    assert "has the unknown key 'lables'. Did you mean 'labels'?" in refusal(tmp_path)
    (tmp_path / "vision.json").write_text("[")
    assert "is not a JSON object" in refusal(tmp_path)


def test_several_models_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with_external_data(tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"")
    assert refusal(tmp_path) == "The model's directory holds 2 .onnx files; name one: net.onnx, other.onnx."
    assert "is empty: download it again." in refusal(tmp_path / "other.onnx")


def test_a_language_models_directory_stays_one(tmp_path: Path) -> None:
    """Exports for the browser lie beside the weights of many models of the Hub."""
    (tmp_path / "config.json").write_text("{}")
    with_external_data(tmp_path)
    assert "weights" in refusal(tmp_path)
