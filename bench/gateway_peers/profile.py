"""Profile: where our gateway's microseconds go with 32 connections, by py-spy's samples of what runs on its core."""

import subprocess
import time
from collections import Counter
from pathlib import Path

from . import toolbox
from .load import Stub, answers, json_load
from .phases import GATEWAY_CORE, LOAD_CORE
from .processes import cpu_s, end, start, tree
from .targets import PORT, TARGETS, prepared

SECONDS, SAMPLES_A_SECOND = 15, 500
SHOWN = 40


def run(_engine: Stub, out: Path) -> None:
    """Write the sampled stacks, a line each with its count, and print the lines and functions that take most.

    `own` is what a line took itself, with the compiled code it calls (socket writes, parsers); `whole` is a function
    with all it calls; both in µs of CPU a request. The profiler slows the gateway, so the shares are taken from it and
    the CPU of a request from a run without.
    """
    target = TARGETS[0]
    with prepared(target) as started:
        process = start(started.command, GATEWAY_CORE, toolbox.RUN / "target.log", started.env)
        try:
            deadline = time.monotonic() + 60
            while not answers(PORT, started.key) and time.monotonic() < deadline:
                time.sleep(0.2)
            json_load(PORT, started.key, LOAD_CORE, 32, 2)
            before = cpu_s(tree(process.pid))
            counts = json_load(PORT, started.key, LOAD_CORE, 32, 5)
            cpu_us = (cpu_s(tree(process.pid)) - before) * 1e6 / counts["reqs"]
            busiest = max(tree(process.pid), key=lambda pid: cpu_s([pid]))
            command = [toolbox.script("profiler", "py-spy"), "record", "--format", "raw", "--rate",
                       SAMPLES_A_SECOND, "--duration", SECONDS, "--pid", busiest, "--output", out]  # fmt: skip
            recorder = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            json_load(PORT, started.key, LOAD_CORE, 32, SECONDS + 5)
            recorder.wait()
        finally:
            end(process)
    print(summary(out.read_text(), cpu_us))


def summary(stacks: str, cpu_us: float) -> str:
    """What takes most, in µs a request."""
    own: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    total = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if "run_forever" in stack or "Runner.run" in stack or "run (asyncio/runners.py" in stack:
            total += int(count)
            own[frames[-1]] += int(count)
            functions.update(dict.fromkeys((frame.rpartition(":")[0] + ")" for frame in frames), int(count)))
    scale = cpu_us / max(1, total)
    rows = [f"{cpu_us:.1f} µs of CPU a request without the profiler; {total} samples of the loop's thread"]
    for title, counted in (("own, by line", own), ("whole, by function", functions)):
        rows += ["", f"{title} (µs a request)"]
        inner = [(frame, count) for frame, count in counted.most_common() if count < total]  # not what is around all
        rows += [f"{count * scale:8.1f}  {frame}" for frame, count in inner[:SHOWN]]
    return "\n".join(rows)
