# transformers and Pillow live in the runtime's own environment, not in the one that is type-checked.
# pyright: reportMissingImports=false
"""Prompt: a conversation as the token ids and pixels that a model takes, by its own chat template."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
from PIL import Image

from modelport.errors import INTERNAL, ModelportError
from modelport.runtime.handler import Call, Medium
from modelport.runtime.language import conversation, frames
from modelport.runtime.language.conversation import Turn
from modelport.runtime.language.frames import Clip
from modelport.runtime.pictures import read_picture

log = logging.getLogger("modelport.runtime")

FPS = 4.0
TOTAL_PIXELS = 6_422_528
"""cosmos-rl's defaults (infer_microservices.py): frames a second, and pixels of all frames of a video together."""
MOST_FRAMES = 128
MOST_FRAMES_AS_IMAGES = 16
"""Of a video for a model that knows only images, each of which takes as many tokens as a whole picture."""
VIDEO_KEYS = {"fps": (0.01, 60.0, FPS), "total_pixels": (3136, 200_000_000, TOTAL_PIXELS)}
"""Least, most, default. 3136 is four patches of 28 by 28."""


@dataclass(frozen=True, slots=True)
class Prompt:
    inputs: Any
    """A model's arguments, batch of one: a list of token ids, or the processor's tensors by name."""
    length: int
    """In tokens, those of images and frames with them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What `results` says of the media."""


class TextPrompts:
    """For models that take text alone."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        """A tokenizer is changed while it works, so it does one call at a time."""

    def read(self, call: Call) -> Prompt:
        """Raises ModelportError (400)."""
        turns = conversation.read(call)
        if call.media:
            raise ModelportError(f"This model reads text only; `{call.media[0].name}` cannot be shown to it.")
        with self._lock:
            if self._tokenizer.chat_template:
                text = render(self._tokenizer, [{"role": turn.role, "content": turn.text} for turn in turns])
                ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            else:
                ids = self._tokenizer(plain(turns))["input_ids"]
        if not ids:
            raise ModelportError("The prompt has no tokens in it.", param="prompt")
        return Prompt(ids, len(ids), {"total_images": 0, "total_videos": 0})


class MediaPrompts:
    """For models with a processor: text, images and videos."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._lock = threading.Lock()
        self._template = processor.chat_template or getattr(processor.tokenizer, "chat_template", None)
        if isinstance(self._template, dict):
            self._template = self._template.get("default")
        has_videos = getattr(processor, "video_processor", None) is not None
        self._videos = has_videos and "video" in (self._template or "")
        """Whether videos are given as such; else their frames go in as images."""
        names = (getattr(processor, name, None) for name in ("image_token", "video_token", "boi_token"))
        self._marks = tuple(name for name in names if isinstance(name, str) and name)

    def read(self, call: Call) -> Prompt:
        """Raises ModelportError (400)."""
        turns = conversation.read(call)
        self._unmarked(turns)
        asked = {key: _within(call.body, key, *span) for key, span in VIDEO_KEYS.items()}
        pictures: list[Any] = []
        notes: list[str] = []
        clips: list[Clip] = []
        messages: list[dict[str, Any]] = []
        for turn in turns:
            content: list[dict[str, Any]] = []
            for item in turn.items:
                if isinstance(item, str):
                    content.append({"type": "text", "text": item})
                elif item.kind == "image":
                    picture = read_picture(item.data, item.name, item.content_type)
                    pictures.append(picture.image)
                    notes += [f"{item.name}: {note}" for note in picture.notes]
                    content.append({"type": "image"})
                else:
                    clips.append(self._clip(item, asked, call.stopped))
                    if not self._videos:
                        pictures += _pictures(clips[-1])
                    marks = 1 if self._videos else len(clips[-1].frames)
                    content += [{"type": "video" if self._videos else "image"}] * marks
            messages.append({"role": turn.role, "content": content})
        with self._lock:
            inputs = self._process(turns, messages, pictures, clips if self._videos else [])
        facts: dict[str, Any] = {
            "total_images": sum(medium.kind == "image" for medium in call.media),
            "total_videos": len(clips),
        }
        if clips:
            facts["frames"] = [len(clip.frames) for clip in clips]
            facts["fps_used"] = [round(clip.fps, 3) for clip in clips]
            facts["total_pixels_used"] = [clip.pixels for clip in clips]
        if notes:
            facts["notes"] = notes
        return Prompt(inputs, inputs["input_ids"].shape[1], facts)

    def _process(self, turns: Sequence[Turn], messages: Any, pictures: list[Any], clips: list[Clip]) -> Any:
        if self._template:
            text = render(self._processor, messages, self._template)
        else:
            text = (self._processor.image_token + "\n") * len(pictures) + plain(turns)
        given: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        start = self._processor.tokenizer.bos_token
        if start and text.startswith(start):
            given["add_special_tokens"] = False
        if pictures:
            given["images"] = pictures
        if clips:
            given["videos"] = [clip.frames for clip in clips]
            given["video_metadata"] = [_metadata(clip) for clip in clips]
            given["do_sample_frames"] = False
        try:
            return self._processor(**given)
        except (ValueError, TypeError, IndexError, StopIteration) as error:
            log.exception("the model's processor failed")
            raise ModelportError(
                "The model's processor does not take these images or videos together with this text.", INTERNAL
            ) from error

    def _clip(self, medium: Medium, asked: Mapping[str, float], stopped: Callable[[], bool]) -> Clip:
        most = MOST_FRAMES if self._videos else MOST_FRAMES_AS_IMAGES
        return frames.clip(medium, asked["fps"], int(asked["total_pixels"]), most, stopped)

    def _unmarked(self, turns: Sequence[Turn]) -> None:
        """A text that holds a mark would be taken for a picture that is not there."""
        for mark in self._marks:
            if any(mark in turn.text for turn in turns):
                raise ModelportError(f"The text may not hold {mark!r}: it stands for an image or video to this model.")


def render(owner: Any, messages: Sequence[Mapping[str, Any]], template: str | None = None) -> str:
    """The text that a template makes of messages. Raises ModelportError (400): templates refuse what the model was not
    trained for, such as two turns of the user's in a row."""
    given = {} if template is None else {"chat_template": template}
    try:
        return owner.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)
    except jinja2.exceptions.TemplateError as error:
        log.info("the chat template refused a conversation: %s", error)
        raise ModelportError(
            "The model's chat template does not take this conversation. Many models want the user's and the "
            "assistant's turns to alternate, and some take no system message.",
            param="messages",
        ) from error


def plain(turns: Sequence[Turn]) -> str:
    """A prompt for a model that has no chat template. Raises ModelportError (400) for what needs one."""
    if any(turn.role == "assistant" for turn in turns) or sum(turn.role == "user" for turn in turns) != 1:
        raise ModelportError("This model has no chat template, so it takes one user's message only.", param="messages")
    return "\n\n".join(turn.text for turn in turns)


def _pictures(clip: Clip) -> list[Any]:
    return [Image.fromarray(frame) for frame in clip.frames]


def _metadata(clip: Clip) -> dict[str, Any]:
    """As if the frames that were taken were all there are, at the rate they were taken."""
    count, height, width = clip.frames.shape[:3]
    return {
        "total_num_frames": count,
        "fps": clip.fps,
        "frames_indices": list(range(count)),
        "duration": clip.duration_s,
        "width": width,
        "height": height,
    }


def _within(body: Mapping[str, Any], key: str, least: float, most: float, default: float) -> float:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise ModelportError(f"`{key}` must be a number from {least:,g} to {most:,g}, not {value!r:.60}.", param=key)
    return value
