"""Journals as they lie on disk: what a gateway wrote down before and after each request, and how it is read again.

A journal is a directory of segments of JSON lines. A segment is named by the position of its first byte, so positions
grow over all segments and a record's end is where it stands for good, also when older segments are gone.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelport.domain.amounts import Amounts

SUFFIX = ".jsonl"
Charge = tuple[str, int, int]
"""A budget's id, when the period began, and steps of the budget's unit."""


class Head(msgspec.Struct):
    """The first record of a segment. Nothing before `needed` was open or waited for the store when it was written."""

    segment: int
    needed: int


class Open(msgspec.Struct):
    """A request that is about to be dispatched: its worst case, and what of which budgets is held for it."""

    open: str
    at: float
    key: str
    team: str
    service: str
    worst: Amounts
    holds: list[Charge]


class Done(msgspec.Struct):
    """The end of a request: what it took, what was charged, and its line of the request log as it was encoded."""

    done: str
    used: Amounts
    charges: list[Charge]
    line: msgspec.Raw


Record = Head | Open | Done
_DECODERS = {
    b'{"segment"': msgspec.json.Decoder(Head),
    b'{"open"': msgspec.json.Decoder(Open),
    b'{"done"': msgspec.json.Decoder(Done),
}
_encode = msgspec.json.Encoder().encode


def encoded(record: Record) -> bytes:
    """The record as its line."""
    return _encode(record) + b"\n"


@dataclass(frozen=True, slots=True)
class Segment:
    start: int
    end: int
    path: Path


def segments(directory: Path) -> list[Segment]:
    """The segments that are kept, oldest first. Raises OSError where the directory cannot be read."""
    found: list[Segment] = []
    for entry in os.scandir(directory):
        name = entry.name.removesuffix(SUFFIX)
        if name != entry.name and name.isdecimal():
            start = int(name)
            found.append(Segment(start, start + entry.stat().st_size, Path(entry.path)))
    return sorted(found, key=lambda segment: segment.start)


def segment_path(directory: Path, start: int) -> Path:
    return directory / f"{start:020}{SUFFIX}"


def gateway_of(directory: Path) -> str:
    """Whose journal it is. Raises OSError where it was never one."""
    return (directory / "id").read_text().strip()


def needed(directory: Path) -> int:
    """From where a replay has to read: what the newest segment says, else the oldest position that is kept."""
    kept = segments(directory)
    for segment in reversed(kept):
        with open(segment.path, "rb") as file:
            head = decoded(file.readline())
        if isinstance(head, Head):
            return head.needed
    return kept[0].start if kept else 0


def read(directory: Path, after: int = 0) -> Iterator[tuple[int, Record | None]]:
    """Each record that ends later than `after`, with the position of its end; None for a torn or damaged line."""
    for segment in segments(directory):
        if segment.end <= after:
            continue
        with open(segment.path, "rb") as file:
            at = segment.start
            if after > at:
                file.seek(after - at)
                at = after
            for line in file:
                at += len(line)
                yield at, decoded(line)


def decoded(line: bytes) -> Record | None:
    """The record of one whole line; None where it is not one."""
    decoder = _DECODERS.get(line[: line.find(b":")])
    if decoder is None or not line.endswith(b"\n"):
        return None
    try:
        line.decode()  # msgspec skips over what a Raw holds; bytes that are no text would only be met later
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
