"""Fit: a picture is put into the size and colours of a model's input, and boxes find their way back to the picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from modelport.domain.vision import Input

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture's pixels went: `input = picture × scale + offset`, along each axis."""

    scale_x: float
    scale_y: float
    left: float
    top: float
    width: int
    """Of the picture itself, in pixels."""
    height: int

    def back(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N×4, edges) of the input's pixels in the picture's own, none over its border."""
        moved = (boxes - [self.left, self.top] * 2) / ([self.scale_x, self.scale_y] * 2)
        return np.clip(moved, 0, [self.width, self.height] * 2)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Height × width × channels, uint8, in the input's size and order of channels."""

    pixels: np.ndarray
    place: Place


def fit(image: Image.Image, wanted: Input) -> Fitted:
    """An RGB picture in the input's size. `wanted` has its width and height."""
    size, own = cast(tuple[int, int], (wanted.width, wanted.height)), image.size
    if wanted.color == "GRAY":
        image = image.convert("L")
    if wanted.resize == "stretch":
        left = top = 0
        resized = _resized(image, size, wanted)
        new = size
    elif wanted.resize == "letterbox":
        ratio = min(size[0] / own[0], size[1] / own[1])
        new = (max(1, round(own[0] * ratio)), max(1, round(own[1] * ratio)))
        left, top = ((size[0] - new[0]) // 2, (size[1] - new[1]) // 2) if wanted.pad_at == "both" else (0, 0)
        resized = Image.new(image.mode, size, wanted.pad if wanted.color == "GRAY" else (wanted.pad,) * 3)
        resized.paste(_resized(image, new, wanted), (left, top))
    else:
        new = _covering(own, size, wanted.crop)
        # torchvision's center_crop: rounded, a half to the even number.
        left, top = -round((new[0] - size[0]) / 2), -round((new[1] - size[1]) / 2)
        middle = (-left, -top, size[0] - left, size[1] - top)
        resized = _cut(image, new, middle, wanted)
    pixels = np.asarray(resized).reshape(size[1], size[0], -1)
    if wanted.color == "BGR":
        pixels = pixels[..., ::-1]
    return Fitted(pixels, Place(new[0] / own[0], new[1] / own[1], left, top, *own))


def batch(fitted: Sequence[Fitted], wanted: Input) -> np.ndarray:
    """The model's input of several pictures: normalised, in its layout and type."""
    pixels = np.stack([one.pixels for one in fitted])
    if wanted.dtype != "uint8":
        # One multiplication and one subtraction: (pixel × scale - mean) / std.
        mean, std = np.array(wanted.mean, np.float32), np.array(wanted.std, np.float32)
        pixels = pixels.astype(np.float32) * (np.float32(wanted.scale) / std) - mean / std
        pixels = pixels.astype(np.float16, copy=False) if wanted.dtype == "float16" else pixels
    return np.ascontiguousarray(pixels if wanted.layout == "NHWC" else pixels.transpose(0, 3, 1, 2))


def _covering(own: tuple[int, int], size: tuple[int, int], crop: float) -> tuple[int, int]:
    """The size whose middle, `crop` of it, is the input's size; the longer side is cut down to a whole number."""
    least = (math.floor(size[0] / crop), math.floor(size[1] / crop))
    if own[0] * least[1] <= own[1] * least[0]:
        return least[0], max(least[1], own[1] * least[0] // own[0])
    return max(least[0], own[0] * least[1] // own[1]), least[1]


def _cut(image: Image.Image, new: tuple[int, int], middle: tuple[int, int, int, int], wanted: Input) -> Image.Image:
    """The middle of the picture as if it were resized to `new`. Only what is kept is computed where the rest would be
    large: a picture of 1 × 60,000 pixels would become one of 256 × 15 million."""
    if new[0] * new[1] <= 4 * max(image.width * image.height, (middle[2] - middle[0]) * (middle[3] - middle[1])):
        return _resized(image, new, wanted).crop(middle)
    across, down = image.width / new[0], image.height / new[1]
    box = (middle[0] * across, middle[1] * down, middle[2] * across, middle[3] * down)
    size = (middle[2] - middle[0], middle[3] - middle[1])
    return image.resize(size, RESAMPLING[wanted.interpolation], box=box)


def _resized(image: Image.Image, size: tuple[int, int], wanted: Input) -> Image.Image:
    if image.size == size:
        return image
    kind = RESAMPLING[wanted.interpolation]
    if wanted.antialias or kind == Image.Resampling.NEAREST:
        return image.resize(size, kind)
    step = (image.width / size[0], 0, 0, 0, image.height / size[1], 0)
    return image.transform(size, Image.Transform.AFFINE, step, kind)
