"""Trains the sample detector: digits anywhere in a coloured scene of 128×128. Some five minutes on two CPU cores.

Needs torch, scikit-learn, pillow, onnx and onnxscript. Scenes are composed here: one to six of scikit-learn's digits at
random places, sizes and colours, over gradients, shapes and noise. Digits of training scenes never stand in held-out
ones (the same split as train_digits.py). The boxes are known because the scenes are ours.

    python examples/train_scenes.py

writes examples/models/scenes (model.onnx, vision.json, README.md) and tests/data/vision/scenes.npz (the held-out set).
"""

import io
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional as F
from train_digits import pictures

HERE = Path(__file__).resolve().parent
OUT = HERE / "models" / "scenes"
HELD_OUT = HERE.parent / "tests" / "data" / "vision" / "scenes.npz"
SEED = 6
SIZE = 128
STRIDE = 8
CELLS = SIZE // STRIDE
CLASSES = 10
TRAIN_SCENES, TEST_SCENES = 6000, 64
EPOCHS = 14
BATCH = 24
RATE = 4e-3
VISION = {
    "task": "detect",
    "preset": "yolov8",
    "input": {"width": SIZE, "height": SIZE},
    "labels": [str(digit) for digit in range(CLASSES)],
    "score": 0.3,
    "nms_iou": 0.5,
}


class Scenes(nn.Module):
    """Five convolution stages down to cells of 8 pixels; each cell gives a box around its centre and ten scores.

    The output is that of YOLOv8's exports: (pictures, 4 + classes, cells), centre, width and height in pixels of the
    input, scores through a sigmoid.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in (
            (3, 16, 2),
            (16, 32, 2),
            (32, 48, 1),
            (48, 64, 2),
            (64, 64, 1),
            (64, 64, 1),
            (64, 64, 1),
        ):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.boxes = nn.Conv2d(64, 4, 1)
        self.scores = nn.Conv2d(64, CLASSES, 1)
        nn.init.constant_(self.scores.bias, -4.0)  # nearly all cells are empty
        place = (torch.arange(CELLS) + 0.5) * STRIDE
        self.register_buffer("across", place.repeat(CELLS))
        self.register_buffer("down", place.repeat_interleave(CELLS))

    def raw(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Edges (pictures, cells, 4: left, top, right, bottom) and logits (pictures, cells, classes)."""
        seen = self.features(batch)
        reach = F.softplus(self.boxes(seen)).flatten(2) * STRIDE
        left, top, right, bottom = reach.unbind(1)
        edges = torch.stack([self.across - left, self.down - top, self.across + right, self.down + bottom], 2)
        return edges, self.scores(seen).flatten(2).transpose(1, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        edges, logits = self.raw(batch)
        centre, size = (edges[..., :2] + edges[..., 2:]) / 2, edges[..., 2:] - edges[..., :2]
        return torch.cat([centre, size, logits.sigmoid()], 2).transpose(1, 2)


def scene(digits: np.ndarray, names: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture (128×128×3) and its boxes (N×5: left, top, right, bottom, digit)."""
    corners = random.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    picture = Image.fromarray(corners).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(0, 6)):
        place = [int(n) for n in random.integers(-20, SIZE + 20, 4)]
        color = tuple(int(n) for n in random.integers(0, 256, 3))
        if random.random() < 0.5:
            draw.line(place, fill=color, width=int(random.integers(1, 4)))
        else:
            draw.ellipse(
                [min(place[0], place[2]), min(place[1], place[3]), max(place[0], place[2]), max(place[1], place[3])],
                outline=color,
            )
    pixels = np.asarray(picture).astype(np.float32)
    boxes: list[list[float]] = []
    for _ in range(random.integers(1, 7)):
        which, width = int(random.integers(len(digits))), int(random.integers(16, 53))
        height = int(width * random.uniform(1.0, 1.4))
        stroke = np.asarray(Image.fromarray(digits[which]).resize((width, height), Image.Resampling.BICUBIC)) / 255.0
        rows, columns = np.where(stroke.max(1) > 0.3)[0], np.where(stroke.max(0) > 0.3)[0]
        x, y = int(random.integers(0, SIZE - width + 1)), int(random.integers(0, SIZE - height + 1))
        box = [x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1]
        if any(min(box[2], b[2]) > max(box[0], b[0]) and min(box[3], b[3]) > max(box[1], b[1]) for b in boxes):
            continue
        under = pixels[y : y + height, x : x + width]
        color = random.integers(0, 256, 3).astype(np.float32)
        if abs(float(under.mean() - color.mean())) < 60:  # a digit that nobody could see is no lesson
            color = np.full(3, 255.0 if under.mean() < 128 else 0.0) * 0.8 + color * 0.2
        pixels[y : y + height, x : x + width] = under * (1 - stroke[..., None]) + color * stroke[..., None]
        boxes.append([*map(float, box), float(names[which])])
    pixels += random.normal(0, random.uniform(0, 6), pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), np.array(boxes, np.float32).reshape(-1, 5)


def targets(boxes: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each cell the box whose middle part holds the cell's centre (0s where none), and its digit (-1)."""
    place = (np.arange(CELLS) + 0.5) * STRIDE
    across, down = np.tile(place, CELLS), np.repeat(place, CELLS)
    edges = np.zeros((len(boxes), CELLS * CELLS, 4), np.float32)
    digit = np.full((len(boxes), CELLS * CELLS), -1)
    for number, found in enumerate(boxes):
        for left, top, right, bottom, name in found:
            x, y = (left + right) / 2, (top + bottom) / 2
            reach_x, reach_y = max(0.25 * (right - left), STRIDE * 0.6), max(0.25 * (bottom - top), STRIDE * 0.6)
            inside = (across > left) & (across < right) & (down > top) & (down < bottom)
            inside &= (abs(across - x) < reach_x) & (abs(down - y) < reach_y)
            edges[number, inside], digit[number, inside] = (left, top, right, bottom), name
    return torch.from_numpy(edges), torch.from_numpy(digit)


def loss_of(edges: torch.Tensor, logits: torch.Tensor, wanted: torch.Tensor, digit: torch.Tensor) -> torch.Tensor:
    """Focal loss (Lin et al. 2017) of the scores and generalized IoU (Rezatofighi et al. 2019) of the boxes."""
    there = digit >= 0
    hot = F.one_hot(digit.clamp(min=0), CLASSES).float() * there.unsqueeze(-1)
    plain = F.binary_cross_entropy_with_logits(logits, hot, reduction="none")
    missed = torch.where(hot > 0, 1 - logits.sigmoid(), logits.sigmoid())
    count = there.sum().clamp(min=1)
    focal = (plain * missed**2 * torch.where(hot > 0, 0.6, 0.4)).sum() / count
    got, want = edges[there], wanted[there]
    inner = (torch.minimum(got[:, 2:], want[:, 2:]) - torch.maximum(got[:, :2], want[:, :2])).clamp(min=0).prod(1)
    outer = (torch.maximum(got[:, 2:], want[:, 2:]) - torch.minimum(got[:, :2], want[:, :2])).prod(1)
    union = (got[:, 2:] - got[:, :2]).prod(1) + (want[:, 2:] - want[:, :2]).prod(1) - inner
    iou = inner / union.clamp(min=1e-6)
    return focal * 2 + (1 - iou + (outer - union) / outer.clamp(min=1e-6)).sum() / count


def iou(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    inner = np.clip(np.minimum(one[2:4], others[:, 2:4]) - np.maximum(one[:2], others[:, :2]), 0, None).prod(1)
    return inner / ((one[2:4] - one[:2]).prod() + (others[:, 2:4] - others[:, :2]).prod(1) - inner)


def found_in(rows: np.ndarray, score: float) -> np.ndarray:
    """One picture's output to boxes (N×6: edges, digit, score), best first, without doubles (IoU over 0.5)."""
    centre, size, scores = rows[:2].T, rows[2:4].T, rows[4:].T
    cells, classes = np.where(scores >= score)
    all_found = np.concatenate(
        [(centre - size / 2)[cells], (centre + size / 2)[cells], classes[:, None], scores[cells, classes][:, None]], 1
    )
    all_found = all_found[np.argsort(-all_found[:, 5], kind="stable")]
    kept: list[np.ndarray] = []
    for one in all_found:
        if not any(k[4] == one[4] and iou(one, k[None])[0] > 0.5 for k in kept):
            kept.append(one)
    return np.array(kept).reshape(-1, 6)


def average_precision(found: list[np.ndarray], truth: list[np.ndarray], least_iou: float = 0.5) -> float:
    """mAP at one IoU: the area below each digit's precision-recall curve (all points, as PASCAL VOC 2010)."""
    areas: list[float] = []
    for digit in range(CLASSES):
        wanted = [boxes[boxes[:, 4] == digit] for boxes in truth]
        total = sum(map(len, wanted))
        hits: list[tuple[float, bool]] = []
        for boxes, real in zip(found, wanted, strict=True):
            taken = np.zeros(len(real), bool)
            for one in boxes[boxes[:, 4] == digit]:
                overlap = iou(one, real) * ~taken if len(real) else np.zeros(1)
                hit = bool(overlap.max() >= least_iou)
                if hit:
                    taken[overlap.argmax()] = True
                hits.append((float(one[5]), hit))
        right = np.cumsum([hit for _, hit in sorted(hits, key=lambda h: -h[0])])
        precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
        recall = np.concatenate([[0.0], right / total])
        areas.append(float((np.diff(recall) * precision).sum()))
    return float(np.mean(areas))


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    random = np.random.default_rng(SEED)
    train, held, train_digit, held_digit = pictures()
    composed = [scene(train, train_digit, random) for _ in range(TRAIN_SCENES)]
    inputs = torch.from_numpy(np.stack([pixels for pixels, _ in composed])).permute(0, 3, 1, 2).contiguous()
    edges, digit = targets([boxes for _, boxes in composed])
    model = Scenes()
    steps = EPOCHS * (TRAIN_SCENES // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    began = time.monotonic()
    for epoch in range(EPOCHS):
        order = torch.randperm(TRAIN_SCENES)
        for at in range(0, TRAIN_SCENES - BATCH + 1, BATCH):
            chosen = order[at : at + BATCH]
            loss = loss_of(*model.raw(inputs[chosen].float() / 255), edges[chosen], digit[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss.item():.3f}, {time.monotonic() - began:.0f} s", flush=True)
    model.eval()
    tests = [scene(held, held_digit, random) for _ in range(TEST_SCENES)]
    files = [encoded(pixels) for pixels, _ in tests]
    truth = [boxes for _, boxes in tests]
    seen = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    with torch.no_grad():
        rows = model(torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255).numpy()
    mean_precision = average_precision([found_in(one, 0.01) for one in rows], truth)
    print(f"mAP@0.5 on {TEST_SCENES} held-out scenes: {mean_precision:.4f}")
    write(model, files, truth, mean_precision)


def encoded(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=85)
    return held.getvalue()


def write(model: Scenes, files: list[bytes], truth: list[np.ndarray], mean_precision: float) -> None:
    for directory in (OUT, HELD_OUT.parent):
        directory.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model, (torch.zeros(2, 3, SIZE, SIZE),), OUT / "model.onnx", input_names=["images"], output_names=["output0"],
        dynamic_shapes={"batch": {0: torch.export.Dim("batch")}}, dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    (OUT / "vision.json").write_text(json.dumps(VISION, indent=2) + "\n")
    np.savez_compressed(
        HELD_OUT,
        files=np.frombuffer(b"".join(files), np.uint8),  # JPEG, one after another
        ends=np.cumsum([len(file) for file in files]),
        boxes=np.concatenate([np.insert(boxes, 0, number, 1) for number, boxes in enumerate(truth)]),
    )
    parameters = sum(weight.numel() for weight in model.parameters())
    count = sum(map(len, truth))
    (OUT / "README.md").write_text(
        f"""# Scenes: the sample detector

Finds hand-written digits, some 14 to 70 pixels tall, in a coloured scene of {SIZE}×{SIZE}. {parameters:,} parameters,
any batch; its output has the layout of YOLOv8's exports (boxes in pixels, no objectness).

- **mAP@0.5: {mean_precision:.3f}** on {TEST_SCENES} held-out scenes with {count} digits
  (`tests/data/vision/scenes.npz`), all boxes over a score of 0.01, doubles over an IoU of 0.5 removed.
- Data: scenes composed by `examples/train_scenes.py` of scikit-learn's `load_digits` (CC BY 4.0): {TRAIN_SCENES:,}
  to train, whose digits stand in no held-out scene (seed {SEED}).
- Recipe: no anchors, a grid of {CELLS}×{CELLS} cells; focal loss and generalized IoU; {EPOCHS} epochs of {BATCH},
  AdamW, one-cycle rate up to {RATE}.
"""
    )


if __name__ == "__main__":
    main()
