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
    """One request. `id` is ours and unique; `request_id` is what the client was shown, maybe its own. Amounts are in
    steps (domain/amounts.py); times in seconds."""

    id: str
    at: float
    request_id: str
    key_id: str
    team: str
    user: str
    service_id: str
    service: str
    instance_id: str
    model: str
    route: str
    method: str
    status: int
    stream: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    audio_ms: int = 0
    characters: int = 0
    images: int = 0
    gpu_ms: int = 0
    money_nano: int = 0
    estimated: bool = False
    queue_s: float = 0.0
    first_byte_s: float | None = None
    total_s: float = 0.0


class RequestLog:
    """Lines wait here for `write`, which the store's thread calls: the loop never waits for the disk."""

    def __init__(self, directory: Path, slot: int = 0) -> None:
        """`slot` is the gateway's beside others of this machine: each writes a file of its own."""
        self._path = directory / (f"requests-{slot}.jsonl" if slot else "requests.jsonl")
        self._lines: list[bytes] = []
        self._refused: list[bytes] = []

    def add(self, line: bytes, *, stored: bool) -> bool:
        """An encoded line; `stored` is one that the store gets from here, since the ledger has nothing to settle for
        it. False where it had to be dropped."""
        if len(self._lines) >= WAITING:
            return False
        self._lines.append(line)
        if stored:
            self._refused.append(line)
        return True

    def take(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        return lines

    def take_refused(self) -> list[bytes]:
        """Lines for the store of requests that a service refused before anything was reserved."""
        lines, self._refused = self._refused, []
        return lines

    def write(self, lines: Sequence[bytes]) -> None:
        """Append and rotate. Raises OSError, with nothing or part of it written."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            data = b"\n".join((*lines, b""))
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
