"""Inputs: the pictures, videos and files of a request, in every form they come in, as Media.

A data: URI, bare base64, an upload; an address in a cloud below the one bucket that the operator named; an http(s)
address at a host that the operator named. Nothing else is read, least of all a path of this machine's own disk. The
first bytes decide what is a picture and what a video, whatever its name says.
"""

import asyncio
import binascii
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit

from modelport import storage
from modelport.errors import FORBIDDEN, MODEL_NOT_FOUND, TOO_LARGE, ModelportError
from modelport.media.fetch import Network, fetch
from modelport.runtime.handler import Medium
from modelport.storage import is_cloud
from modelport.storage.clouds import place

Kind = Literal["image", "video", "file"]
Hint = Literal["image", "video", "file", ""]
FIELDS: dict[str, Hint] = {
    "image": "image", "images": "image", "video": "video", "videos": "video",
    "media": "", "input": "", "file": "file", "files": "file",
}  # fmt: skip
"""Keys that hold media, and what they then are where their bytes do not tell."""
MAX_ITEMS = 512
MAX_BYTES: dict[Kind, int] = {"image": 64 << 20, "video": 512 << 20, "file": 512 << 20}
MAX_TOTAL_BYTES = 1 << 30
SIGNS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x89PNG", "image"), (0, b"\xff\xd8\xff", "image"), (0, b"GIF8", "image"), (8, b"WEBP", "image"),
    (0, b"BM", "image"), (0, b"II*\0", "image"), (0, b"MM\0*", "image"),
    (4, b"ftyphei", "image"), (4, b"ftyphev", "image"), (4, b"ftypmif1", "image"), (4, b"ftypavi", "image"),
    (4, b"ftyp", "video"), (4, b"moov", "video"), (4, b"mdat", "video"), (4, b"wide", "video"), (4, b"free", "video"),
    (0, b"\x1aE\xdf\xa3", "video"), (8, b"AVI ", "video"), (0, b"\0\0\x01\xba", "video"), (0, b"\0\0\x01\xb3", "video"),
)  # fmt: skip
"""Where which bytes tell what it is."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")
_DATA = re.compile(r"data:([a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+)((?:;[a-zA-Z0-9=._-]+)*);base64,")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
FETCH_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Item:
    """One medium as the request has it, until it is read. `mark` is its place in a chat, which then says its kind."""

    name: str
    value: str | bytes
    hint: Hint = ""
    content_type: str = ""
    mark: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where media may be read from beside the request itself; `env` holds the cloud's credentials."""

    bucket: str = ""
    hosts: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    network: Network = field(default_factory=Network)


def take(body: Mapping[str, Any]) -> tuple[dict[str, Any], list[Item]]:
    """A body's other fields, and its media in the order they stand. Raises ModelportError (400, 413)."""
    rest: dict[str, Any] = {}
    items: list[Item] = []
    for key, value in body.items():
        if key not in FIELDS:
            if value is not None:
                rest[key] = value
            continue
        several = isinstance(value, list)
        values = cast(list[object], value) if several else [] if value is None else [value]
        for index, text in enumerate(values):
            name = f"{key}[{index}]" if several else key
            if isinstance(text, Item):  # of a form
                items.append(text)
                continue
            if not isinstance(text, str) or not text:
                raise ModelportError(f"'{name}' must be a text: a data: URI, base64 or an address.", param=key)
            items.append(Item(name, text, FIELDS[key]))
    counted(items)
    return rest, items


def counted(items: Sequence[Item]) -> None:
    """Raises ModelportError (413) for too many."""
    if len(items) > MAX_ITEMS:
        raise ModelportError(f"A request may have {MAX_ITEMS} media, not {len(items)}.", TOO_LARGE)


def is_address(item: Item) -> bool:
    return isinstance(item.value, str) and _scheme(item.value) not in ("", "data")


async def fetched(items: Sequence[Item], sources: Sources) -> None:
    """Replace every address by what is there. Raises ModelportError (400, 413)."""
    left = MAX_TOTAL_BYTES
    for item in items:
        if not is_address(item):
            continue
        address = str(item.value)
        scheme = _scheme(address)
        if is_cloud(address):
            data = await _from_cloud(item, address, min(left, _cap(item)), sources)
        elif scheme in ("http", "https"):
            data = await _from_web(item, address, min(left, _cap(item)), sources)
        else:
            raise ModelportError(
                f"'{item.name}' must be a data: URI, base64, an upload, or an address in a cloud or on the web; "
                f"{scheme[:20]}: is not read.",
                param=item.name,
            )
        left -= len(data)
        item.value = data
        item.name = named(urlsplit(address).path) or item.name
        item.hint = item.hint or _by_ending(item.name)


def decoded(items: Sequence[Item]) -> list[Medium]:
    """The media of items whose addresses are fetched. Raises ModelportError (400, 413). Takes a while."""
    total = 0
    found: list[Medium] = []
    for item in items:
        data = item.value if isinstance(item.value, bytes) else _decode(item, item.value)
        kind = by_signs(data) or item.hint
        if not kind:
            raise ModelportError(f"'{item.name}' is neither a picture nor a video.", param=item.name)
        total += len(data)
        if len(data) > MAX_BYTES[kind]:
            raise ModelportError(f"'{item.name}' is a {kind} of more than {MAX_BYTES[kind] >> 20} MiB.", TOO_LARGE)
        if total > MAX_TOTAL_BYTES:
            raise ModelportError(f"The media of a request are more than {MAX_TOTAL_BYTES >> 30} GiB.", TOO_LARGE)
        if item.mark is not None:
            item.mark["type"] = kind
        item.value = b""
        found.append(Medium(kind, data, item.name, item.content_type))
    return found


def named(path: str) -> str:
    """The last part of a path, fit for being shown: never a directory."""
    last = posixpath.basename(unquote(path).replace("\\", "/"))
    return "".join(char for char in last if char.isprintable())[:200]


def by_signs(data: bytes) -> Kind | None:
    return next((kind for at, sign, kind in SIGNS if data[at : at + len(sign)] == sign), None)


def _by_ending(name: str) -> Hint:
    lower = name.lower()
    return "image" if lower.endswith(PICTURES) else "video" if lower.endswith(VIDEOS) else ""


def _scheme(text: str) -> str:
    found = _SCHEME.match(text, 0, 40)
    return found[1].lower() if found else ""


def _cap(item: Item) -> int:
    return MAX_BYTES[item.hint] if item.hint else max(MAX_BYTES.values())


def _decode(item: Item, text: str) -> bytes:
    start = 0
    if text[:5].lower() == "data:":
        head = _DATA.match(text, 0, 200)
        if head is None:
            raise ModelportError(f"'{item.name}' must be a data: URI of base64, as data:image/png;base64,…")
        mime = head[1].lower()
        kind = mime.partition("/")[0]
        if kind not in ("image", "video"):
            raise ModelportError(f"'{item.name}': Unsupported media type: {mime}", param=item.name)
        item.hint = "image" if kind == "image" else "video"
        item.content_type = mime
        start = head.end()
    if (len(text) - start) * 3 // 4 > _cap(item) + (1 << 20):  # line breaks may be in it
        raise ModelportError(f"'{item.name}' has more than {_cap(item) >> 20} MiB.", TOO_LARGE, param=item.name)
    part = text[start:] if start else text
    try:
        data = _base64(part)
    except ValueError:  # binascii.Error is one
        data = b""
    if not data or (not start and by_signs(data) is None):
        raise ModelportError(
            f"'{item.name}' is not valid base64."
            if start
            else f"'{item.name}' is no data: URI, no base64 of a picture or video, and no address; files of this "
            "server's own disk are not read.",
            param=item.name,
        )
    return data


def _base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)  # with line breaks, as `base64` prints it


async def _from_web(item: Item, address: str, max_bytes: int, sources: Sources) -> bytes:
    if not sources.hosts:
        raise ModelportError(
            f"'{item.name}': this server fetches nothing from the web (--allow-url names the hosts it may ask); send "
            "a data: URI.",
            param=item.name,
        )
    kind = item.hint if item.hint in ("image", "video") else _by_ending(urlsplit(address).path) or "image"
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            item.content_type, data = await fetch(address, kind, max_bytes, sources.hosts, sources.network)
    except TimeoutError:
        raise ModelportError(f"'{item.name}' could not be fetched within {FETCH_TIMEOUT_S:g} s.") from None
    return data


async def _from_cloud(item: Item, address: str, max_bytes: int, sources: Sources) -> bytes:
    if not sources.bucket:
        raise ModelportError(
            f"'{item.name}': this server has no bucket to read media from (--bucket names it); send a data: URI.",
            param=item.name,
        )
    if not below(address, sources.bucket):
        raise ModelportError(f"'{item.name}' is not below the bucket that this server reads.", param=item.name)
    try:
        return await asyncio.to_thread(storage.read, address, sources.env, max_bytes)
    except ModelportError as error:
        if error.kind in (MODEL_NOT_FOUND, FORBIDDEN):  # the request is wrong; the job is there, and the key is good
            raise ModelportError(error.message, param=item.name) from None
        raise


def below(address: str, bucket: str) -> bool:
    """Whether a cloud address lies below another. Raises ModelportError (400) for parts that no object has."""
    at, root = place(address), place(bucket)
    inside = not root.path or at.path.startswith(root.path.rstrip("/") + "/")
    return at.cloud.scheme == root.cloud.scheme and at.bucket == root.bucket and inside
