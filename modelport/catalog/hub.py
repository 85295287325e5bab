"""Hub: the Hugging Face Hub, or a mirror of it, asked for a model's description and for ranges of its files.

Token and its places are huggingface_hub's (HF_TOKEN, HUGGING_FACE_HUB_TOKEN, `hf auth login`). The requests are our own
so that each is bounded in bytes and all together in time, which the library's are not: a server that sends one byte a
second, be it of a header, redirects without end, a terabyte, or the whole file where a range was asked for, ends in a
sentence. They run in an event loop on a thread of its own, where whatever a request waits for can be broken off.
"""

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from typing import cast
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from modelport.catalog.hub_name import DEFAULT_REVISION, HubName
from modelport.catalog.hub_refusal import refusal
from modelport.catalog.repository import Repository, Unreachable
from modelport.errors import BUSY, FORBIDDEN, ModelportError

DEFAULT_ENDPOINT = "https://huggingface.co"
CONNECT_S = 5.0
SILENCE_S = 10.0
CLOSE_S = 2.0
TOTAL_S = 60.0
"""Of everything that one model is asked for."""
ATTEMPTS = 2
"""At one request, where the connection broke or the server said 5xx."""
PAUSE_S = 0.3
MOST_API_BYTES = 16 << 20
"""Of a repository's description: 200 bytes a file, so 80,000 files."""
MOST_FILES = 100_000

_YES = frozenset({"1", "on", "yes", "true"})  # huggingface_hub's constants.ENV_VARS_TRUE_VALUES
# Both end up in an engine's command, where a word with a dash in front would be an option.
_SHA = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,63}")
_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
# A name becomes part of a path: none may lead out of its directory.
_FILE = re.compile(r"(?!/)(?!(?:.*/)?\.\.?(?:/|$))[^\x00-\x1f\\]{1,1024}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


class _File(msgspec.Struct):
    rfilename: str
    size: int | None = None


class _Description(msgspec.Struct):
    """What `/api/models/{id}` answers, as far as it is used."""

    id: str
    sha: str
    siblings: list[_File] = msgspec.field(default_factory=list)
    tags: list[str] = msgspec.field(default_factory=list)
    gated: bool | str = False
    config: dict[str, object] | None = None


class Hub:
    """One look at the Hub: an endpoint, a token, and a deadline for all requests. Use it as a context manager."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        try:
            parts = urlsplit(self.endpoint)
            port = f":{parts.port}" if parts.port else ""
            httpx.URL(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname or set("?#") & set(self.endpoint):
                raise ValueError
        except (ValueError, httpx.InvalidURL):  # also a port that is no number, a bracket too few
            raise ModelportError("HF_ENDPOINT is not a URL like https://huggingface.co.", param="model") from None
        self.shown = f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
        """The endpoint as messages name it, without a user and password."""
        switch = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if environ.get(name)), "")
        self.offline = switch if environ.get(switch, "").lower() in _YES else ""
        """The variable that forbids requests, or empty."""
        self._deadline = time.monotonic() + TOTAL_S
        self._token = ""
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: object) -> None:
        if self._client and self._loop:
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result(CLOSE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)

    def sha(self, name: HubName) -> str:
        """The commit that the revision is now. One small request. Raises ModelportError; Unreachable without answer."""
        url = f"/api/models/{name.repository}/revision/{quote(name.revision or DEFAULT_REVISION, safe='')}?expand=sha"
        return self._described(name, url).sha

    def repository(self, name: HubName) -> Repository:
        """The files of a revision and what else the Hub knows of it. Raises as `sha` does."""
        url = f"/api/models/{name.repository}/revision/{quote(name.revision or DEFAULT_REVISION, safe='')}?blobs=true"
        found = self._described(name, url)
        config = found.config or {}
        tokenizer = config.get("tokenizer_config")
        here = HubName(found.id, found.sha)
        return Repository(
            path=found.id,
            revision=found.sha,
            files={f.rfilename: max(0, f.size or 0) for f in found.siblings[:MOST_FILES] if _usable(f.rfilename)},
            read=lambda file, start, count: self.read(here, file, start, count),
            licence=next((tag[8:] for tag in found.tags if tag.startswith("license:")), ""),
            gated=bool(found.gated),
            chat_template=bool(isinstance(tokenizer, dict) and tokenizer.get("chat_template")),
        )

    def read(self, name: HubName, file: str, start: int, count: int) -> bytes:
        """`count` bytes of a file from `start` on. Raises ModelportError; Unreachable without a whole answer."""
        url = f"/{name.repository}/resolve/{quote(name.revision, safe='')}/{quote(file)}"
        return self._get(name, url, start, count, file)

    def _described(self, name: HubName, url: str) -> _Description:
        try:
            found = msgspec.json.decode(self._get(name, url, 0, MOST_API_BYTES), type=_Description)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unreachable(f"{self.shown} answered for {str(name)!r} with what is no model's description.") from None
        if not _SHA.fullmatch(found.sha) or not _ID.fullmatch(found.id):
            raise Unreachable(f"{self.shown} gave {str(name)!r} a name or commit that cannot be.")
        if found.siblings and all(file.size is None for file in found.siblings):
            raise Unreachable(f"{self.shown} does not say how large the files of {str(name)!r} are, as a Hub does.")
        return found

    def _get(self, name: HubName, url: str, start: int, count: int, file: str = "") -> bytes:
        """The body, or `count` bytes of it from `start` on where a file is read."""
        if self.offline:
            raise Unreachable(
                f"{str(name)!r} was never looked up on this machine and {self.offline} forbids to ask for it: "
                f"unset {self.offline}, or name a directory that holds the model."
            )
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(name, url, start, count, file)
            except Unreachable as error:
                if attempt == ATTEMPTS or error.kind is BUSY or time.monotonic() + PAUSE_S > self._deadline:
                    raise
                time.sleep(PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, name: HubName, url: str, start: int, count: int, file: str) -> bytes:
        """One attempt, from whichever thread."""
        client, loop = self._open()
        return asyncio.run_coroutine_threadsafe(self._asked(client, name, url, start, count, file), loop).result()

    async def _asked(
        self, client: httpx.AsyncClient, name: HubName, url: str, start: int, count: int, file: str
    ) -> bytes:
        # identity: a range of compressed bytes would be of no use, and what is read is what was counted.
        headers = {"accept-encoding": "identity"}
        if file:
            headers["range"] = f"bytes={start}-{start + count - 1}"
        what = f"{file} of {name.repository}" if file else str(name)
        try:
            async with (
                asyncio.timeout(max(0.0, self._deadline - time.monotonic())),
                client.stream("GET", self.endpoint + url, headers=headers) as answer,
            ):
                if answer.status_code == 416 and file:
                    raise Unreachable(f"{what} is shorter at {self.shown} than its description says.")
                if answer.status_code >= 400:
                    raise refusal(self.shown, name, file, answer.status_code, answer.headers, bool(self._token))
                if answer.status_code == 206:
                    if not answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
                        raise Unreachable(f"{self.shown} answered with another part of {what} than was asked for.")
                    return await self._body(answer, 0, count, what, exact=True)
                if answer.status_code != 200:
                    raise Unreachable(f"{self.shown} answered for {what} with status {answer.status_code}.")
                return await self._body(answer, start, count, what, exact=bool(file))
        except TimeoutError:
            raise Unreachable(f"{self.shown} was still busy with {what} after {TOTAL_S:.0f} s; try again.") from None
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL):
            raise Unreachable(
                f"{self.shown} answered for {what} with a redirect that cannot be followed: check HF_ENDPOINT."
            ) from None
        except httpx.TimeoutException:
            raise Unreachable(f"{self.shown} did not answer for {what} within {SILENCE_S:.0f} s; try again.") from None
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.DecodingError):
            raise Unreachable(f"{self.shown} broke off its answer for {what}; try again.") from None
        except (httpx.HTTPError, OSError):
            raise Unreachable(
                f"{self.shown} cannot be reached to look up {what}: check the network and HF_ENDPOINT, "
                "or name a directory that holds the model."
            ) from None

    async def _body(self, answer: httpx.Response, skip: int, count: int, what: str, *, exact: bool) -> bytes:
        """`count` bytes after the first `skip`: a server that does not know ranges sends the file from its start."""
        if skip > MOST_API_BYTES:
            raise Unreachable(f"{self.shown} does not answer with parts of files, which reading {what} needs.")
        body = bytearray()
        async with contextlib.aclosing(cast(AsyncGenerator[bytes, None], answer.aiter_raw())) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) >= skip + count:
                    break
        if len(body) < skip + count and exact:
            raise Unreachable(f"{self.shown} sent {len(body):,} bytes of {what} where {count:,} were due; try again.")
        if not exact and len(body) >= count:
            raise Unreachable(f"{self.shown} describes {what} in more than {MOST_API_BYTES >> 20} MiB.")
        return bytes(body[skip : skip + count])

    def _open(self) -> tuple[httpx.AsyncClient, asyncio.AbstractEventLoop]:
        if time.monotonic() > self._deadline:
            raise Unreachable(f"{self.shown} took more than {TOTAL_S:.0f} s; try again.")
        with self._opening:
            if self._client is None or self._loop is None:
                self._token = token()
                authorization = {"authorization": f"Bearer {self._token}"} if self._token else {}
                # httpx drops the token where a redirect leads to another host, as the Hub's storage is.
                self._client = httpx.AsyncClient(
                    headers={"user-agent": "modelport"} | authorization,
                    follow_redirects=True,
                    timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
                )
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="hub", daemon=True).start()
            return self._client, self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        if left := asyncio.all_tasks(loop):  # what closes the requests that were broken off
            loop.run_until_complete(asyncio.wait(left, timeout=CLOSE_S))
    finally:
        loop.close()


def _usable(name: str) -> bool:
    """Whether a file's name can be one, here and on a terminal."""
    return bool(_FILE.fullmatch(name)) and name.isprintable()


def token() -> str:
    """The token as the Hub's own tools find it: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, then the file of `hf auth login`;
    empty where there is none. Raises ModelportError for one that cannot be."""
    from huggingface_hub import get_token  # 0.1 s, which only those pay who ask the Hub

    try:
        found = get_token() or ""
    except (
        Exception
    ) as error:  # what exchanges a machine's identity for a token (HF_OIDC_RESOURCE) raises its own kinds
        raise ModelportError(f"No token for the Hub could be had ({type(error).__name__}).", param="model") from None
    if found and not _TOKEN.fullmatch(found):
        raise ModelportError("HF_TOKEN holds characters that no token has; copy it again.", FORBIDDEN, param="model")
    return found
