"""PictureModel: an ONNX model with its vision.json: pictures of requests in, its outputs for each picture out.

Classification and detection stand on it; they differ in what the outputs mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from modelport.domain.vision import OPTIONS, Vision, onnx_name, parse_vision
from modelport.errors import ModelportError, nearest
from modelport.runtime.fit import Fitted, batch, fit
from modelport.runtime.handler import Call, LoadFailed, Medium, Told, Work
from modelport.runtime.labels import Labels, read_labels
from modelport.runtime.onnx import MOST_PICTURES, Device, Session
from modelport.runtime.pictures import read_picture
from modelport.runtime.sidecar import read_sidecar

OWN = ("threads", "device")
"""Options of the session; the others are vision.json's."""
Option = str | int | float | bool
Outputs = Sequence[np.ndarray]
"""One picture's, without the batch."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture of a request, ready for the model."""

    name: str
    fitted: Fitted
    notes: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """What every prediction says of its picture."""
        return {"image": self.name, **({"note": " ".join(self.notes)} if self.notes else {})}


class PictureModel:
    """Made without reading weights; raises ModelportError for a wrong vision.json or option."""

    def __init__(self, path: Path, task: Literal["classify", "detect"], options: Mapping[str, Option]) -> None:
        for key in options:
            if key not in OPTIONS and key not in OWN:
                raise ModelportError(
                    f"{key[:80]!r} is no option of a vision model.{nearest(key[:80], (*OPTIONS, *OWN))}",
                    param="options",
                )
        self._directory = path if path.is_dir() else path.parent
        self._file = path / onnx_name(entry.name for entry in path.iterdir()) if path.is_dir() else path
        self._threads = _threads(options)
        self._device: Device = _device(options)
        said = read_sidecar(self._directory)
        if "task" not in said and "preset" not in said and "preset" not in options:
            said = {"task": task, **said}
        self.vision: Vision = parse_vision(said, options={k: v for k, v in options.items() if k not in OWN})
        if self.vision.task != task:
            raise ModelportError(f"The model's vision.json is for {self.vision.task}, and {task} was asked for.")
        self.labels: Labels = read_labels(self.vision, self._directory)
        self.most = MOST_PICTURES

    def load(self, told: Told) -> tuple[list[str], list[np.ndarray]]:
        """Reads the weights and tries them. Gives the outputs' names, and what they are for the tried pictures.

        Raises LoadFailed.
        """
        told(f"Reading {self._file.name}.", None)
        self._session = Session(self._file, self.vision.input, self._threads, self._device)
        told("Trying the model.", 0.9)
        outputs = self._session.try_out()
        self.most = self._session.most
        return [output.name for output in self._session.outputs], outputs

    def prepare(self, call: Call) -> list[Seen]:
        """The pictures of a request in the model's size. Raises ModelportError for none, and for what is no picture."""
        if not call.media:
            raise ModelportError("The request holds no image; send one or more as `images`.", param="images")
        return [self._seen(medium) for medium in call.media]

    def infer(self, works: Sequence[tuple[Work, Sequence[Seen]]]) -> list[list[Outputs] | ModelportError]:
        """For each work the outputs of each of its pictures, in order; an error where a run failed.

        Pictures of several works share a run. Works that nobody waits for any more are left out of it.
        """
        waiting = [
            (at, seen) for at, (work, pictures) in enumerate(works) if not work.call.stopped() for seen in pictures
        ]
        made: list[list[Outputs]] = [[] for _ in works]
        failed: dict[int, ModelportError] = {}
        for start in range(0, len(waiting), self.most):
            gone = {at for at, (work, _) in enumerate(works) if work.call.stopped()}
            part = [
                (at, seen) for at, seen in waiting[start : start + self.most] if at not in failed and at not in gone
            ]
            if not part:
                continue
            try:
                outputs = self._session.run(batch([seen.fitted for _, seen in part], self._session.input))
            except ModelportError as error:
                failed |= {at: error for at, _ in part}
                continue
            for row, (at, _) in enumerate(part):
                made[at].append([output[row] for output in outputs])
        left = ModelportError("Nobody waits for this request any more.")
        answers: list[list[Outputs] | ModelportError] = []
        for at, (_, pictures) in enumerate(works):
            answers.append(failed.get(at) or (made[at] if len(made[at]) == len(pictures) else left))
        return answers

    def labelled(self, classes: int) -> None:
        """Holds the labels against the number of classes, where that is known (not 0).

        Raises LoadFailed where they cannot belong together.
        """
        first = self.vision.boxes.first_label
        listed = len(self.labels)
        if not listed or not classes:
            return
        highest = max(self.labels.named)
        in_order = listed == highest + 1 - first
        if highest >= classes or (in_order and listed + first != classes):
            raise LoadFailed(
                f"The model tells {classes} classes apart, but there are {listed} labels"
                f"{f', of which the last is for class {highest}' if highest >= classes else ''}; correct the labels."
            )

    def close(self) -> None:
        if session := getattr(self, "_session", None):
            session.close()

    def _seen(self, medium: Medium) -> Seen:
        if medium.kind == "video":
            raise ModelportError(f"{medium.name} is a video; this model takes pictures.", param=medium.name)
        picture = read_picture(medium.data, medium.name, medium.content_type)
        return Seen(medium.name, fit(picture.image, self._session.input), picture.notes)


def run_works(
    model: PictureModel,
    works: Sequence[tuple[Work, Sequence[Seen]]],
    answer: Callable[[int, list[Outputs]], Any],
) -> list[Any]:
    """One answer a work: what `answer(which, outputs of its pictures)` gives, or the error that kept it from it."""
    answers: list[Any] = []
    for at, outputs in enumerate(model.infer(works)):
        try:
            answers.append(outputs if isinstance(outputs, ModelportError) else answer(at, outputs))
        except ModelportError as error:
            answers.append(error)
    return answers


def _threads(options: Mapping[str, Option]) -> int:
    value = options.get("threads", 0)
    if type(value) is not int or not 0 <= value <= 1024:
        raise ModelportError(f"The option threads is {str(value)[:40]!r}, where a whole number up to 1024 is wanted.")
    return value


def _device(options: Mapping[str, Option]) -> Device:
    value = options.get("device", "auto")
    if value not in ("auto", "cpu", "cuda"):
        raise ModelportError(f"The option device is {str(value)[:40]!r}, where auto, cpu or cuda is wanted.")
    return cast(Device, value)
