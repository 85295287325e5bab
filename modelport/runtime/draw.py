"""Draw: a picture with its boxes and labels on it, as a data URI."""

import base64
from collections.abc import Sequence
from io import BytesIO

from PIL import ImageDraw, ImageFont

from modelport.runtime.boxes import Found
from modelport.runtime.handler import Medium
from modelport.runtime.pictures import read_picture

MOST_SIDE = 2048
"""Pixels of the longer side: larger pictures are drawn smaller, so that an answer stays some megabytes."""
QUALITY = 88
COLORS = (
    (230, 25, 75), (0, 110, 220), (20, 140, 60), (200, 100, 0), (145, 30, 180),
    (0, 128, 128), (170, 60, 120), (110, 90, 20), (60, 60, 200), (128, 0, 0),
)  # fmt: skip
"""Dark enough for white letters; a class always has the same one."""


def annotated(medium: Medium, found: Found, labels: Sequence[str]) -> str:
    """The picture upright as `data:image/jpeg;base64,...` with each box of `found` (in its pixels) and what it is."""
    image = read_picture(medium.data, medium.name, medium.content_type).image
    shrink = min(1.0, MOST_SIDE / max(image.size))
    if shrink < 1:
        image = image.resize((max(1, round(image.width * shrink)), max(1, round(image.height * shrink))))
    pen = ImageDraw.Draw(image)
    line = max(1, round(max(image.size) / 400))
    font = ImageFont.load_default(max(10, round(max(image.size) / 50)))
    # The best last, on top of the others.
    for row in reversed(range(len(found))):
        left, top, right, bottom = (float(edge) * shrink for edge in found.edges[row])
        color = COLORS[int(found.classes[row]) % len(COLORS)]
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=line)
        text = f"{labels[row][:40]} {found.scores[row]:.2f}"
        wide, high = pen.textbbox((0, 0), text, font=font)[2:]
        above = top - high - 2 if top > high + 2 else top
        pen.rectangle((left, above, left + wide + 2, above + high + 2), fill=color)
        pen.text((left + 1, above), text, fill=(255, 255, 255), font=font)
    held = BytesIO()
    image.save(held, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()
