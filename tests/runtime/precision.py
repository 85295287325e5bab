"""mAP at one IoU, as PASCAL VOC 2010 defines it (all points), in numpy: what a detector's boxes are worth."""

from collections.abc import Sequence

import numpy as np


def iou(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    inner = np.clip(np.minimum(one[2:4], others[:, 2:4]) - np.maximum(one[:2], others[:, :2]), 0, None).prod(1)
    return inner / ((one[2:4] - one[:2]).prod() + (others[:, 2:4] - others[:, :2]).prod(1) - inner)


def mean_average_precision(
    found: Sequence[np.ndarray], truth: Sequence[np.ndarray], classes: int, least_iou: float
) -> float:
    """`found`: N×6 a picture (edges, class, score), `truth`: N×5 (edges, class)."""
    areas: list[float] = []
    for number in range(classes):
        wanted = [boxes[boxes[:, 4] == number] for boxes in truth]
        ranked = sorted(
            ((float(one[5]), at, one) for at, boxes in enumerate(found) for one in boxes[boxes[:, 4] == number]),
            key=lambda each: -each[0],
        )
        taken = [np.zeros(len(boxes), bool) for boxes in wanted]
        hits: list[bool] = []
        for _, at, one in ranked:
            over = iou(one, wanted[at]) * ~taken[at] if len(wanted[at]) else np.zeros(1)
            hits.append(bool(over.max() >= least_iou))
            if hits[-1]:
                taken[at][over.argmax()] = True
        right = np.cumsum(hits)
        precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
        recall = np.concatenate([[0.0], right / sum(map(len, wanted))])
        areas.append(float((np.diff(recall) * precision).sum()))
    return float(np.mean(areas))
