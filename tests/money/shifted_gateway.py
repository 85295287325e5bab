"""A gateway process whose wall clock is off by the seconds that a file says; its monotonic clock is true.

python -m tests.money.shifted_gateway FILE REPORT_EVERY_S
"""

import logging
import sys
import time
from pathlib import Path

_OFFSET, _TRUE = Path(sys.argv[1]), time.time


def shifted() -> float:
    return _TRUE() + float(_OFFSET.read_text() or 0)


if __name__ == "__main__":
    time.time = shifted  # before anything of ours is imported, so that nobody has kept the true one

    from modelport.gateway import reporter
    from modelport.gateway.server import run
    from modelport.settings import load

    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO)
    reporter.EVERY_S = float(sys.argv[2])
    run(load({})[0], on_ready=lambda url: print(url, flush=True))
