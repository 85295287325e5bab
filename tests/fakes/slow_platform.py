"""A platform that launches nothing while a file `hold` is in the state directory: to be killed before a launch."""

import asyncio
from pathlib import Path

from modelport.domain.instance import Instance
from modelport.domain.launch import Launch
from modelport.platforms.process import ProcessPlatform


class SlowPlatform(ProcessPlatform):
    name = "slow"

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir / "slow")
        self.hold = state_dir / "hold"

    async def launch(self, launch: Launch) -> Instance:
        while self.hold.exists():
            await asyncio.sleep(0.05)
        return await super().launch(launch)
