"""Phases: what one target goes through in one round, and what came of it.

The gateway has core 0, the stub and the load core 1. For one connection at a time all three share core 0, so that the
figure is work done, not the time a virtual machine takes to wake an idle core.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from . import toolbox
from .load import Counts, Stub, answers, json_load, stream_load
from .processes import cpu_s, end, pin, rss_mb, start, tree
from .targets import PEERS_KEY, PORT, STUB_PORT, Target, prepared

GATEWAY_CORE, LOAD_CORE = 0, 1
EVENTS, EVERY_MS = 100, 20.0
"""What a stream looks like: 100 tokens at 50 a second."""
LARGE_BYTES = 400_000
Round = dict[str, Any]


def direct(stub: Stub, quick: bool) -> Round:
    """The stub alone, whose times are subtracted from everybody's."""
    return _phases(lambda: [stub.pid], STUB_PORT, PEERS_KEY, stub, quick, slow=False)


def through(target: Target, stub: Stub, quick: bool) -> Round:
    """Start a target, measure it, end it. Raises RuntimeError where it does not answer."""
    with prepared(target) as started:
        log = toolbox.RUN / "target.log"
        process = start(started.command, GATEWAY_CORE, log, started.env)
        try:
            deadline = time.monotonic() + 60
            while not answers(PORT, started.key):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{target.name} does not answer: {log.read_text()[-300:]}")
                time.sleep(0.2)
            if target.processes > 1 and len(tree(process.pid)) <= target.processes:  # and their parent
                raise RuntimeError(f"{target.name} has fewer processes than it was set to.")
            return _phases(lambda: tree(process.pid), PORT, started.key, stub, quick, target.slow)
        finally:
            end(process)


def _phases(pids: Callable[[], Sequence[int]], port: int, key: str, stub: Stub, quick: bool, slow: bool) -> Round:
    scale = 0.5 if quick else 1.0
    each = 1 if quick or slow else 2
    longest_s = 180 if slow else 60

    def measured(load: Callable[[], Counts], per: str) -> Counts:
        before = {pid: cpu_s([pid]) for pid in pids()}
        counts = load()
        used = {pid: cpu_s([pid]) - before.get(pid, 0.0) for pid in pids()}
        counts["cpu_s"] = round(sum(used.values()), 3)
        counts["cpu_us"] = round(sum(used.values()) * 1e6 / max(1, counts.get(per, 0)), 2)
        counts["cpu_s_by_process"] = [round(seconds, 3) for seconds in used.values()]
        return counts

    def asked(core: int, connections: int, seconds: float, pad_bytes: int = 0) -> Counts:
        return measured(lambda: json_load(port, key, core, connections, round(seconds), pad_bytes), "reqs")

    def streamed(streams: int, each: int, stagger_us: float) -> Counts:
        return measured(lambda: stream_load(port, key, LOAD_CORE, streams, each, stagger_us, longest_s), "chunks")

    found: Round = {}
    json_load(port, key, LOAD_CORE, 8, 1)
    found["json32"] = asked(LOAD_CORE, 32, 4 * scale)
    pin([stub.pid], GATEWAY_CORE)
    found["json1"] = asked(GATEWAY_CORE, 1, 2 * scale)
    stub.streams(2, 0)
    found["first1"] = stream_load(port, key, GATEWAY_CORE, 1, 60 if slow else 300)
    pin([stub.pid], LOAD_CORE)
    stub.streams(EVENTS, EVERY_MS)
    found["sse32"] = streamed(32, each, EVERY_MS * 1000 / 32)
    found["sse256"] = streamed(256, each, EVERY_MS * 1000 / 256)
    stub.streams(EVENTS, 0)
    found["burst32"] = streamed(32, 4 if slow else 30, 0)
    found["rss_mb"] = round(rss_mb(pids()), 1)
    found["json32_large"] = asked(LOAD_CORE, 32, 4 * scale, LARGE_BYTES)
    found["rss_large_mb"] = round(rss_mb(pids()), 1)
    return found
