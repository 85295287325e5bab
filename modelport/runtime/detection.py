"""Detection: what is where in a picture: boxes in the picture's own pixels, with labels and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from modelport.errors import ModelportError
from modelport.runtime.asked import flag, number, whole
from modelport.runtime.boxes import Found, class_count, decode, in_order, without_doubles
from modelport.runtime.draw import annotated
from modelport.runtime.handler import Call, LoadFailed, Medium, Result, Route, Told, Work
from modelport.runtime.picture_model import Option, Outputs, PictureModel, Seen, run_works

MOST_BOXES = 3000


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its pictures, and which boxes of each are wanted."""

    pictures: Sequence[Seen]
    score: float
    nms_iou: float
    most: int
    classes: frozenset[int]
    """Empty for all."""
    annotate: bool


class Detection:
    """Handler of detectors. Request: `confidence_threshold`, `nms_threshold` (or `iou_threshold`), `max_detections`,
    `classes` (names or numbers), `annotate`, and `batch_size`, which is checked and changes no answer."""

    model_type = "detection"
    routes: frozenset[Route] = frozenset({"inference"})

    def __init__(self, directory: Path, task: str, options: Mapping[str, Option]) -> None:
        self._model = PictureModel(directory, "detect", options)
        self.most = self._model.most
        self._order: list[int] = []
        self._classes = 0

    def load(self, told: Told) -> None:
        names, outputs = self._model.load(told)
        shapes = [output.shape[1:] for output in outputs]
        try:
            self._order = in_order(names, shapes, self._model.vision.boxes)
        except ValueError as error:
            raise LoadFailed(f"The model does not fit its vision.json: {error}.") from None
        self._classes = class_count([shapes[at] for at in self._order], self._model.vision.boxes)
        self._model.labelled(self._classes)
        self.most = self._model.most

    def check(self, call: Call) -> Work:
        body, vision = call.body, self._model.vision
        whole(body, "batch_size", 1, 1, 1024)
        iou = number(body, "iou_threshold", vision.nms_iou, 0, 1)
        asked = Asked(
            score=number(body, "confidence_threshold", vision.score, 0, 1),
            nms_iou=number(body, "nms_threshold", iou, 0, 1),
            most=whole(body, "max_detections", vision.most, 1, MOST_BOXES),
            classes=self._wanted(body.get("classes")),
            annotate=flag(body, "annotate"),
            pictures=self._model.prepare(call),
        )
        return Work(call, size=len(asked.pictures), ready=asked)

    def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
        asked: list[Asked] = [work.ready for work in works]
        return run_works(
            self._model,
            [(work, each.pictures) for work, each in zip(works, asked, strict=True)],
            lambda at, outputs: self._result(asked[at], works[at].call.media, outputs),
        )

    def close(self) -> None:
        self._model.close()

    def _wanted(self, value: object) -> frozenset[int]:
        if value is None or value == "":
            return frozenset()
        given = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
        names = [each.strip() if isinstance(each, str) else each for each in cast(list[object], given)]
        return frozenset(self._model.labels.number(each, self._classes) for each in names)

    def _result(self, asked: Asked, media: Sequence[Medium], outputs: list[Outputs]) -> Result:
        predictions: list[dict[str, Any]] = []
        for seen, medium, one in zip(asked.pictures, media, outputs, strict=True):
            found = self._found(asked, seen, one)
            prediction = self._prediction(seen, found)
            if asked.annotate:
                prediction["annotated"] = annotated(medium, found, prediction["labels"])
            predictions.append(prediction)
        results: dict[str, Any] = {"predictions": predictions, "total_images": len(predictions)}
        if len(predictions) == 1:
            only = predictions[0]
            confidence = max(only["scores"], default=0.0)
            results = {"response": _spoken(only), "confidence": confidence, **only, **results}
        return Result(results=results, text="; ".join(map(_spoken, predictions)))

    def _found(self, asked: Asked, seen: Seen, outputs: Outputs) -> Found:
        """The boxes of one picture in its own pixels, best first."""
        vision, size = self._model.vision, seen.fitted.pixels.shape
        found = decode([outputs[at] for at in self._order], vision.boxes, size[1], size[0], asked.score)
        if asked.classes:
            found = found.only(np.isin(found.classes, list(asked.classes)))
        if vision.nms:
            found = without_doubles(found, asked.nms_iou, asked.most)
        edges = seen.fitted.place.back(found.edges)
        inside = (edges[:, 2] > edges[:, 0]) & (edges[:, 3] > edges[:, 1])
        return Found(edges, found.classes, found.scores).only(np.flatnonzero(inside)[: asked.most])

    def _prediction(self, seen: Seen, found: Found) -> dict[str, Any]:
        place = seen.fitted.place
        return {
            **seen.told(),
            "width": place.width,
            "height": place.height,
            "boxes": [[round(float(edge), 2) for edge in box] for box in found.edges],
            "labels": [self._model.labels.of(int(number)) for number in found.classes],
            "label_ids": [int(number) for number in found.classes],
            "scores": [round(float(score), 6) for score in found.scores],
        }


def _spoken(prediction: Mapping[str, Any]) -> str:
    """Such as `2 found: 7 (0.98), 3 (0.91)`; at most ten are named."""
    named = [f"{n} ({s:.2f})" for n, s in zip(prediction["labels"][:10], prediction["scores"], strict=False)]
    count = len(prediction["labels"])
    return f"{count} found: {', '.join(named)}{', ...' if count > 10 else ''}" if count else "Nothing found"
