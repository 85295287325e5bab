"""Body: what a request brings, as one object: JSON, or a form with uploads."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, cast

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from modelport.errors import TOO_LARGE, ModelportError
from modelport.runtime.inputs import FIELDS, MAX_ITEMS, MAX_TOTAL_BYTES, Item, named

REQUIRED = "Request body is required"
MAX_BODY_BYTES = MAX_TOTAL_BYTES * 3 // 2
"""Base64 of the most that media may be, and some text."""
MAX_FIELDS = 200
MAX_FIELD_BYTES = 16 << 20
INLINE_BYTES = 1 << 20
"""JSON longer than this is parsed beside the event loop."""
TEXTS = frozenset(("prompt", "text", "system_prompt", "negative_prompt", "stop"))
"""Fields of a form that are text even where they look like a number."""


async def read(request: Request, more: Callable[[int], None]) -> dict[str, Any]:
    """The body; uploads are Items in it. `more` hears of its bytes before they are kept. Raises ModelportError."""
    stream = _capped(request, more)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await _form(request, stream)
    raw = b"".join([part async for part in stream])
    if not raw.strip():
        raise ModelportError(REQUIRED)
    found = await asyncio.to_thread(_parse, raw) if len(raw) > INLINE_BYTES else _parse(raw)
    if found in ({}, None):
        raise ModelportError(REQUIRED)
    if not isinstance(found, dict):
        raise ModelportError("The request body must be a JSON object.")
    return cast(dict[str, Any], found)


async def _capped(request: Request, more: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "0")
    too_large = ModelportError(f"A request body may have {MAX_BODY_BYTES >> 20} MiB.", TOO_LARGE)
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > MAX_BODY_BYTES:
            raise too_large
        more(len(part))
        yield part


def _parse(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ModelportError("The request body is not valid JSON.") from None


async def _form(request: Request, stream: AsyncGenerator[bytes, None]) -> dict[str, Any]:
    parser = MultiPartParser(
        request.headers, stream, max_files=MAX_ITEMS, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError):
        raise ModelportError(
            f"The form could not be read; it may have {MAX_ITEMS} files and {MAX_FIELDS} fields."
        ) from None
    found: dict[str, list[Any]] = {}
    try:
        for field, value in form.multi_items():
            key = field.removesuffix("[]")
            found.setdefault(key, []).append(await _upload(key, value) if isinstance(value, UploadFile) else value)
    finally:
        await form.close()
    if not found:
        raise ModelportError(REQUIRED)
    return {key: values if key in FIELDS else _typed(key, values) for key, values in found.items()}


async def _upload(key: str, upload: UploadFile) -> Item:
    if key not in FIELDS:
        raise ModelportError(f"An upload must be in the field images, files or media, not {key[:80]!r}.", param=key)
    kind = (upload.content_type or "").partition(";")[0].lower()
    name = named(upload.filename or "") or key
    return Item(name, await upload.read(), FIELDS[key], kind if kind.startswith(("image/", "video/")) else "")


def _typed(key: str, values: list[str]) -> Any:
    """A field that stands once is its value, typed as JSON has it; one that stands several times is a list."""
    found = [value if key in TEXTS else _json(value) for value in values]
    return found[0] if len(found) == 1 else found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
