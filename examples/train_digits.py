"""Trains the sample classifier: hand-written digits, 0 to 9, of 32×32 grey pixels. Some two minutes on two CPU cores.

Needs torch, scikit-learn, pillow, onnx and onnxscript. Data: scikit-learn's `load_digits` (1,797 pictures of 8×8 pixels
of UCI's "Optical Recognition of Handwritten Digits"), of which a quarter is held out by a fixed seed.

    python examples/train_digits.py

writes examples/models/digits (model.onnx, vision.json, README.md) and tests/data/vision/digits.npz (the held-out set).
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
OUT = HERE / "models" / "digits"
HELD_OUT = HERE.parent / "tests" / "data" / "vision" / "digits.npz"
SEED = 6
SIZE = 32
EPOCHS = 30
BATCH = 64
RATE = 3e-3
VISION = {
    "task": "classify",
    "input": {
        "width": SIZE, "height": SIZE, "layout": "NCHW", "color": "GRAY", "resize": "stretch",
        "interpolation": "bilinear", "scale": 1 / 255, "mean": [0.5], "std": [0.5],
    },
    "scores": "softmax",
    "labels": [str(digit) for digit in range(10)],
    "top_k": 3,
}  # fmt: skip


class Digits(nn.Module):
    """Three convolutions, each halving the picture, and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 24), (24, 48), (48, 64)):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        self.classes = nn.Linear(64 * 16, 10)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.classes(F.dropout(self.features(pictures).flatten(1), 0.3, self.training))


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training pictures, held-out pictures (N×8×8, 0 to 255), and their digits."""
    digits = load_digits()
    whole = np.clip(np.rint(digits.images * 255 / 16), 0, 255).astype(np.uint8)
    train, held, train_digit, held_digit = train_test_split(
        whole, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    return train, held, train_digit, held_digit


def prepared(raw: np.ndarray) -> torch.Tensor:
    """What vision.json says, done here: stretched, scaled, normalised."""
    large = [np.asarray(Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for one in raw]
    return (torch.from_numpy(np.stack(large)).float().unsqueeze(1) / 255 - 0.5) / 0.5


def moved(batch: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Turned by up to 12°, scaled by 15 %, shifted by 10 %."""
    count = len(batch)
    turn, scale, right, down = (
        (torch.rand(4, count, generator=random) * 2 - 1).T * torch.tensor([0.21, 0.15, 0.2, 0.2])
    ).T
    cos, sin = torch.cos(turn) * (1 + scale), torch.sin(turn) * (1 + scale)
    matrix = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = F.affine_grid(matrix, list(batch.shape), align_corners=False)
    return F.grid_sample(batch + 1, grid, align_corners=False) - 1  # +1: what comes in from outside is black


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    random = torch.Generator().manual_seed(SEED)
    train, held, train_digit, held_digit = pictures()
    inputs, wanted = prepared(train), torch.from_numpy(train_digit)
    model = Digits()
    steps = EPOCHS * (len(inputs) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    began = time.monotonic()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(inputs), generator=random)
        for at in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[at : at + BATCH]
            loss = F.cross_entropy(model(moved(inputs[chosen], random)), wanted[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss.item():.3f}, {time.monotonic() - began:.0f} s", flush=True)
    model.eval()
    with torch.no_grad():
        right = int((model(prepared(held)).argmax(1).numpy() == held_digit).sum())
    print(f"{right} of {len(held)} held-out pictures right: {right / len(held):.4f}")
    write(model, held, held_digit, right)


def write(model: Digits, held: np.ndarray, held_digit: np.ndarray, right: int) -> None:
    for directory in (OUT, HELD_OUT.parent):
        directory.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model, (torch.zeros(2, 1, SIZE, SIZE),), OUT / "model.onnx", input_names=["image"], output_names=["logits"],
        dynamic_shapes={"pictures": {0: torch.export.Dim("batch")}}, dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    (OUT / "vision.json").write_text(json.dumps(VISION, indent=2) + "\n")
    np.savez_compressed(HELD_OUT, pictures=held, digits=held_digit.astype(np.uint8))
    parameters = sum(weight.numel() for weight in model.parameters())
    (OUT / "README.md").write_text(
        f"""# Digits: the sample classifier

Tells hand-written digits apart: bright strokes on dark, one digit a picture. {parameters:,} parameters, any batch.

- **Accuracy: {right / len(held):.2%}** ({right} of {len(held)} held-out pictures, `tests/data/vision/digits.npz`).
- Data: scikit-learn's `load_digits` (UCI, "Optical Recognition of Handwritten Digits", CC BY 4.0):
  {1797 - len(held):,} pictures to train, {len(held)} held out (seed {SEED}, the same share of every digit). The same
  writers are in both, so strangers' digits will do a little worse.
- Recipe: `examples/train_digits.py`: {EPOCHS} epochs of {BATCH}, AdamW, one-cycle rate up to {RATE}, label
  smoothing 0.05, dropout 0.3; turned by up to 12°, scaled by 15 %, shifted by 10 %.

It knows nothing but digits: every other picture gets one of the ten too, so look at `confidence`.
"""
    )


if __name__ == "__main__":
    main()
