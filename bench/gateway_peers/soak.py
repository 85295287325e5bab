"""Soak: our gateway under a thousand streams for minutes: none may drop, and its memory must stay what it was."""

import json
import os
import subprocess
import time
from pathlib import Path

from . import toolbox
from .load import Stub, answers, stream_command
from .phases import GATEWAY_CORE, LOAD_CORE
from .processes import cpu_s, end, rss_mb, start, tree
from .targets import PORT, TARGETS, prepared

STREAMS = 1_000
EVENTS, EVERY_MS = 100, 200.0
"""20 s a stream, and then the next on the same connection: 5,000 events and 50 new streams a second."""
STREAM_S = EVENTS * EVERY_MS / 1000
SETTLED_S = 2 * STREAM_S
"""After this all streams run and every connection has had its second: what memory is measured against."""
SAMPLE_EVERY_S = 5.0
GROWTH_ALLOWED = 0.05


def run(engine: Stub, minutes: float, out: Path | None) -> bool:
    """Print what came of it, append it to `out`; whether nothing dropped and memory grew by less than 5 %."""
    engine.streams(EVENTS, EVERY_MS)
    each = max(3, round(minutes * 60 / STREAM_S))
    longest_s = each * STREAM_S * 1.5 + 60
    with prepared(TARGETS[0]) as started:
        process = start(started.command, GATEWAY_CORE, toolbox.RUN / "soak.log", started.env)
        try:
            while not answers(PORT, started.key):
                if process.poll() is not None:
                    raise SystemExit(f"The gateway ended: {(toolbox.RUN / 'soak.log').read_text()[-300:]}")
                time.sleep(0.2)
            command = stream_command(PORT, LOAD_CORE, STREAMS, each, STREAM_S * 1e6 / STREAMS, longest_s)
            began, cpu_before, samples = time.monotonic(), cpu_s(tree(process.pid)), []
            client = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "BENCH_KEY": started.key})
            last_s = each * STREAM_S  # then the first streams end, one by one
            while client.poll() is None:
                time.sleep(SAMPLE_EVERY_S)
                since = time.monotonic() - began
                if SETTLED_S <= since <= last_s:
                    samples.append(rss_mb(tree(process.pid)))
            counts = json.loads(client.communicate()[0])
            counts["cpu_us"] = round((cpu_s(tree(process.pid)) - cpu_before) * 1e6 / max(1, counts["chunks"]), 1)
        finally:
            end(process)
    dropped = STREAMS * each - counts["reqs"]
    tenth = max(1, len(samples) // 10)
    first, last = sum(samples[:tenth]) / tenth, sum(samples[-tenth:]) / tenth
    growth = last / first - 1
    print(
        f"{STREAMS} streams at once for {counts['secs'] / 60:.1f} min: {counts['reqs']:,} ended, {dropped} dropped, "
        f"{counts['chunks']:,} events; {counts['cpu_us']} µs of CPU an event, p99 {counts['lat_p99']:,.0f} µs; "
        f"RSS {first:.1f} to {last:.1f} MB ({growth:+.1%}, most {max(samples):.1f})"
    )
    if out:
        line = {"target": "soak", "dropped": dropped, "growth": growth, "rss_mb": [round(mb, 1) for mb in samples]}
        with out.open("a") as file:
            file.write(json.dumps(line | counts) + "\n")
    return not dropped and growth < GROWTH_ALLOWED
