"""Pictures: bytes that a stranger sent become an upright 8-bit RGB picture, or a sentence about why not.

Sizes are read from headers and checked before anything is decoded; no text of the decoding library reaches a client.
"""

import contextlib
import threading
import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from modelport.errors import TOO_LARGE, ModelportError
from modelport.media import picture

MOST_PIXELS = 64_000_000
"""Of one picture: 192 MB once decoded. Phones take some of 50 million."""
LARGE_PIXELS = 8_000_000
"""Above, pictures are decoded one at a time, so that a request of many needs the memory of one."""

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff",
           "GIF": "image/gif"}  # fmt: skip
SIGNS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
)  # fmt: skip
"""First bytes. WebP's stand apart: its length lies between RIFF and WEBP."""
ALIASES = {
    "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png", "image/apng": "image/png",
    "image/tif": "image/tiff", "image/x-bmp": "image/bmp", "image/x-ms-bmp": "image/bmp",
}  # fmt: skip
UNSAID = ("", "application/octet-stream", "binary/octet-stream", "image/*")
"""Types that say nothing: the bytes decide."""

_large = threading.Semaphore(1)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # ours is the lower bound


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright, in RGB, 8 bits a channel, what was transparent on white."""

    image: Image.Image
    notes: tuple[str, ...] = ()
    """What a client should know of how it was read."""

    def pixels(self) -> np.ndarray:
        """Height × width × 3, uint8."""
        return np.asarray(self.image)


def read_picture(data: bytes, name: str, content_type: str = "") -> Picture:
    """The first picture of a PNG, JPEG, WebP, BMP, TIFF or GIF file. `name` is what errors call it.

    Raises ModelportError: empty, none of these formats, cut off or damaged, of too many pixels, or of samples that
    have no place in 8 bits.
    """
    if not data:
        raise _refused(name, "is empty: it has no bytes.")
    said = content_type.partition(";")[0].strip().lower()
    said = ALIASES.get(said, said)
    found = _format(data)
    if found is None:
        sent = f" It came as {said[:40]}." if said not in UNSAID and said.isprintable() else ""
        raise _refused(name, f"is no picture: only PNG, JPEG, WebP, BMP, TIFF and GIF are read.{sent}")
    if said not in UNSAID and not said.startswith("image/"):
        raise _refused(name, f"came as {said[:40]!a}, which is no type of a picture; send it as {FORMATS[found]}.")
    notes = []
    if said not in UNSAID and said != FORMATS[found]:
        notes.append(f"It came as {ascii(said[:40])[1:-1]} and is {FORMATS[found]}.")
    # Before the library looks at it: this reads nothing but the header.
    with contextlib.suppress(picture.Short):
        if size := picture.size(data):
            _check_size(size, name)
    try:
        with Image.open(BytesIO(data), formats=(found,)) as opened:
            _check_size(opened.size, name)
            if getattr(opened, "is_animated", False):
                notes.append("Only its first frame was used.")
            large = opened.size[0] * opened.size[1] > LARGE_PIXELS
            with _large if large else contextlib.nullcontext():
                return Picture(_upright(_rgb(opened, name), opened), tuple(notes))
    except ModelportError:
        raise
    except Image.DecompressionBombError:
        raise _too_many(name, None) from None
    except MemoryError:
        raise _refused(name, "needs more memory than there is; send a smaller one.") from None
    except UnidentifiedImageError:
        raise _damaged(name, found) from None
    except (
        Exception
    ):  # decoders of hostile files raise nearly anything: OSError, ValueError, struct.error, EOFError, ...
        raise _damaged(name, found) from None


def _rgb(opened: Image.Image, name: str) -> Image.Image:
    opened.load()
    mode = opened.mode
    if mode.startswith("I;16"):
        samples = np.asarray(opened).astype(np.uint32)
        return Image.fromarray(((samples + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise _refused(name, "has samples of 32 bits, whose black and white are not known; send 8 or 16 bits.")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in opened.info:
        return _on_white(opened if mode == "RGBA" else opened.convert("RGBA"))
    return opened.convert("RGB")


def _on_white(seen: Image.Image) -> Image.Image:
    """What is transparent, on white: strip by strip, since whole copies of a large picture take a gigabyte."""
    made = Image.new("RGB", seen.size, (255, 255, 255))
    for top in range(0, seen.height, STRIP_ROWS):
        strip = seen.crop((0, top, seen.width, min(top + STRIP_ROWS, seen.height)))
        made.paste(strip, (0, top), strip)
    return made


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Turned as its EXIF data says. Damaged EXIF data turns nothing."""
    try:
        turn = TURNS.get(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # as above
        turn = None
    return image if turn is None else image.transpose(turn)


STRIP_ROWS = 256
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF 2.32, tag Orientation: what puts the picture upright."""


def _format(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for sign, kind in SIGNS if data.startswith(sign)), None)


def _check_size(size: tuple[int, int], name: str) -> None:
    if not all(size):
        raise _refused(name, f"has no pixels: it is {size[0]} × {size[1]}.")
    if size[0] * size[1] > MOST_PIXELS:
        raise _too_many(name, size)


def _too_many(name: str, size: tuple[int, int] | None) -> ModelportError:
    shown = f"{size[0]:,} × {size[1]:,} pixels" if size else "too many pixels"
    text = f"{name} has {shown}, where {MOST_PIXELS // 1_000_000} million are the most; send a smaller one."
    return ModelportError(text, TOO_LARGE, param=name)


def _damaged(name: str, found: str) -> ModelportError:
    kind = "WebP" if found == "WEBP" else found
    return _refused(name, f"is cut off or damaged: its {kind} data cannot be read to the end.")


def _refused(name: str, what: str) -> ModelportError:
    return ModelportError(f"{name} {what}", param=name)
