"""Probe: is the engine there yet, and what does it say of its start?"""

import asyncio
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import httpx

from modelport.domain.answers import read
from modelport.domain.progress import Progress

LONGEST_BODY_BYTES = 64 << 10


class Health(Enum):
    CLOSED = "closed"  # nothing listens
    LOADING = "loading"  # it listens, and is not ready
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Probed:
    """One look. `progress` is what the engine says, where it says such things."""

    health: Health
    progress: Progress | None = None


async def probe(client: httpx.AsyncClient, url: str, health_path: str, key_ref: str) -> Probed:
    """One look at an engine's health path, with its key. An answer of 200 is ready, any other is loading."""
    try:
        key = await asyncio.to_thread(read_secret, key_ref)
        answer = await client.get(url + health_path, headers={"authorization": f"Bearer {key}"}, timeout=2)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return Probed(Health.CLOSED)
    except (httpx.HTTPError, OSError):
        return Probed(Health.LOADING)
    return Probed(Health.READY if answer.status_code == 200 else Health.LOADING, _told(answer))


def _told(answer: httpx.Response) -> Progress | None:
    body = answer.content
    if len(body) > LONGEST_BODY_BYTES or not (b'"progress"' in body or b'"reason"' in body):
        return None
    try:
        return read(answer.json())
    except (ValueError, RecursionError):
        return None


def read_secret(ref: str) -> str:
    """The value behind `file:/…`. Raises OSError."""
    return Path(ref.removeprefix("file:")).read_text().strip()
