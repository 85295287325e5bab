"""RequestLog: one JSON line for every request, without bodies and without keys."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

ROTATE_BYTES = 50 << 20
KEEP = 3
WAITING = 50_000
"""Lines kept in memory while the disk does not take them; later ones are dropped and counted."""
encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct):
    """One request. `id` is ours and unique; `request_id` is what the client was shown, maybe its own."""

    at: float
    id: str
    request_id: str
    key_id: str
    service: str
    service_id: str
    instance_id: str
    method: str
    route: str
    status: int
    stream: bool
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_s: float
    first_byte_s: float | None
    total_s: float

    def row(self) -> dict[str, object]:
        """The fields that the store's table of requests has."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in NOT_STORED}


NOT_STORED = frozenset(("request_id", "method", "stream"))


class RequestLog:
    """Lines wait here for `write`, which the store's thread calls: the loop never waits for the disk."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "requests.jsonl"
        self._lines: list[Line] = []

    def add(self, line: Line) -> bool:
        """False where it had to be dropped."""
        if len(self._lines) >= WAITING:
            return False
        self._lines.append(line)
        return True

    def take(self) -> list[Line]:
        lines, self._lines = self._lines, []
        return lines

    def write(self, lines: Sequence[Line]) -> None:
        """Append and rotate. Raises OSError, with nothing or part of it written."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            data = b"".join(encode(line) + b"\n" for line in lines)
            while data:
                data = data[os.write(file, data) :]
            size = os.fstat(file).st_size
        finally:
            os.close(file)
        if size > ROTATE_BYTES:
            self._rotate()

    def _rotate(self) -> None:
        older = [self._path.with_suffix(f".{n}.jsonl") for n in range(1, KEEP + 1)]
        for n in range(KEEP - 1, 0, -1):
            if older[n - 1].exists():
                older[n - 1].replace(older[n])
        self._path.replace(older[0])
