"""Bucket: copies the request log to an object store in batches, by obstore (the extra `cloud`), on a thread of its own.

One object a batch: `PREFIX/dt=2026-11-21/15/GATEWAY-STARTED-000001.jsonl.gz`, lines as in requests.jsonl, filed under
the UTC hour in which the batch began. Credentials, region and endpoint come from the environment, as for models. What
cannot be sent waits in memory, up to a bound, and is tried again; what is lost is counted as `bucket` in the metrics.
"""

import gzip
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from modelport import storage
from modelport.errors import ModelportError

EVERY_S = 60.0
BATCH_BYTES = 5 << 20
"""A batch is sent after either of these. Bytes are of lines as they are; gzip makes a tenth of them."""
WAITING_BYTES = 64 << 20
"""What may wait, compressed or not, while the store takes nothing; the oldest batch goes first."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
CLOSE_S = 15.0
ANSWER_S = 30
log = logging.getLogger("modelport.gateway")


@dataclass(frozen=True, slots=True)
class Batch:
    """One object to be."""

    path: str
    data: bytes
    lines: int


class Bucket:
    """Lines go in by `add`, from any thread. Raises ModelportError for a URL that names no bucket, and where obstore is
    missing."""

    def __init__(
        self,
        url: str,
        gateway_id: str,
        on_drop: Callable[[int], None],
        every_s: float = EVERY_S,
        batch_bytes: int = BATCH_BYTES,
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        """`on_drop` is told how many lines were lost."""
        self._store = _open(url)
        self._name = f"{gateway_id}-{int(time.time() * 1000):013d}"
        """With the start, so that a gateway that begins anew never writes over what it sent before."""
        self._on_drop = on_drop
        self._every_s = every_s
        self._batch_bytes = batch_bytes
        self._waiting_bytes = waiting_bytes
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._size = 0
        self._began = 0.0
        self._sealed: deque[Batch] = deque()
        self._sealed_bytes = 0
        self._count = 0
        self._retry_s = 0.0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="gateway-bucket", daemon=True)
        self._thread.start()

    def add(self, lines: Sequence[bytes]) -> None:
        """Lines of the request log, in their order."""
        if not lines:
            return
        size = sum(map(len, lines)) + len(lines)
        with self._lock:
            due = False
            refused = self._size + size > self._waiting_bytes
            if not refused:
                if not self._lines:
                    self._began = time.time()
                self._lines.extend(lines)
                self._size += size
                due = self._size >= self._batch_bytes
        if refused:  # the thread does not come along
            self._on_drop(len(lines))
        elif due:
            self._wake.set()

    def close(self) -> None:
        """Send what is left, within CLOSE_S; what the store does not take until then is lost. It blocks."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S)

    # On the thread

    def _run(self) -> None:
        while True:
            self._wake.wait(self._retry_s or self._every_s)
            closing = self._closing  # read first: what was added before it is sealed below
            self._wake.clear()
            self._seal()
            self._send(closing)
            if closing:
                return

    def _seal(self) -> None:
        with self._lock:
            lines, began = self._lines, self._began
            self._lines, self._size = [], 0
        if not lines:
            return
        self._count += 1
        hour = time.strftime("dt=%Y-%m-%d/%H", time.gmtime(began))
        data = gzip.compress(b"\n".join((*lines, b"")), 6)
        self._sealed.append(Batch(f"{hour}/{self._name}-{self._count:06d}.jsonl.gz", data, len(lines)))
        self._sealed_bytes += len(data)
        while self._sealed_bytes > self._waiting_bytes:
            self._lose()

    def _send(self, closing: bool) -> None:
        """What is sealed, the oldest first, until the store refuses one. A name is a batch's own, so that one that had
        arrived and is sent again is the same object."""
        while self._sealed:
            batch = self._sealed[0]
            if (why := self._put(batch)) is None:
                self._sealed.popleft()
                self._sealed_bytes -= len(batch.data)
                self._retry_s = 0.0
                continue
            if not self._retry_s:
                log.error("the request log cannot be copied to its bucket (%s)", why)
            self._retry_s = min(LONGEST_RETRY_S, 2 * self._retry_s or FIRST_RETRY_S)
            break
        while closing and self._sealed:
            self._lose()

    def _put(self, batch: Batch) -> str | None:
        """None, or the name of what went wrong: obstore's own texts hold addresses and requests."""
        import obstore

        try:
            obstore.put(self._store, batch.path, batch.data, attributes={"Content-Type": "application/gzip"})
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise  # pyo3's is no Exception, and Python has no name to catch it by
            return type(error).__name__
        return None

    def _lose(self) -> None:
        batch = self._sealed.popleft()
        self._sealed_bytes -= len(batch.data)
        self._on_drop(batch.lines)


def _open(url: str) -> Any:
    if not storage.is_cloud(url) or not url.partition("://")[2].partition("/")[0]:
        raise ModelportError(f"log_bucket is {url!r}; write it like s3://bucket/directory, gs://… or az://container/….")
    if find_spec("obstore") is None:
        raise ModelportError("log_bucket needs a package that is not installed: pip install 'modelport[cloud]'.")
    from obstore.exceptions import BaseError

    try:
        return storage.store(url, answer_s=ANSWER_S)
    except (BaseError, ValueError) as error:
        raise ModelportError(
            f"log_bucket {url!r} cannot be opened ({type(error).__name__}): check the credentials and the endpoint in "
            "the environment."
        ) from None
