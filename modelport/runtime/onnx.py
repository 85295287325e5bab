"""Onnx: one ONNX model in memory, run on pictures by onnxruntime: on CUDA where that is there, else on the CPU."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from modelport.domain.vision import Input
from modelport.errors import INTERNAL, ModelportError
from modelport.runtime.handler import LoadFailed

MOST_PICTURES = 64
"""In one run of a graph whose batch is open."""
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
NO_MEMORY = ("failed to allocate", "out of memory", "bad allocation", "bad_alloc", "cannot allocate", "memory limit")
"""How onnxruntime, CUDA and the system say it, in small letters."""
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    shape: tuple[int | None, ...]
    """None where it is open."""


class Session:
    """A loaded graph with one picture input. Raises LoadFailed when it cannot be had."""

    def __init__(self, file: Path, wanted: Input, threads: int = 0, device: Device = "auto") -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4  # it names paths; what matters is raised
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from their neighbours, and from the server itself.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        cuda = device != "cpu" and "CUDAExecutionProvider" in ort.get_available_providers()
        if device == "cuda" and not cuda:
            raise LoadFailed("device is cuda, but the installed onnxruntime has none; install onnxruntime-gpu.")
        providers = ["CUDAExecutionProvider"] * cuda + ["CPUExecutionProvider"]
        try:
            self._session = ort.InferenceSession(str(file), options, providers=providers)
        except (
            Exception
        ) as error:  # its own classes, RuntimeError, SystemError, MemoryError: told apart by what they say
            raise _load_failed(file, error) from None
        if device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise LoadFailed("device is cuda, but no GPU could be used; see the log of the driver.", again=True)
        self.outputs = tuple(Output(o.name, _shape(o.shape)) for o in self._session.get_outputs())
        self.input, self.most = self._agreed(wanted)

    def run(self, pictures: np.ndarray) -> list[np.ndarray]:
        """Every output of the graph for up to `most` prepared pictures, the batch first.

        A graph with a fixed batch gets empty pictures for the rest. Raises ModelportError when it cannot be run.
        """
        count = len(pictures)
        if self._fixed and count < self._fixed:
            rest = np.zeros((self._fixed - count, *pictures.shape[1:]), pictures.dtype)
            pictures = np.concatenate([pictures, rest])
        try:
            found = self._session.run(None, {self._name: pictures})
        except Exception as error:  # as above
            if _no_memory(error):
                raise ModelportError("There is not enough memory to run the model on this request.", INTERNAL) from None
            raise ModelportError("The model could not be run on this request.", INTERNAL) from None
        outputs = [np.asarray(output) for output in found]
        whole = self._fixed or count
        if any(output.ndim == 0 or len(output) != whole for output in outputs):
            raise ModelportError("The model's outputs do not have one part for each picture.", INTERNAL)
        return [output[:count] for output in outputs]

    def close(self) -> None:
        with contextlib.suppress(AttributeError):
            del self._session

    def _agreed(self, wanted: Input) -> tuple[Input, int]:
        """What vision.json and the graph say together, nothing left open, and how many pictures one run takes."""
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise LoadFailed(f"The model has {len(inputs)} inputs, where one picture is what can be given to it.")
        self._name, shape = inputs[0].name, _shape(inputs[0].shape)
        dtype = TYPES.get(inputs[0].type)
        if dtype is None or len(shape) != 4:
            raise LoadFailed("The model's input is no batch of pictures in float32, float16 or uint8 (four axes).")
        channels = CHANNELS[wanted.color]
        layout = wanted.layout or ("NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW")
        found, height, width = shape[1:] if layout == "NCHW" else (shape[3], shape[1], shape[2])
        _same("channels", channels, found)
        _same("dtype", wanted.dtype, dtype)
        _same("height", wanted.height, height)
        _same("width", wanted.width, width)
        size = {"height": wanted.height or height, "width": wanted.width or width}
        if not all(size.values()):
            raise LoadFailed("The model takes pictures of any size: vision.json must say input.width and input.height.")
        plain = {"scale": 1.0, "mean": (0.0,), "std": (1.0,)} if dtype == "uint8" else {}
        self._fixed = shape[0]
        agreed = wanted.model_copy(update={"layout": layout, "dtype": dtype, **size, **plain})
        return agreed, self._fixed or MOST_PICTURES

    def try_out(self) -> list[np.ndarray]:
        """The outputs for two black pictures, or for one where the graph takes no more. Raises LoadFailed."""
        both = self._black(min(2, self.most))
        try:
            return self.run(both)
        except ModelportError as error:
            if self._fixed or len(both) == 1:
                raise LoadFailed(f"{error.message[:-1]}, not even on an empty picture.", INTERNAL) from None
        # Some exports leave the batch open and mean one picture by it.
        self.most = 1
        try:
            return self.run(self._black(1))
        except ModelportError as error:
            raise LoadFailed(f"{error.message[:-1]}, not even on an empty picture.", INTERNAL) from None

    def _black(self, count: int) -> np.ndarray:
        height, width, channels = self.input.height or 1, self.input.width or 1, CHANNELS[self.input.color]
        shape = (count, channels, height, width) if self.input.layout == "NCHW" else (count, height, width, channels)
        return np.zeros(shape, self.input.dtype)


def _shape(axes: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in axes)


def _same(what: str, said: object, found: object) -> None:
    if said is not None and found is not None and said != found:
        hint = " Set input.color to GRAY." if what == "channels" and found == 1 else ""
        raise LoadFailed(
            f"vision.json has {said} as the input's {what}, or says nothing; the model's is {found}.{hint}"
        )


def _no_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in NO_MEMORY)


WHY = (
    (("does not exist", "doesn't exist", "no such file", "out of bounds", "can not be read in full"),
     "{} or a file with its weights is missing or cut off; copy the model again, whole."),
    (("escapes",), "{} names a file with weights that is not in its directory; put it beside the model."),
    (("no op registered", "not a registered function/op", "not_implemented"),
     "{} uses an operator that the installed onnxruntime does not have."),
    (("validateopset", "ir version", "ir_version", "opset"),
     "{} was written for a newer ONNX than the installed onnxruntime reads; update onnxruntime."),
)  # fmt: skip
"""What onnxruntime 1.20 to 1.31 say, in small letters, and what that means."""


def _load_failed(file: Path, error: Exception) -> LoadFailed:
    """Why a file cannot be loaded, in words of ours. Its path is no part of what is looked at."""
    if _no_memory(error):
        return LoadFailed(f"There is not enough memory to load {file.name}.", INTERNAL, again=True)
    text = str(error).replace(str(file), "").replace(str(file.parent), "").lower()
    found = next((sentence for words, sentence in WHY if any(word in text for word in words)), None)
    return LoadFailed((found or "{} is damaged or no ONNX model; copy or export it again.").format(file.name))
