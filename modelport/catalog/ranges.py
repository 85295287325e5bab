"""Window: the start of a file somewhere else, read by ranges in few requests and within a cap on bytes."""

from collections.abc import Callable

from modelport.errors import ModelportError

FIRST_BYTES = 64 << 10
"""Read at once with the first request: holds the safetensors header of a dense model's shard (10 to 60 kB)."""
MOST_BYTES = 96 << 20
"""Of one header; a GGUF header with its tokenizer has 1 to 15 MiB (gguf.py allows files on this disk 128 MiB)."""


class Window:
    """A remote file as header readers want it: `size` and `read_at`.

    `fetch(start, count)` is one request. It is asked for at least `first_bytes` when reading begins, and never past the
    end of the file. What was fetched last is kept, so that reading forward costs no byte twice.
    """

    def __init__(
        self, fetch: Callable[[int, int], bytes], size: int, name: str = "", *, first_bytes: int = FIRST_BYTES
    ) -> None:
        self.fetch, self.size, self.name, self.first_bytes = fetch, size, name, first_bytes
        self.fetched_bytes = 0
        self._start, self._chunk = 0, b""

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on; fewer at the end of the file.

        Raises ModelportError when the header goes on beyond MOST_BYTES, and what `fetch` raises.
        """
        count = max(0, min(count, self.size - offset))
        begin = offset - self._start
        if not 0 <= begin <= len(self._chunk):
            self._start, self._chunk, begin = offset, b"", 0
        missing = begin + count - len(self._chunk)
        if missing > 0:
            at = self._start + len(self._chunk)
            more = max(missing, self.first_bytes - self.fetched_bytes)
            got = self._fetch(at, min(more, self.size - at))
            self._start, self._chunk, begin = offset, self._chunk[begin:] + got, 0
        return self._chunk[begin : begin + count]

    def _fetch(self, start: int, count: int) -> bytes:
        if self.fetched_bytes + count > MOST_BYTES:
            raise ModelportError(
                f"{self.name!r} has a header of more than {MOST_BYTES >> 20} MiB, which is not read from afar; "
                "download the file and name its path.",
                param="model",
            )
        self.fetched_bytes += count
        return self.fetch(start, count)
