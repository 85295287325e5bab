"""Form: what admission needs of a multipart body, which brings a recording. The body itself goes on as it came."""

import io
import math
import wave
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from modelport.errors import ModelportError
from modelport.gateway.scan import FORBIDDEN, Scan, Upload
from modelport.gateway.surface import INFERENCE

MAX_PARTS = 64
MAX_UPLOADS = 576
"""Pictures and fields of one request on TAO's route."""
MAX_FIELD_BYTES = 64 << 10
LOWEST_BITS_A_SECOND = 6000
"""Opus's lowest rate (RFC 6716, 2.1.1): nothing sounds longer for its bytes, so this bounds a recording's length."""
WINDOW_MS, WINDOW_TOKENS = 30_000, 448
"""Whisper's window, and the most tokens it makes of one."""
READ_ONCE = frozenset(("model", "stream", "file", "n"))


@dataclass(slots=True)
class _Part:
    name: str = ""
    is_file: bool = False
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)


def scan_form(body: bytes, content_type: bytes, *, needs_model: bool) -> Scan:
    """Read a form's `model` and `stream`, and how long its recording is at most. Raises ModelportError (400)."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ModelportError("This route takes multipart/form-data with a 'file', as OpenAI's does.")
    found: dict[str, _Part] = {}
    for part in _parts(body, boundary):
        if part.name in READ_ONCE and part.name in found:
            raise ModelportError(f"The form has the field '{part.name}' twice.", param=part.name)
        found[part.name] = part
    model = _text(found.get("model"), "model")
    if model is None and needs_model:
        raise ModelportError("The form lacks 'model', the name of the service to use.", param="model")
    if "file" not in found:
        raise ModelportError("The form lacks 'file', the recording.", param="file")
    audio_ms = _longest_ms(bytes(found["file"].data))
    stream = (_text(found.get("stream"), "stream") or "").lower() in ("true", "1")
    tokens = math.ceil(audio_ms / WINDOW_MS) * WINDOW_TOKENS
    return Scan(body, model, stream, audio_ms=audio_ms, max_tokens=tokens, asked_usage=True,
                forbidden=tuple(name for name in FORBIDDEN if name in found))  # fmt: skip


def scan_upload(body: bytes, content_type: bytes) -> Scan:
    """Read a form of pictures and fields for TAO's route. Raises ModelportError (400)."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ModelportError("This route takes JSON, or multipart/form-data with pictures as 'image'.")
    upload = Upload()
    for part in _parts(body, boundary, MAX_UPLOADS):
        name = part.name.removesuffix("[]")  # as PHP's and jQuery's forms write lists
        if part.is_file:
            upload.files.append(bytes(part.data))
        else:
            upload.texts.setdefault(name, []).append(_text(part, name) or "")
    caps: dict[str, int | None] = {}
    for name in INFERENCE.caps:
        for text in upload.texts.get(name, ()):
            if not text.isascii() or not text.isdigit() or len(text) > 9:
                raise ModelportError(f"'{name}' must be a whole number.", param=name)
            caps[name] = max(int(text), caps.get(name) or 0)
    return Scan(body, None, asked_usage=True, form=upload, caps=caps,
                max_tokens=max((cap for cap in caps.values() if cap is not None), default=None),
                forbidden=tuple(name for name in FORBIDDEN if name in upload.texts))  # fmt: skip


def _parts(body: bytes, boundary: bytes, most: int = MAX_PARTS) -> list[_Part]:
    parts: list[_Part] = []
    name, value = bytearray(), bytearray()
    ended = False

    def begin() -> None:
        if len(parts) >= most:
            raise ModelportError(f"The form has more than {most} parts.")
        parts.append(_Part())

    def header_end() -> None:
        parts[-1].headers.append((bytes(name).lower(), bytes(value)))
        name.clear()
        value.clear()

    def headers_end() -> None:
        part = parts[-1]
        _, options = parse_options_header(dict(part.headers).get(b"content-disposition", b""))
        part.name = options.get(b"name", b"").decode("utf-8", "replace")
        part.is_file = b"filename" in options

    def data(chunk: bytes, start: int, end: int) -> None:
        part = parts[-1]
        part.data += chunk[start:end]
        if part.name != "file" and not part.is_file and len(part.data) > MAX_FIELD_BYTES:
            raise ModelportError(f"The form's field '{part.name[:60]}' is larger than {MAX_FIELD_BYTES} bytes.")

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": lambda chunk, start, stop: name.extend(chunk[start:stop]),
                "on_header_value": lambda chunk, start, stop: value.extend(chunk[start:stop]),
                "on_header_end": header_end,
                "on_headers_finished": headers_end,
                "on_part_data": data,
                "on_end": end,
            },
        )
        parser.write(body)
    except MultipartParseError:
        ended = False
    if not ended:
        raise ModelportError("The form is not valid multipart/form-data.")
    return parts


def _text(part: _Part | None, name: str) -> str | None:
    if part is None:
        return None
    try:
        return bytes(part.data).decode()
    except UnicodeDecodeError:
        raise ModelportError(f"The form's field '{name}' is not valid UTF-8.", param=name) from None


def _longest_ms(recording: bytes) -> int:
    """How long it is: exactly for a WAV file whose header is true, else the longest that its bytes can be."""
    bound = math.ceil(len(recording) * 8000 / LOWEST_BITS_A_SECOND)
    try:
        with wave.open(io.BytesIO(recording)) as sound:
            bytes_a_second = sound.getframerate() * sound.getnchannels() * sound.getsampwidth()
    except (wave.Error, EOFError, ValueError):
        return bound
    return min(bound, math.ceil(len(recording) * 1000 / bytes_a_second)) if bytes_a_second else bound
