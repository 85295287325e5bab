"""Picture: how many pixels a PNG, JPEG, GIF, WebP, BMP or TIFF says it has, read without decoding it.

Every length is checked against the bytes that are there. Formats: PNG (RFC 2083 §11), JPEG (ITU T.81 annex B), GIF89a,
WebP (RFC 9649), BMP (BITMAPINFOHEADER), TIFF 6.0 (its first picture).
"""

TIFF_WIDTH, TIFF_HEIGHT, TIFF_SHORT = 256, 257, 3
"""Tags of a picture's size, and the type of two bytes."""
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that hold height and width; the three taken out are tables."""
BARE = frozenset((0x01, *range(0xD0, 0xD9)))
"""JPEG markers that nothing belongs to."""


class Short(Exception):
    """It may be a picture, but more of it is needed to tell its size."""


def size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None for what is none of these formats, or damaged. Raises Short."""
    read = next((reader for sign, reader in READERS if data[: len(sign)] == sign), None)
    if read is None:
        return None
    try:
        found = read(data)
    except IndexError:  # no byte is read that was not asked for by its place
        raise Short from None
    return found if found is not None and all(found) else None


def _png(data: bytes) -> tuple[int, int] | None:
    return (_big(data, 16, 4), _big(data, 20, 4)) if _slice(data, 12, 4) == b"IHDR" else None


def _gif(data: bytes) -> tuple[int, int] | None:
    """The larger of the screen and the first picture on it, because decoders grow the screen to hold that."""
    width, height = _little(data, 6, 2), _little(data, 8, 2)
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while data[at] == 0x21:  # an extension: its label, then blocks that each say their length
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    if data[at] != 0x2C:
        return None
    left, top, wide, high = (_little(data, at + 1 + 2 * field, 2) for field in range(4))
    return max(width, left + wide), max(height, top + high)


def _webp(data: bytes) -> tuple[int, int] | None:
    if _slice(data, 8, 4) != b"WEBP":
        return None
    kind = _slice(data, 12, 4)
    if kind == b"VP8X":
        return 1 + _little(data, 24, 3), 1 + _little(data, 27, 3)
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = _little(data, 21, 4)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and _slice(data, 23, 3) == b"\x9d\x01\x2a":
        return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while True:
        if data[at] != 0xFF:
            return None
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in START_OF_FRAME:
            return _big(data, at + 5, 2), _big(data, at + 3, 2)
        if marker == 0xDA or marker == 0xD9:  # the picture begins, or ends, and no size was given
            return None
        if marker not in BARE:
            length = _big(data, at, 2)
            if length < 2:
                return None
            at += length


def _bmp(data: bytes) -> tuple[int, int] | None:
    if _little(data, 14, 4) == 12:  # OS/2's
        return _little(data, 18, 2), _little(data, 20, 2)
    width, height = (int.from_bytes(_slice(data, at, 4), "little", signed=True) for at in (18, 22))
    return abs(width), abs(height)  # rows from the top have a negative height


def _tiff(data: bytes) -> tuple[int, int] | None:
    read = _little if data[:1] == b"I" else _big
    directory = read(data, 4, 4)
    found: dict[int, int] = {}
    for entry in range(read(data, directory, 2)):
        at = directory + 2 + 12 * entry
        tag = read(data, at, 2)
        if tag in (TIFF_WIDTH, TIFF_HEIGHT):
            found[tag] = read(data, at + 8, 2 if read(data, at + 2, 2) == TIFF_SHORT else 4)
    return (found[TIFF_WIDTH], found[TIFF_HEIGHT]) if len(found) == 2 else None


def _slice(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise IndexError
    return data[at : at + length]


def _big(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(_slice(data, at, length), "big")


def _little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(_slice(data, at, length), "little")


READERS = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
)
