"""Tiny ONNX graphs whose output is known: what a head says, without a network that says it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def constant_graph(
    file: Path,
    outputs: Mapping[str, np.ndarray],
    shape: tuple[int | str, ...] = ("batch", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A model that gives `outputs` (one picture's) for every picture of a batch, whatever it shows."""
    batch = shape[0]
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"], start=0, end=1),
    ]
    initializers, infos = [], []
    for number, (name, value) in enumerate(outputs.items()):
        value = value.astype(np.float32)
        initializers += [
            numpy_helper.from_array(value[None], f"value{number}"),
            numpy_helper.from_array(np.array(value.shape, np.int64), f"axes{number}"),
        ]
        nodes += [
            helper.make_node("Concat", ["shape", f"axes{number}"], [f"whole{number}"], axis=0),
            helper.make_node("Expand", [f"value{number}", f"whole{number}"], [name]),
        ]
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *value.shape]))
    image = helper.make_tensor_value_info("image", kind, list(shape))
    return _saved(file, helper.make_graph(nodes, "constant", [image], infos, initializers))


def pixel_graph(file: Path, shape: tuple[int | str, ...] = ("batch", 3, 8, 8), kind: int = TensorProto.FLOAT) -> Path:
    """A "classifier" whose output is its own input, flat: what the model is really given."""
    nodes = [
        helper.make_node("Cast", ["image"], ["plain"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["plain"], ["probabilities"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", kind, list(shape))
    sides = [side for side in shape[1:] if isinstance(side, int)]
    size = int(np.prod(sides)) if len(sides) == 3 else "size"
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [shape[0], size])
    return _saved(file, helper.make_graph(nodes, "pixels", [image], [out]))


def _saved(file: Path, graph: onnx.GraphProto) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())
    return file
