"""Pictures for tests, written by Pillow, and the calls that carry them."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from modelport.runtime.handler import Call, Medium


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    held = BytesIO()
    image.save(held, kind, **more)
    return held.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be that large, in some hundred bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def call(pictures: Sequence[bytes], **body: Any) -> Call:
    media = [Medium("image", data, f"images[{number}]") for number, data in enumerate(pictures)]
    return Call("inference", body, media)


def told(_sentence: str, _share: float | None) -> None:
    """For loads whose progress is not looked at."""
