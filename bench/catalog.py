"""Seconds, requests and kB that looking a model up on the Hub takes: cold, warm (its commit is asked for) and offline.

    python bench/catalog.py [--endpoint URL] [MODEL ...]

Without an endpoint against the fake Hub of the tests on this machine: 20 models by their true configs and headers, so
that bytes and requests are what the real Hub would be asked for, and seconds are without a network. With one (for
example https://huggingface.co) only the seconds are known. The cache is a new, empty directory.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from modelport.catalog import resolve
from tests.fakes.hub import MODELS, Running, running_hub


@contextmanager
def hub(endpoint: str) -> Iterator[Running | None]:
    if endpoint:
        os.environ["HF_ENDPOINT"] = endpoint
        yield None
    else:
        with running_hub() as running:
            os.environ["HF_ENDPOINT"] = running.url
            yield running


def measured(running: Running | None, look_up: Callable[[], object]) -> tuple[float, int, float]:
    """Seconds, requests and kB of one call."""
    if running:
        running.reset()
    began = time.perf_counter()
    look_up()
    seconds = time.perf_counter() - began
    served = running.served() if running else {"requests": 0, "bytes": 0}
    return seconds, served["requests"], served["bytes"] / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="What it takes to look models up on the Hub.")
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--endpoint", default="")
    args = parser.parse_args()
    print(f"{'':44}{'cold s':>8}{'reqs':>6}{'kB':>8}{'warm s':>8}{'reqs':>6}{'kB':>8}{'offline s':>11}  sizes from")
    with tempfile.TemporaryDirectory() as directory, hub(args.endpoint) as running:
        os.environ["XDG_CACHE_HOME"] = directory
        for model in args.models:
            cold = measured(running, lambda model=model: resolve(model))
            warm = measured(running, lambda model=model: resolve(model))
            os.environ["HF_HUB_OFFLINE"] = "1"
            offline = measured(running, lambda model=model: resolve(model))
            facts = resolve(model)
            del os.environ["HF_HUB_OFFLINE"]
            numbers = "".join(f"{s:8.3f}{requests:6}{kb:8.0f}" for s, requests, kb in (cold, warm))
            print(f"{model[:43]:44}{numbers}{offline[0]:11.3f}  {facts.precision}")


if __name__ == "__main__":
    main()
