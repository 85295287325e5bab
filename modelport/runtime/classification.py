"""Classification: what a picture shows: the best classes of an ONNX model with their confidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelport.errors import INTERNAL, ModelportError
from modelport.runtime.asked import number, whole
from modelport.runtime.boxes import probabilities
from modelport.runtime.handler import Call, LoadFailed, Result, Route, Told, Work
from modelport.runtime.picture_model import Option, Outputs, PictureModel, Seen, run_works


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its pictures, how many classes of each, and from which confidence on."""

    pictures: Sequence[Seen]
    top_k: int
    threshold: float


class Classification:
    """Handler of classifiers. Request: `top_k`, `threshold`, and `batch_size`, which is checked and changes no answer:
    pictures are put together by the queue."""

    model_type = "classification"
    routes: frozenset[Route] = frozenset({"inference"})

    def __init__(self, directory: Path, task: str, options: Mapping[str, Option]) -> None:
        self._model = PictureModel(directory, "classify", options)
        self.most = self._model.most
        self._at = 0

    def load(self, told: Told) -> None:
        names, outputs = self._model.load(told)
        shapes = [output.shape[1:] for output in outputs]
        fitting = [at for at, shape in enumerate(shapes) if int(np.prod(shape)) > 1 and len(shape) in (1, 3)]
        # What follows the scores are features or auxiliary heads.
        named = [
            at for at in fitting if any(word in names[at].lower() for word in ("logit", "prob", "softmax", "pred"))
        ]
        if not fitting:
            raise LoadFailed("The model has no output with a number for each class, so it is no classifier.")
        self._at = (named or fitting)[0]
        self._model.labelled(int(np.prod(shapes[self._at])))
        self.most = self._model.most

    def check(self, call: Call) -> Work:
        whole(call.body, "batch_size", 1, 1, 1024)
        asked = Asked(
            pictures=self._model.prepare(call),
            top_k=whole(call.body, "top_k", self._model.vision.top_k, 1, 1000),
            threshold=number(call.body, "threshold", 0.0, 0, 1),
        )
        return Work(call, size=len(asked.pictures), ready=asked)

    def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
        asked: list[Asked] = [work.ready for work in works]
        return run_works(
            self._model,
            [(work, each.pictures) for work, each in zip(works, asked, strict=True)],
            lambda at, outputs: self._result(asked[at], outputs),
        )

    def close(self) -> None:
        self._model.close()

    def _result(self, asked: Asked, outputs: list[Outputs]) -> Result:
        predictions = [self._prediction(asked, seen, one) for seen, one in zip(asked.pictures, outputs, strict=True)]
        results: dict[str, Any] = {"predictions": predictions, "total_images": len(predictions)}
        if len(predictions) == 1:
            only = predictions[0]
            results = {"response": _spoken(only), **only, **results}
        return Result(results=results, text="; ".join(map(_spoken, predictions)))

    def _prediction(self, asked: Asked, seen: Seen, outputs: Outputs) -> dict[str, Any]:
        """The best class always; in `top_k` only what reaches the threshold."""
        scores = probabilities(np.asarray(outputs[self._at]).reshape(-1), self._model.vision.scores)
        if not np.isfinite(scores).all():
            raise ModelportError(f"The model gave no numbers for {seen.name}.", INTERNAL)
        order = np.argsort(-scores, kind="stable")[: asked.top_k]
        ranked = [
            {"class": self._model.labels.of(int(at)), "class_id": int(at), "confidence": round(float(scores[at]), 6)}
            for at in order
        ]
        return {
            **seen.told(),
            **ranked[0],
            "top_k": [one for one in ranked if one["confidence"] >= asked.threshold],
        }


def _spoken(prediction: Mapping[str, Any]) -> str:
    return f"{prediction['class']} ({prediction['confidence']:.2f})"
