"""Boxes: what a detector's output says: decoded, doubles removed, the best ones kept. Arrays in, arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelport.domain.vision import Boxes

MOST_CLASSES = 100_000
MOST_CANDIDATES = 30_000
"""The best so many are looked at, as ultralytics' max_nms."""


@dataclass(frozen=True, slots=True)
class Found:
    """Boxes of one picture. Row i of each belongs together."""

    edges: np.ndarray
    """N×4, float: left, top, right, bottom in pixels."""
    classes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, chosen: np.ndarray) -> "Found":
        """Those that a mask or a list of rows chooses."""
        return Found(self.edges[chosen], self.classes[chosen], self.scores[chosen])


def class_count(shapes: Sequence[tuple[int, ...]], boxes: Boxes) -> int:
    """How many classes outputs of these shapes tell apart; 0 where shapes do not say it.

    Shapes are one picture's, in the order of `decode`.
    """
    if boxes.head == "ready":
        return 0
    if boxes.head == "one":
        return shapes[0][0 if boxes.channels_first else 1] - 4 - boxes.objectness
    return shapes[0][0] if boxes.head == "grid" else shapes[0][1] - boxes.no_object


def in_order(names: Sequence[str], shapes: Sequence[tuple[int, ...]], boxes: Boxes) -> list[int]:
    """Which of a graph's outputs (shapes of one picture's) are scores and boxes, in this order; one if one says both.

    By name where `boxes.outputs` says it, else by shape. Raises ValueError with what is wrong, in words.
    """
    wanted = 1 if boxes.head in ("one", "ready") else 2
    if boxes.outputs:
        if len(boxes.outputs) != wanted or not set(boxes.outputs) <= set(names):
            shown = ", ".join(names[:8])
            raise ValueError(f"boxes.outputs must be {wanted} of the model's outputs, which are: {shown}")
        chosen = [names.index(name) for name in boxes.outputs]
    elif wanted == 1:
        chosen = [at for at, shape in enumerate(shapes) if len(shape) == 2][:1]
    else:
        axes = 3 if boxes.head == "grid" else 2
        fitting = [at for at, shape in enumerate(shapes) if len(shape) == axes]
        edges = [at for at in fitting if _are_edges(names[at], shapes[at], [shapes[i] for i in fitting], boxes)]
        named = [at for at in edges if "box" in names[at].lower()] or edges
        rest = [at for at in fitting if at not in named[:1]]
        logits = [at for at in rest if any(word in names[at].lower() for word in ("logit", "score", "cov"))] or rest
        chosen = [*logits[:1], *named[:1]]
    if len(chosen) < wanted or not _fits([shapes[at] for at in chosen], boxes):
        raise ValueError("its outputs do not have the shapes that boxes.head means")
    return chosen


def _are_edges(name: str, shape: tuple[int, ...], all_shapes: Sequence[tuple[int, ...]], boxes: Boxes) -> bool:
    if boxes.head == "two":
        return shape[1] == 4
    return any(shape[0] == 4 * other[0] and shape[1:] == other[1:] for other in all_shapes)


def _fits(shapes: Sequence[tuple[int, ...]], boxes: Boxes) -> bool:
    """Whether outputs of these shapes, in order, can be decoded."""
    if boxes.head == "one":
        return len(shapes[0]) == 2 and class_count(shapes, boxes) > 0
    if boxes.head == "ready":
        return len(shapes[0]) == 2 and shapes[0][1] == 6
    scores, edges = shapes
    if boxes.head == "grid":
        return len(scores) == len(edges) == 3 and edges == (4 * scores[0], *scores[1:])
    return len(scores) == len(edges) == 2 and edges == (scores[0], 4) and class_count(shapes, boxes) > 0


def decode(outputs: Sequence[np.ndarray], boxes: Boxes, width: int, height: int, score: float) -> Found:
    """The candidates of one picture with at least `score`, best first, in pixels of the input (`width` × `height`).

    `outputs` are in the order of `in_order`. What is not a number, or no box, is left out.
    """
    if boxes.head == "grid":
        edges, classes, scores = _grid(outputs[0], outputs[1], boxes)
    elif boxes.head == "ready":
        edges, scores = outputs[0][:, :4], outputs[0][:, 4]
        classes = np.nan_to_num(outputs[0][:, 5]).clip(0, MOST_CLASSES).astype(np.int64)
    else:
        edges, table = _table(outputs, boxes)
        if boxes.several:
            rows, classes = np.where(table >= score)
        else:
            rows, classes = np.arange(len(table)), np.where(np.isnan(table), -1, table).argmax(1)
        edges, scores = edges[rows], table[rows, classes]
    chosen = np.flatnonzero((scores >= score) & np.isfinite(edges).all(1))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:MOST_CANDIDATES]
    edges, classes, scores = edges[chosen].astype(np.float64), classes[chosen], scores[chosen]
    edges = _corners(edges, boxes.format)
    if boxes.normalized:
        edges = edges * [width, height, width, height]
    return Found(edges, classes, scores).only((edges[:, 2] > edges[:, 0]) & (edges[:, 3] > edges[:, 1]))


def _table(outputs: Sequence[np.ndarray], boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Edges (N×4) as the graph has them, and probabilities (N×classes)."""
    if boxes.head == "one":
        rows = outputs[0].T if boxes.channels_first else outputs[0]
        edges, table = rows[:, :4], probabilities(rows[:, 4 + boxes.objectness :], boxes.scores)
        if boxes.objectness:
            kind = "sigmoid" if boxes.scores == "sigmoid" else "none"
            table = table * probabilities(rows[:, 4:5], kind)
    else:
        edges, table = outputs[1], probabilities(outputs[0], boxes.scores)
    return edges, table[:, :-1] if boxes.no_object else table


def _grid(coverage: np.ndarray, edges: np.ndarray, boxes: Boxes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """DetectNet_v2: a cell's coverage is its score; edges are distances from half a pixel into the cell, outwards."""
    count, down, across = coverage.shape
    x, y = np.arange(across) * boxes.stride + 0.5, np.arange(down)[:, None] * boxes.stride + 0.5
    reach = edges.reshape(count, 4, down, across).astype(np.float32) * np.float32(boxes.norm)
    placed = np.stack([x - reach[:, 0], y - reach[:, 1], x + reach[:, 2], y + reach[:, 3]], -1)
    classes = np.repeat(np.arange(count), down * across)
    return placed.reshape(-1, 4), classes, probabilities(coverage.reshape(-1), boxes.scores)


def _corners(edges: np.ndarray, form: str) -> np.ndarray:
    if form == "xyxy":
        return edges
    first, size = edges[:, :2], edges[:, 2:]
    if form == "cxcywh":
        first = first - size / 2
    return np.concatenate([first, first + size], 1)


def probabilities(raw: np.ndarray, kind: str) -> np.ndarray:
    """Of logits, along the last axis; as they are for `none`."""
    raw = raw.astype(np.float32, copy=False)
    if kind == "none":
        return raw
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(raw, -80, 80)))
    grown = np.exp(raw - raw.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


def without_doubles(found: Found, most_iou: float, most: int) -> Found:
    """The best boxes; of two of one class that overlap by more than `most_iou`, the better one.

    `found` is best first, and so is what is given.
    """
    kept: list[int] = []
    for number in np.unique(found.classes):
        left = np.flatnonzero(found.classes == number)
        for _ in range(most):
            if not len(left):
                break
            kept.append(int(left[0]))
            left = left[1:][overlap(found.edges[left[0]], found.edges[left[1:]]) <= most_iou]
    return found.only(np.array(sorted(kept)[:most], np.int64))


def overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4) with each of N×4."""
    inner = np.clip(np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2]), 0, None).prod(1)
    union = (one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - inner
    return inner / np.maximum(union, 1e-12)
