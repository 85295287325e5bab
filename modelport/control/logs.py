"""What a service's engines print: of one as it is, of several with each line's instance before it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from modelport.domain.instance import Instance
from modelport.platforms import Platform

AHEAD_LINES = 1000
"""What may wait for a slow reader; then reading the engines' logs waits too."""


async def lines(engines: Sequence[tuple[Platform, Instance]], tail: int, follow: bool) -> AsyncIterator[str]:
    """The last `tail` lines of each engine, then new ones as they come, until all have ended, if `follow`."""
    several = len(engines) > 1
    streams = [_marked(platform, one, tail, follow, several) for platform, one in engines]
    if not follow or not several:
        for stream in streams:
            async for line in stream:
                yield line
        return
    queue: asyncio.Queue[str | None] = asyncio.Queue(AHEAD_LINES)

    async def pump(stream: AsyncIterator[str]) -> None:
        async for line in stream:
            await queue.put(line)
        await queue.put(None)

    pumps = [asyncio.create_task(pump(stream)) for stream in streams]
    try:
        for _ in pumps:
            while (line := await queue.get()) is not None:
                yield line
    finally:
        for task in pumps:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*pumps, return_exceptions=True)


async def _marked(platform: Platform, one: Instance, tail: int, follow: bool, mark: bool) -> AsyncIterator[str]:
    before = f"[{one.labels.instance}] " if mark else ""
    async for line in platform.logs(one, tail, follow):
        yield before + line
