"""Content: pictures and videos in a request: which kinds each architecture reads, and the items that hold them.

Suffixes, types and the size are those of the skill's request.yaml and of the server behind it (nvidia-tao-core). A file
of this machine goes along as a data: URI; cloud storage is read by nobody here.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from modelport.errors import ModelportError
from modelport.tao.payload import CLOUDS

Kind = Literal["image", "video"]

MAX_BYTES = 512 << 20
"""Of one picture or video, decoded."""
TYPES = {
    **{"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "tiff": "image/tiff"},
    **{"webp": "image/webp", "gif": "image/gif"},
    **{"mp4": "video/mp4", "mkv": "video/x-matroska", "webm": "video/webm", "avi": "video/avi", "mov": "video/mov"},
}
"""A file's suffix to its type, as the servers know it."""
SYNONYMS = {"image/jpg": "image/jpeg", "video/mkv": "video/x-matroska"}
SUFFIXES: dict[str, tuple[str, ...]] = {
    "cosmos-rl": ("jpg", "jpeg", "png", "bmp", "tiff", "mp4", "mkv", "webm", "avi", "mov"),
    "cosmos-predict2.5": ("png", "jpg", "jpeg", "webp", "mp4"),
    "tao-dataservices": ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff", "mp4", "avi", "webm", "mkv", "mov"),
}
_DATA = re.compile(r"data:([^;,]{1,80});base64,(.+)", re.DOTALL)


def item(arch: str, kind: Kind, given: str) -> dict[str, Any]:
    """The item for an http(s) URL, a data: URI or a file of this machine. Raises ModelportError for what the
    architecture does not read, and for a file that cannot be read."""
    url = given if ":" in given.partition("/")[0] else _as_data(arch, kind, Path(given))
    check(arch, kind, url)
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def check(arch: str, kind: Kind, url: str) -> None:
    """Raises ModelportError for a URL that the architecture's service would not read."""
    shown = url[:80]
    scheme = url.partition(":")[0].lower()
    if scheme in CLOUDS:
        raise ModelportError(
            f"{shown!r} is in cloud storage, which the service does not read: give an http(s) URL, a data: URI or a "
            "file.",
            param=f"{kind}_url",
        )
    if scheme == "data":
        _check_data(arch, kind, url)
    elif scheme in ("http", "https"):
        suffix = urlsplit(url).path.rpartition(".")[2].lower()
        if suffix in TYPES:
            _must_read(arch, kind, suffix, shown)
    else:
        raise ModelportError(f"{shown!r} is no {kind}: give an http(s) URL or a data: URI.", param=f"{kind}_url")


def media_items(body: Mapping[str, Any]) -> list[tuple[Kind, str]]:
    """The pictures and videos of the first user message, which is the one that is read. Raises ModelportError for an
    item that is none of text, image_url and video_url."""
    found: list[tuple[Kind, str]] = []
    for part in _parts(body):
        kind = part.get("type")
        if kind == "text":
            continue
        if kind not in ("image_url", "video_url"):
            raise ModelportError(
                f"A message has an item of the type {str(kind)[:40]!r}; there is text, image_url and video_url.",
                param="messages",
            )
        inner = part.get(kind)
        url: object = cast(dict[str, Any], inner).get("url") if isinstance(inner, dict) else None
        if not isinstance(url, str) or not url:
            raise ModelportError(f"An item of the type {kind} lacks its url.", param="messages")
        found.append(("image" if kind == "image_url" else "video", url))
    return found


def _parts(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages: Any = body.get("messages")
    for message in cast(list[Any], messages) if isinstance(messages, list) else []:
        if isinstance(message, dict) and cast(dict[str, Any], message).get("role") == "user":
            content: Any = cast(dict[str, Any], message).get("content")
            return [p for p in cast(list[Any], content) if isinstance(p, dict)] if isinstance(content, list) else []
    return []


def _as_data(arch: str, kind: Kind, path: Path) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in TYPES:
        raise ModelportError(f"{path} does not say what it is: its name must end in {_read_by(arch, kind)}.")
    _must_read(arch, kind, suffix, str(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelportError(f"{path} has more than 512 MiB; no service takes that in a request.")
        data = path.read_bytes()
    except OSError as error:
        raise ModelportError(f"{path} cannot be read: {error.strerror}.") from None
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(data).decode()}"


def _check_data(arch: str, kind: Kind, url: str) -> None:
    match = _DATA.fullmatch(url)
    if match is None:
        raise ModelportError("A data: URI is data:TYPE;base64,… with something in it.", param=f"{kind}_url")
    given = SYNONYMS.get(match[1].lower(), match[1].lower())
    suffix = next((suffix for suffix, type in TYPES.items() if type == given), None)
    if suffix is None:
        raise ModelportError(f"Unsupported media type: {match[1]}. {arch} reads {_read_by(arch, kind)}.")
    _must_read(arch, kind, suffix, f"data:{match[1]}")
    if len(match[2]) > MAX_BYTES * 4 // 3 + 4:
        raise ModelportError("A data: URI holds more than 512 MiB; no service takes that in a request.")
    try:
        base64.b64decode(match[2], validate=True)
    except binascii.Error:
        raise ModelportError("A data: URI is not base64.", param=f"{kind}_url") from None


def _must_read(arch: str, kind: Kind, suffix: str, shown: str) -> None:
    if suffix not in SUFFIXES[arch] or not TYPES[suffix].startswith(kind):
        raise ModelportError(f"{shown} is no {kind} that {arch} reads; it reads {_read_by(arch, kind)}.")


def _read_by(arch: str, kind: Kind) -> str:
    return ", ".join(suffix for suffix in SUFFIXES[arch] if TYPES[suffix].startswith(kind))
