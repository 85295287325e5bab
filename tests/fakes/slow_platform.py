"""A platform that takes its time before it launches: the process platform behind a pause, to be killed within."""

import asyncio
from pathlib import Path

from modelport.domain.instance import Instance
from modelport.domain.launch import Launch
from modelport.platforms.process import ProcessPlatform


class SlowPlatform(ProcessPlatform):
    name = "slow"

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir / "slow")

    async def launch(self, launch: Launch) -> Instance:
        await asyncio.sleep(2.5)
        return await super().launch(launch)
