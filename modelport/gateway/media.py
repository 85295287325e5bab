"""Media: the images, sounds, videos and files in a request: found, counted, capped, and never fetched by an engine.

They come as base64 in the body. An address is fetched by the gateway where the policy has it, and replaced by what was
found there; everything else that an engine might take for an address, or for a path on its own disk, is refused.
"""

import asyncio
import binascii
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from modelport.errors import TOO_LARGE, ModelportError
from modelport.gateway.scan import Upload
from modelport.media.fetch import Network, fetch
from modelport.media.picture import Short, size

Kind = Literal["image", "audio", "video", "file", "media"]
"""`media` is a picture or a video: its first bytes tell which."""
FIELDS: dict[str, Kind] = {
    "image_url": "image", "video_url": "video", "audio_url": "audio", "file_url": "file",  # OpenAI, vLLM, SGLang
    "input_audio": "audio", "file_data": "file",  # OpenAI
    "source": "file",  # Anthropic; its own `type` and `media_type` say more
    "image": "image", "video": "video", "audio": "audio",  # as chat templates have them
    "image_data": "image", "video_data": "video", "audio_data": "audio",  # SGLang's /generate
    "images": "image", "videos": "video", "audios": "audio", "multimodal_data": "image",  # llama.cpp
}  # fmt: skip
"""Keys that hold media, by any engine's reading, whatever the `type` beside them says: vLLM reads them without one.

A value is the text itself, a list of such values, or an object with the text under one of TEXTS.
"""
TEXTS = ("url", "data", "path")
TENSORS = frozenset(("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds"))
"""Serialized tensors, which an engine would unpickle or trust (CVE-2025-62164)."""
NOT_CONTENT = frozenset(
    ("tools", "functions", "tool_calls", "arguments", "response_format", "json_schema", "schema", "metadata")
)
"""Keys below which names are the client's own: JSON schemas and arguments of tools."""
STARTS: dict[Kind, tuple[tuple[int, bytes], ...]] = {
    "audio": (
        (8, b"WAVE"), (0, b"OggS"), (0, b"fLaC"), (0, b"ID3"), (4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AIFF"),
        *((0, bytes((0xFF, second))) for second in (0xE2, 0xE3, 0xF1, 0xF2, 0xF3, 0xF9, 0xFA, 0xFB)),  # MP3, AAC
    ),
    "video": (
        (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "),
        (0, b"OggS"), (0, b"FLV"), (0, b"GIF8"), (0, b"\0\0\x01\xba"), (0, b"\0\0\x01\xb3"),
    ),
}  # fmt: skip
"""Where which bytes tell that it is sound or video at all, and not a path that happens to be legal base64."""
TAO_FIELDS: dict[str, Kind] = {**FIELDS, "media": "media", "files": "media", "file": "media", "input": "media"}
"""On TAO's own route."""
CLOUDS = ("s3://", "aws://", "az://", "azure://", "gs://")
FORMATS = {
    "media": "a picture (PNG, JPEG, GIF, WebP, BMP, TIFF) or a video file",
    "image": "a PNG, JPEG, GIF, WebP, BMP or TIFF picture",
    "audio": "a sound file",
    "video": "a video file",
}
HEAD_CHARS = (1 << 16, 1 << 20, None)
"""How much base64 is decoded to find a picture's size: some hold a large profile or a thumbnail first."""


@dataclass(frozen=True, slots=True)
class MediaPolicy:
    """What media a request may bring. Bytes are after base64 and for all of a request together, pixels for each image,
    `timeout_s` for all that is fetched for one request. `hosts` matters where `urls` is "listed"."""

    urls: Literal["off", "listed", "any"] = "off"
    hosts: tuple[str, ...] = ()
    max_items: int = 32
    max_bytes: int = 20 << 20
    max_pixels: int = 50_000_000
    timeout_s: float = 10.0
    fields: Mapping[str, Kind] = field(default_factory=lambda: FIELDS)
    clouds: bool = False
    """Whether addresses in object stores go on as they are, to an engine that reads its own workspace's."""
    network: Network = field(default_factory=Network)


@dataclass(slots=True)
class MediaCount:
    """What a request brought, for caps and for accounting: how many, and bytes after base64."""

    images: int = 0
    pixels: int = 0
    audios: int = 0
    audio_bytes: int = 0
    videos: int = 0
    video_bytes: int = 0
    files: int = 0
    total_bytes: int = 0

    @property
    def items(self) -> int:
        return self.images + self.audios + self.videos + self.files


@dataclass(slots=True)
class _Item:
    """One text that stands for media, and where it stands."""

    kind: Kind
    name: str
    holder: Any
    key: Any
    text: str
    anthropic: bool = False
    shown: str = ""
    """Its name in errors, where it stands in a list: `images[2]`."""

    def put(self, content_type: str, data: bytes) -> None:
        text = b64encode(data).decode()
        if self.anthropic:
            self.holder.pop("url")
            self.holder.update(type="base64", media_type=content_type, data=text)
        else:
            self.holder[self.key] = f"data:{content_type};base64,{text}"


async def admit_media(body: dict[str, Any], policy: MediaPolicy) -> tuple[bool, MediaCount]:
    """Check every medium of a decoded body. Whether the body must be written anew, and what it brings.

    That is so where there are any media, even if nothing was replaced: of a key that stands twice, the engine must not
    read the one that was not looked at. Raises ModelportError: 400 for what is not allowed, 413 for too many bytes.
    """
    count = MediaCount()
    # Of what is too much, only so much is looked for.
    items = list(islice(find(body, policy.fields), policy.max_items + 1))
    deadline = time.monotonic() + policy.timeout_s
    for item in items:
        if count.items >= policy.max_items:
            raise _too_many(policy)
        await _admit(item, policy, count, deadline)
    return bool(items), count


async def admit_upload(upload: Upload, policy: MediaPolicy) -> int:
    """Check every file of a form and every text that stands for media; how many there are. A form goes on as it came,
    so an address in it is refused. Raises ModelportError as `admit_media`."""
    _, count = await admit_media({**upload.texts}, replace(policy, urls="off"))
    holder = {"file": ""}
    for data in upload.files:
        item = _Item("media", "file", holder, "file", "")
        if count.items >= policy.max_items:
            raise _too_many(policy)
        if count.total_bytes + len(data) > policy.max_bytes:
            raise _too_large(item, policy)
        try:
            _check(item, data, len(data), policy, count)
        except Short:
            raise _refused(item, f"is not {FORMATS['media']}.") from None
    return count.items


def find(body: dict[str, Any], fields: Mapping[str, Kind] = FIELDS) -> Iterator[_Item]:
    """Every text of a body that stands for media, in no particular order. Raises ModelportError (400) for tensors."""
    waiting: list[Any] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += [part for part in value if isinstance(part, dict | list)]
            continue
        for key, inner in value.items():
            if key in TENSORS:
                raise ModelportError(f"'{key}' is not taken: a request may not bring tensors.", param=key)
            argued = key == "input" and "input" not in fields and value.get("type") == "tool_use"
            if key in NOT_CONTENT or argued:
                continue
            if key == "source" and isinstance(inner, dict):
                yield from _source(inner)
            elif key in fields and key != "source":
                yield from _texts(fields[key], key, value, key)
            if isinstance(inner, dict | list):
                waiting.append(inner)


def _texts(kind: Kind, name: str, holder: Any, key: Any) -> Iterator[_Item]:
    waiting = [(holder, key, name)]
    while waiting:
        holder, key, shown = waiting.pop()
        value = holder[key]
        if isinstance(value, str):
            yield _Item(kind, name, holder, key, value, shown=shown)
        elif isinstance(value, list):
            waiting += [(value, index, f"{shown}[{index}]") for index in range(len(value))]
        elif isinstance(value, dict):
            waiting += [(value, text, shown) for text in TEXTS if isinstance(value.get(text), str)]


def _source(source: dict[str, Any]) -> Iterator[_Item]:
    """Anthropic's: base64 with a media type, or a URL. Text and ids of files are no media."""
    declared = str(source.get("media_type", "")).partition("/")[0]
    kind: Kind = "audio" if declared == "audio" else "video" if declared == "video" else "image"
    if isinstance(url := source.get("url"), str):
        yield _Item(kind, "source", source, "url", url, anthropic=True)
    if isinstance(data := source.get("data"), str) and source.get("type") != "text":
        yield _Item("file" if declared == "application" else kind, "source", source, "data", data)


async def _admit(item: _Item, policy: MediaPolicy, count: MediaCount, deadline: float) -> None:
    """Check and count one, and put what it holds in the place of an address."""
    text = item.text
    if text.startswith("data:"):
        head, comma, _ = text[:200].partition(",")
        if not comma or not head.endswith(";base64"):
            raise _refused(item, "must be a data: URL of base64, as data:image/png;base64,…")
        _count(item, text, len(head) + 1, policy, count)
        return
    if item.key != "url" and not item.name.endswith("_url") and ":" not in text:
        _count(item, text, 0, policy, count)
        return
    if policy.clouds and text.startswith(CLOUDS):
        count.files += 1
        return
    if text.startswith(CLOUDS):
        raise _refused(item, "is in an object store, which only a service with a `workspace` reads: start it with one.")
    if policy.urls == "off":
        raise _refused(item, "must be a data: URL of base64; this gateway fetches no addresses.")
    if item.kind == "file" or item.key == "data" or not text.startswith(("http://", "https://")):
        raise _refused(item, "must be base64, or for images, sounds and videos an http or https address.")
    hosts = policy.hosts if policy.urls == "listed" else None
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            left = policy.max_bytes - count.total_bytes
            content_type, data = await fetch(text, item.kind, left, hosts, policy.network)
    except TimeoutError:
        raise _refused(item, f"could not be fetched within {policy.timeout_s:g} s.") from None
    try:
        _check(item, data, len(data), policy, count)
    except Short:
        raise _refused(item, f"is not {FORMATS[item.kind]}.") from None
    item.put(content_type, data)


def _count(item: _Item, text: str, start: int, policy: MediaPolicy, count: MediaCount) -> None:
    """Check and count base64 that begins at `start` of a text."""
    length = (len(text) - start) * 3 // 4 - text[-2:].count("=")
    if count.total_bytes + length > policy.max_bytes:
        raise _too_large(item, policy)
    for chars in HEAD_CHARS:
        part = text[start:] if chars is None else text[start : start + chars]
        try:
            data = binascii.a2b_base64(part, strict_mode=True)
            _check(item, data, length, policy, count)
            return
        except ValueError:  # binascii.Error is one
            raise _refused(item, "is not valid base64.") from None
        except Short:
            if len(part) == len(text) - start:
                break
    raise _refused(item, f"is not {FORMATS['image']}.")


def _check(item: _Item, data: bytes, length: int, policy: MediaPolicy, count: MediaCount) -> None:
    """Count one medium of `length` bytes by its first bytes. Raises ModelportError, and Short where they do not do."""
    kind = item.kind
    if kind == "media":
        kind = "image" if size(data) is not None or not _is(data, "video") else "video"
    if kind == "image":
        found = size(data)
        if found is None:
            raise _refused(item, f"is not {FORMATS[kind]}.")
        pixels = found[0] * found[1]
        if pixels > policy.max_pixels:
            raise _refused(item, f"has {found[0]} × {found[1]} pixels, above the limit of {policy.max_pixels}.")
        count.images += 1
        count.pixels += pixels
    elif kind == "file":
        count.files += 1
    elif not _is(data, kind):
        raise _refused(item, f"is not {FORMATS[kind]}.")
    elif kind == "audio":
        count.audios += 1
        count.audio_bytes += length
    else:
        count.videos += 1
        count.video_bytes += length
    count.total_bytes += length


def _too_many(policy: MediaPolicy) -> ModelportError:
    return ModelportError(f"A request may have {policy.max_items} images, sounds, videos and files.")


def _too_large(item: _Item, policy: MediaPolicy) -> ModelportError:
    return ModelportError(
        f"The media of a request may have {policy.max_bytes} bytes together.", TOO_LARGE, param=item.name
    )


def _is(data: bytes, kind: Kind) -> bool:
    return any(data[at : at + len(sign)] == sign for at, sign in STARTS[kind])


def _refused(item: _Item, why: str) -> ModelportError:
    name = item.shown or item.name
    return ModelportError(f"'{name}' {why}", param=name)
