"""Pictures that strangers send: each odd one has the right pixels, or a sentence."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelport.errors import ModelportError
from modelport.runtime.pictures import MOST_PIXELS, Picture, read_picture
from tests.runtime.photos import bomb, encoded

QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30], QUARTERS[:20, 30:], QUARTERS[20:, :30], QUARTERS[20:, 30:] = (
    (220, 30, 30), (30, 200, 40), (40, 50, 210), (240, 240, 240),
)  # fmt: skip
LIBRARY_WORDS = ("PIL", "Image", "BytesIO", "decoder", "truncated", "cannot identify", "0x", "Error")


def refusal(data: bytes, content_type: str = "") -> str:
    with pytest.raises(ModelportError) as caught:
        read_picture(data, "images[0]", content_type)
    message = caught.value.message
    assert message.startswith("images[0] ") and not any(word in message for word in LIBRARY_WORDS)
    return message


def close(picture: Picture, wanted: np.ndarray, by: float) -> bool:
    seen = picture.pixels()
    return seen.shape == wanted.shape and float(np.abs(seen.astype(int) - wanted.astype(int)).mean()) <= by


@pytest.mark.parametrize(("kind", "by"), [("PNG", 0), ("BMP", 0), ("TIFF", 0), ("GIF", 0), ("WEBP", 4), ("JPEG", 4)])
def test_every_format_is_read(kind: str, by: float) -> None:
    picture = read_picture(encoded(QUARTERS, kind), "images[0]", f"image/{kind.lower()}")
    assert close(picture, QUARTERS, by) and picture.notes == ()


def test_a_mime_type_that_is_not_the_files_own_is_said_and_does_not_matter() -> None:
    picture = read_picture(encoded(QUARTERS, "JPEG"), "images[0]", "image/png")
    assert close(picture, QUARTERS, 4)
    assert picture.notes == ("It came as image/png and is image/jpeg.",)


def test_a_mime_type_of_no_picture_is_refused() -> None:
    assert refusal(encoded(QUARTERS), "text/html; charset=utf-8") == (
        "images[0] came as 'text/html', which is no type of a picture; send it as image/png."
    )


@pytest.mark.parametrize(
    "data", [b"<svg></svg>", b"GIF8", b"%PDF-1.7", bytes(100), b"\x89PN", b"\x00\x00\x00\x18ftypheic"]
)
def test_what_is_no_picture_says_which_formats_are(data: bytes) -> None:
    assert refusal(data, "image/png") == (
        "images[0] is no picture: only PNG, JPEG, WebP, BMP, TIFF and GIF are read. It came as image/png."
    )


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"") == "images[0] is empty: it has no bytes."


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encoded(noise, kind)
    shown = "WebP" if kind == "WEBP" else kind
    assert refusal(data[: int(len(data) * share)]) == (
        f"images[0] is cut off or damaged: its {shown} data cannot be read to the end."
    )


def test_a_hundred_megapixels_are_refused_from_the_header() -> None:
    data = bomb(10_000, 10_000)
    began = time.process_time()
    assert len(data) < 200
    assert refusal(data) == "images[0] has 10,000 × 10,000 pixels, where 64 million are the most; send a smaller one."
    assert time.process_time() - began < 1, "it was decoded"


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_formats_without_a_reader_of_our_own_are_bounded_too(kind: str) -> None:
    image = Image.new("1", (MOST_PIXELS // 1000 + 1, 1000))
    assert "million are the most" in refusal(
        encoded(image, kind, **({"compression": "group4"} if kind == "TIFF" else {}))
    )


def test_of_an_animated_gif_the_first_frame_is_used_and_that_is_said() -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
    picture = read_picture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "images[0]")
    assert picture.pixels()[5, 5].tolist() == [255, 0, 0]
    assert picture.notes == ("Only its first frame was used.",)


def test_a_cmyk_jpeg_has_its_colours() -> None:
    picture = read_picture(encoded(Image.fromarray(QUARTERS).convert("CMYK"), "JPEG", quality=95), "images[0]")
    assert close(picture, QUARTERS, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_that_lies_on_its_side_is_put_upright(kind: str, orientation: int) -> None:
    """Stored as a camera would hold it: what undoes the turn, then the tag that asks for it."""
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = Image.fromarray(QUARTERS)
    stored = stored.transpose(undo) if undo is not None else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert close(read_picture(encoded(stored, kind, exif=exif), "images[0]"), QUARTERS, 5)


def test_sixteen_bits_become_eight() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    wanted = np.repeat(np.rint(ramp / 257).astype(np.uint8)[..., None], 3, 2)
    assert close(read_picture(encoded(Image.fromarray(ramp)), "images[0]"), wanted, 0)
    assert close(read_picture(encoded(Image.fromarray(ramp), "TIFF"), "images[0]"), wanted, 0)


def test_samples_without_a_known_white_are_refused() -> None:
    floats = Image.fromarray(np.ones((4, 4), np.float32))
    assert refusal(encoded(floats, "TIFF")) == (
        "images[0] has samples of 32 bits, whose black and white are not known; send 8 or 16 bits."
    )


def test_palettes_and_grey_and_black_and_white_become_rgb() -> None:
    palette = Image.fromarray(QUARTERS).quantize(4)
    assert close(read_picture(encoded(palette), "images[0]"), QUARTERS, 3)
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert close(read_picture(encoded(grey), "images[0]"), np.repeat(grey[..., None], 3, 2), 0)
    two = Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)
    assert set(np.unique(read_picture(encoded(two), "images[0]").pixels())) == {0, 255}


def test_what_is_transparent_is_white() -> None:
    see_through = np.zeros((8, 8, 4), np.uint8)
    see_through[:4] = (200, 10, 10, 255)
    pixels = read_picture(encoded(see_through), "images[0]").pixels()
    assert pixels[0, 0].tolist() == [200, 10, 10] and pixels[7, 7].tolist() == [255, 255, 255]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert read_picture(encoded(palette, transparency=0), "images[0]").pixels()[0, 0].tolist() == [255, 255, 255]


def test_a_picture_without_pixels_is_refused() -> None:
    data = bytearray(encoded(Image.new("L", (1, 1)), "GIF"))
    data[6:10] = bytes(4)
    at = data.index(0x2C)
    data[at + 5 : at + 9] = bytes(4)
    assert "has no pixels" in refusal(bytes(data)) or "damaged" in refusal(bytes(data))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
)
def test_damaged_bytes_give_a_picture_or_a_sentence_of_ours(kind: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(QUARTERS[::4, ::4], kind))
    for at, value in changes:
        data[at % len(data)] = value
    try:
        assert read_picture(bytes(data), "images[0]").pixels().dtype == np.uint8
    except ModelportError as error:
        assert not any(word in error.message for word in LIBRARY_WORDS), error.message
