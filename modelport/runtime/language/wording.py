"""Wording: token ids to text as they come, never half a character, and ended at a stop string."""

from collections.abc import Callable, Sequence

MOST_HELD_TOKENS = 16
"""A character has at most 4 bytes, so a text that still ends in no character after so many tokens never will."""
HALF = "�"


class Wording:
    """The text of one answer. `decode` makes text of ids, without special tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self._ids: list[int] = []
        self._from = self._told = 0
        """Ids from which is decoded (some before, since a word's space depends on them), and ids that are told."""
        self._held = ""
        """Text that may be the beginning of a stop string."""
        self.text = ""
        self.stopped = False
        """Whether a stop string came; nothing is said after it."""

    def add(self, token: int) -> str:
        """The text that is sure now; often none."""
        self._ids.append(token)
        before = self._decode(self._ids[self._from : self._told])
        now = self._decode(self._ids[self._from :])
        waits = now.endswith(HALF) and len(self._ids) - self._told < MOST_HELD_TOKENS
        if len(now) <= len(before) or waits:
            return ""
        self._from, self._told = self._told, len(self._ids)
        return self._say(now[len(before) :])

    def end(self) -> str:
        """What was held back, when no more tokens come; half a character is left out."""
        before = self._decode(self._ids[self._from : self._told])
        rest = self._decode(self._ids[self._from :])[len(before) :].rstrip(HALF)
        said = self._say(rest)
        if self.stopped:
            return said
        held, self._held = self._held, ""
        self.text += held
        return said + held

    def _say(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        cut = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if cut is not None:
            self.stopped, self._held = True, ""
            text = text[:cut]
        else:
            keep = max((_overlap(text, stop) for stop in self._stops), default=0)
            self._held = text[len(text) - keep :]
            text = text[: len(text) - keep]
        self.text += text
        return text


def _overlap(text: str, stop: str) -> int:
    """How many of the text's last characters are a beginning of the stop string."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)
