# torch, PyAV and the like live in the runtime's own environment, not in the one that is type-checked.
# pyright: reportMissingImports=false
"""Frames: a video's pictures at even times, few and small enough for a model.

Videos come from strangers, and some formats are playlists that name other files or addresses: only the formats of
FORMATS are opened, and nothing beside the bytes that came is ever read.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from modelport.errors import ModelportError
from modelport.runtime.handler import Medium

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""FFmpeg's names of the containers for mp4, mov, mkv, webm and avi, as TAO's cosmos-rl has them."""
MAX_SIDE_PIXELS = 8192
MAX_DURATION_S = 3600.0
LEAST_FRAME_PIXELS = 28 * 28
"""One patch of Qwen-VL's, the smallest picture that such a model sees."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What was taken of a video."""

    frames: Any
    """numpy, uint8: count, height, width, RGB."""
    fps: float
    """Frames taken in a second of the video."""
    duration_s: float

    @property
    def pixels(self) -> int:
        count, height, width = self.frames.shape[:3]
        return count * height * width


def clip(medium: Medium, fps: float, total_pixels: int, most: int, stopped: Callable[[], bool]) -> Clip:
    """`fps` frames a second, evenly; `most` of them where that would be more. They are made smaller, never larger, so
    that all together have at most `total_pixels`. Raises ModelportError (400)."""
    try:
        with av.open(
            io.BytesIO(medium.data), options={"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        ) as container:
            return _clip(medium, container, fps, total_pixels, most, stopped)
    except (av.FFmpegError, ValueError, EOFError, IndexError):
        raise ModelportError(
            f"`{medium.name}` cannot be read as a video. It must be a whole mp4, mov, mkv, webm or avi file."
        ) from None


def _clip(
    medium: Medium, container: Any, fps: float, total_pixels: int, most: int, stopped: Callable[[], bool]
) -> Clip:
    if not container.streams.video:
        raise ModelportError(f"`{medium.name}` has no pictures in it, only sound.")
    stream = container.streams.video[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    if not 0 < max(width, height) <= MAX_SIDE_PIXELS:
        raise ModelportError(
            f"`{medium.name}` is {width} by {height} pixels; a side of a video may have {MAX_SIDE_PIXELS}."
        )
    duration_s = _duration_s(container, stream)
    if duration_s > MAX_DURATION_S:
        raise ModelportError(
            f"`{medium.name}` is {duration_s:,.0f} s long; a video may have {MAX_DURATION_S:,.0f} s. Send a part of it."
        )
    count = min(most, max(1, int(duration_s * fps)))
    frame_pixels = total_pixels // count
    if frame_pixels < LEAST_FRAME_PIXELS:
        raise ModelportError(
            f"`total_pixels` of {total_pixels:,} leaves {frame_pixels} for each of the {count} frames of "
            f"`{medium.name}`, and a frame needs {LEAST_FRAME_PIXELS}. Raise it, or lower `fps`.",
            param="total_pixels",
        )
    stream.thread_type = "AUTO"
    size = _size(width, height, frame_pixels)
    taken: list[Any] = []
    start_s = 0.0
    for frame in container.decode(stream):
        if stopped():
            raise ModelportError("Nobody waits for this answer any more.")
        if max(frame.width, frame.height) > MAX_SIDE_PIXELS:
            raise ModelportError(f"`{medium.name}` has a frame of {frame.width} by {frame.height} pixels, too large.")
        at_s: float = frame.time if frame.time is not None else len(taken) / fps
        if not taken:
            start_s = at_s
        if at_s - start_s + 1e-6 < len(taken) * duration_s / count:
            continue
        picture = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
        taken.append(np.rot90(picture, k=round(frame.rotation / 90) % 4))
        if len(taken) == count:
            break
    if not taken:
        raise ModelportError(f"`{medium.name}` has no frame that can be read.")
    duration_s = duration_s or 1 / fps
    return Clip(np.stack(taken), len(taken) / duration_s, duration_s)


def _duration_s(container: Any, stream: Any) -> float:
    """As the file says, else by the last packet: streams that were recorded live do not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return container.duration / 1_000_000  # AV_TIME_BASE
    ends = [
        float((packet.pts + (packet.duration or 0)) * packet.time_base)
        for packet in container.demux(stream)
        if packet.pts is not None
    ]
    container.seek(0)
    return max(ends, default=0.0)


def _size(width: int, height: int, most_pixels: int) -> tuple[int, int]:
    """The same shape with at most so many pixels."""
    scale = min(1.0, (most_pixels / (width * height)) ** 0.5)
    return max(1, int(width * scale)), max(1, int(height * scale))
