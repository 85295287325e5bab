"""A gateway as a process of its own, set by the environment alone; its first line of output is its URL."""

import logging
import sys

from modelport.gateway import reporter
from modelport.gateway.server import run
from modelport.settings import load

if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO)
    reporter.EVERY_S = float(sys.argv[1])  # short, so that no test waits a second for a log line
    run(load({})[0], on_ready=lambda url: print(url, flush=True))
