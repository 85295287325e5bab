"""Table: medians of all rounds beside each other, with ratios against sglang-router."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .targets import ROUTER

Line = Mapping[str, Any]


def markdown(lines: Sequence[Line]) -> str:
    """One row for each target, in the order they were measured."""
    rounds: dict[str, list[Line]] = {}
    for line in lines:
        rounds.setdefault(line["target"], []).append(line)
    found = {name: _figures(of) for name, of in rounds.items() if not all("error" in line for line in of)}
    base, direct = found.get(ROUTER, {}), found.get("direct", {})
    rows = [
        "| gateway | CPU/request µs, 32 connections | requests/s, one core | added p50 µs, 1 connection "
        "| added first token µs | CPU/event µs, 256 streams | added p50/event µs, 256 streams "
        "| CPU/request µs, 400 kB | RSS MB | after 400 kB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of in found.items():
        cells = [
            _beside(of, base, "json32.cpu_us"), _beside(of, base, "json32.rps", 0),
            _beyond(of, direct, "json1.p50"), _beyond(of, direct, "first1.ttft_p50"),
            _beside(of, base, "sse256.cpu_us"), _beyond(of, direct, "sse256.lat_p50"),
            _beside(of, base, "json32_large.cpu_us"), _beside(of, base, "rss_mb"), _beside(of, base, "rss_large_mb"),
        ]  # fmt: skip
        if name == "direct":
            cells = ["", f"{of['json32.rps']:,.0f}", f"({of['json1.p50']:.0f})", f"({of['first1.ttft_p50']:.0f})", "",
                     f"({of['sse256.lat_p50']:.0f})", "", "", ""]  # fmt: skip
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    rows.append(f"\nMedians of {max(map(len, rounds.values()))} rounds; × is against {ROUTER}. Added times are beyond "
                "the direct ones (in brackets). «errors»: more than 1 in 100 failed.")  # fmt: skip
    return "\n".join(rows)


def progress(line: Line) -> str:
    """One round in one line."""
    if "error" in line:
        return f"{line['target']:14} {line['error']}"
    of = _figures([line])
    shown = {"cpu µs": "json32.cpu_us", "rps": "json32.rps", "p50 µs": "json1.p50", "event µs": "sse256.cpu_us",
             "400 kB µs": "json32_large.cpu_us", "MB": "rss_mb"}  # fmt: skip
    parts = [f"{label} {of[key]:,.1f}" if key in of else f"{label} errors" for label, key in shown.items()]
    return f"{line['target']:14} " + "  ".join(parts) + f"  [{line['took_s']} s, load {line['load']:.1f}]"


def _figures(lines: Sequence[Line]) -> dict[str, float]:
    """`phase.figure` to its median; a phase in which requests failed has none."""
    collected: dict[str, list[float]] = {}
    for line in lines:
        for phase, value in line.items():
            if isinstance(value, Mapping):
                failed = value.get("errors", 0) + value.get("unfinished", 0)
                if failed * 100 > value.get("reqs", 0):
                    continue
                for figure, number in value.items():
                    if isinstance(number, int | float):
                        collected.setdefault(f"{phase}.{figure}", []).append(number)
            elif isinstance(value, int | float):
                collected.setdefault(phase, []).append(value)
    return {name: median(values) for name, values in collected.items()}


def _beside(of: Mapping[str, float], base: Mapping[str, float], figure: str, digits: int = 1) -> str:
    if figure not in of:
        return "errors"
    if not base.get(figure) or of is base:
        return f"{of[figure]:,.{digits}f}"
    ratio = of[figure] / base[figure]
    return f"{of[figure]:,.{digits}f} (×{ratio:.{2 if ratio >= 0.1 else 4}f})"


def _beyond(of: Mapping[str, float], direct: Mapping[str, float], figure: str) -> str:
    return f"{of[figure] - direct.get(figure, 0):,.0f}" if figure in of else "errors"
