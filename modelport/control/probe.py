"""Probe: is the engine there yet?"""

import asyncio
from enum import Enum
from pathlib import Path

import httpx


class Health(Enum):
    CLOSED = "closed"  # nothing listens
    LOADING = "loading"  # it listens, and is not ready
    READY = "ready"


async def probe(client: httpx.AsyncClient, url: str, health_path: str, key_ref: str) -> Health:
    """One look at an engine's health path, with its key. An answer of 200 is ready, any other is loading."""
    try:
        key = await asyncio.to_thread(read_secret, key_ref)
        answer = await client.get(url + health_path, headers={"authorization": f"Bearer {key}"}, timeout=2)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return Health.CLOSED
    except (httpx.HTTPError, OSError):
        return Health.LOADING
    return Health.READY if answer.status_code == 200 else Health.LOADING


def read_secret(ref: str) -> str:
    """The value behind `file:/…`. Raises OSError."""
    return Path(ref.removeprefix("file:")).read_text().strip()
