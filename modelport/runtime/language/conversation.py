"""Conversation: a call's messages and media as chat templates take them, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from modelport.errors import ModelportError
from modelport.runtime.handler import Call, Medium

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""OpenAI's roles, and what templates call them. Tools are not offered, so there are no tools' messages."""
TEXT_ITEMS = ("text", "input_text")
MEDIA_ITEMS = ("image", "video")


@dataclass(frozen=True, slots=True)
class Turn:
    role: str
    items: tuple["str | Medium", ...]
    """Texts and media in their order."""

    @property
    def text(self) -> str:
        return "\n".join(item for item in self.items if isinstance(item, str))


def read(call: Call) -> list[Turn]:
    """Chat's messages; else `prompt` (or `text`) with the media before it; after `system_prompt` in both cases.

    Raises ModelportError (400).
    """
    media = [medium for medium in call.media if medium.kind in MEDIA_ITEMS]
    if len(media) < len(call.media):
        odd = next(medium for medium in call.media if medium.kind not in MEDIA_ITEMS)
        raise ModelportError(f"`{odd.name}` is neither an image nor a video.")
    turns = _messages(call.messages, media) if call.messages else [_asked(call.body, media)]
    system = call.body.get("system_prompt")
    if system is not None and not isinstance(system, str):
        raise ModelportError("`system_prompt` must be text.", param="system_prompt")
    if system and turns[0].role != "system":
        turns.insert(0, Turn("system", (system,)))
    return turns


def _asked(body: Mapping[str, Any], media: Sequence[Medium]) -> Turn:
    key = "prompt" if body.get("prompt") is not None else "text"
    prompt = body.get(key)
    if not isinstance(prompt, str) or not prompt:
        raise ModelportError("`prompt` (or `text`) is required, and must be text that is not empty.", param="prompt")
    return Turn("user", (*media, prompt))


def _messages(messages: Sequence[Mapping[str, Any]], media: Sequence[Medium]) -> list[Turn]:
    left = list(media)
    turns = [_turn(index, message, left) for index, message in enumerate(messages)]
    if left:
        raise ModelportError(f"{len(left)} of the images and videos have no place in `messages`.", param="messages")
    if turns[-1].role != "user":
        raise ModelportError("The last message must be the user's.", param="messages")
    return turns


def _turn(index: int, message: Mapping[str, Any], left: list[Medium]) -> Turn:
    role = ROLES.get(str(message.get("role")))
    if role is None:
        raise ModelportError(
            f"`messages[{index}].role` is one of {', '.join(ROLES)}, not {str(message.get('role'))[:40]!r}.",
            param="messages",
        )
    content = message.get("content")
    if content is None or isinstance(content, str):
        return Turn(role, (content,) if content else ())
    wrong = ModelportError(
        f"`messages[{index}].content` must be text, or a list of text, images and videos.", param="messages"
    )
    if not isinstance(content, list):
        raise wrong
    items: list[str | Medium] = []
    for item in cast(list[object], content):
        fields = cast(Mapping[str, object], item) if isinstance(item, Mapping) else {}
        kind, text = fields.get("type"), fields.get("text")
        if kind in TEXT_ITEMS and isinstance(text, str):
            items.append(text)
        elif kind in MEDIA_ITEMS and left and left[0].kind == kind:
            items.append(left.pop(0))
        else:
            raise wrong
    return Turn(role, tuple(items))
