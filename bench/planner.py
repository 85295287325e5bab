"""Scores the planner against what engines printed about memory on real GPUs.

    python bench/planner.py [--cases F] [--models F] [--recipes F] [--json] [--rows] [--leave-out]

Rows are in the format of bench/data (see its README). Weights come from the model's config alone, or from the
checkpoint's size where the models file has it: the measured weights of a row are compared with, never used.
`--leave-out` scores every family with a calibration that was fitted without it, so that the table is not its own proof.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from calibrate import cache_gib, fit, quantile
from cases import Case, case_of, read
from truth import DATA, GIB

from modelport.planner import gpu_memory
from modelport.planner.calibration import Overhead


@dataclass(frozen=True, slots=True)
class Score:
    """One row: our answer beside the engine's. Errors are signed, ours minus measured."""

    case: Case
    tokens: tuple[float, float, float]
    """Low, guess, high."""
    token_error: float | None
    """Relative to the measured tokens."""
    memory_error: float | None
    """Of the cache's memory, as a share of the GPU's."""
    weights_error: float | None
    """Relative to the measured weights per GPU."""
    covered: bool | None
    verdict: str
    """`fits`, `too_close`, `does_not_fit`."""


def score(case: Case, table: Sequence[Overhead] | None = None) -> Score:
    """Ask the planner and compare."""
    found = gpu_memory.estimate(case.facts, case.ask, table)
    copies = case.ask.split.data
    tokens = (found.kv_tokens.low / copies, found.kv_tokens.guess / copies, found.kv_tokens.high / copies)
    weights = next(part.bytes for part in found.parts if part.name == "weights") / GIB
    measured = cache_gib(case)
    total = case.ask.gpu.memory_bytes / GIB
    return Score(
        case=case,
        tokens=tokens,
        token_error=tokens[1] / case.tokens - 1 if case.tokens else None,
        memory_error=(found.cache_bytes.guess / GIB - measured) / total if measured is not None and total else None,
        weights_error=weights / case.weights_gib - 1 if case.weights_gib else None,
        covered=tokens[0] <= case.tokens <= tokens[2] if case.tokens else None,
        verdict=verdict(case, found),
    )


def verdict(case: Case, found: gpu_memory.Estimate) -> str:
    """As the planner says it of one request of the asked context. SGLang starts with any cache; where no context was
    asked for, the planner lowers it to what fits, down to 2,048 tokens."""
    lowered = case.row["max_model_len"] is None and case.ask.engine == "sglang"
    need = gpu_memory.cache_need(case.facts, replace(case.ask, context=2048) if lowered else case.ask, 1)
    return found.verdict(need)


PEERS: dict[str, Callable[[Case, float], float]] = {
    "contract: weights x 1.2": lambda case, weights: case.ask.gpu.memory_bytes - 1.2 * weights,
    "weights x 1.2 + 2 GiB": lambda case, weights: _budget(case) - 1.2 * weights - 2 * GIB / case.ask.split.tensor,
    "plain formula, no calibration": lambda case, weights: _budget(case) - weights,
}
"""What others leave for the cache on one GPU, in bytes: contract 003 §3; GPUStack; budget minus weights."""


def _budget(case: Case) -> float:
    return gpu_memory.estimate(case.facts, case.ask).budget_bytes


def peer_errors(scores: Sequence[Score], rule: Callable[[Case, float], float]) -> list[float]:
    """Relative errors of free tokens of another rule, with our weights and cache layout."""
    errors: list[float] = []
    for one in scores:
        if one.token_error is None:
            continue
        found = gpu_memory.estimate(one.case.facts, one.case.ask)
        weights = next(part.bytes for part in found.parts if part.name == "weights")
        laid = gpu_memory.layout(one.case.facts, one.case.ask)
        tokens = max(0.0, rule(one.case, weights)) * laid.share / laid.token_bytes
        errors.append(tokens / (one.case.tokens or 1) - 1)
    return errors


def constants(scores: Sequence[Score]) -> list[float]:
    """Relative errors of the plain formula minus one constant per tensor parallelism (the median of the rows)."""
    left: dict[int, list[tuple[Score, float, float]]] = {}
    for one in scores:
        if one.token_error is not None:
            found = gpu_memory.estimate(one.case.facts, one.case.ask)
            weights = next(part.bytes for part in found.parts if part.name == "weights")
            plain = (found.budget_bytes - weights) / GIB
            left.setdefault(one.case.ask.split.tensor, []).append((one, plain, plain - (cache_gib(one.case) or 0)))
    errors: list[float] = []
    for rows in left.values():
        constant = median(rest for _, _, rest in rows)
        errors += [max(0.0, plain - constant) / max(1e-9, cache_gib(one.case) or 0) - 1 for one, plain, _ in rows]
    return errors


def summary(errors: Sequence[float]) -> dict[str, float]:
    """Median, 90th and 95th percentile of the absolute errors."""
    sizes = [abs(error) for error in errors]
    if not sizes:
        return {"rows": 0}
    return {
        "rows": len(sizes),
        "median": round(median(sizes), 4),
        "p90": round(quantile(sizes, 0.9), 4),
        "p95": round(quantile(sizes, 0.95), 4),
    }


def report(cases: Sequence[Case], scores: Sequence[Score], refused: dict[str, list[str]]) -> dict[str, Any]:
    """All figures."""
    counted = [one for one in scores if one.token_error is not None]
    widths = [(one.tokens[2] - one.tokens[0]) / max(1.0, one.tokens[1]) for one in counted]
    asked = [one for one in scores if one.case.verdict and one.case.has_gpu]
    table = Counter((one.case.verdict, one.verdict) for one in asked)
    return {
        "cases": len(cases) + sum(len(ids) for ids in refused.values()),
        "planned": len(cases),
        "not_planned": {reason: ids for reason, ids in sorted(refused.items(), key=lambda item: -len(item[1]))},
        "free_kv_tokens": summary([one.token_error for one in counted if one.token_error is not None]),
        "free_kv_share_of_gpu": summary([one.memory_error for one in scores if one.memory_error is not None]),
        "weights": summary([one.weights_error for one in scores if one.weights_error is not None]),
        "coverage": round(sum(bool(one.covered) for one in counted) / max(1, len(counted)), 4),
        "interval_width_median": round(median(widths), 4) if widths else None,
        "verdicts": {f"{theirs} -> {ours}": count for (theirs, ours), count in sorted(table.items())},
        "verdict_rows": len(asked),
        "false_fits": [one.case.id for one in asked if one.verdict == "fits" and one.case.verdict != "fits"],
        "false_does_not_fit": [
            one.case.id for one in asked if one.verdict == "does_not_fit" and one.case.verdict == "fits"
        ],
        "too_close": round(sum(one.verdict == "too_close" for one in asked) / max(1, len(asked)), 4),
        "peers": {name: summary(peer_errors(scores, rule)) for name, rule in PEERS.items()}
        | {"plain formula minus a constant per TP": summary(constants(scores))},
    }


def left_out(cases: Sequence[Case]) -> list[Score]:
    """Every family scored with the calibration fitted to all others."""
    scores: list[Score] = []
    for family in sorted({str(case.row["family"]) for case in cases}):
        table = fit([case for case in cases if str(case.row["family"]) != family])
        scores += [score(case, table) for case in cases if str(case.row["family"]) == family]
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=DATA / "cases.jsonl")
    parser.add_argument("--models", type=Path, default=DATA / "models.jsonl")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", action="store_true", help="every row, worst first")
    parser.add_argument("--leave-out", action="store_true", help="leave one family out of the calibration")
    options = parser.parse_args()
    models = {row["model_id"]: row for row in read(options.models) if row["model_id"]}
    cases: list[Case] = []
    refused: dict[str, list[str]] = {}
    for row in read(options.cases):
        if row.get("use", "score") != "score":
            refused.setdefault(f"marked {row['use']}", []).append(str(row["id"]))
        elif isinstance(case := case_of(row, models), Case):
            cases.append(case)
        else:
            refused.setdefault(case, []).append(str(row["id"]))
    scores = left_out(cases) if options.leave_out else [score(case) for case in cases]
    found = report(cases, scores, refused)
    if options.json:
        found["rows"] = [_row(one) for one in scores]
        json.dump(found, sys.stdout, indent=1)
        return
    _show(found)
    if options.rows:
        for one in sorted(scores, key=lambda one: -abs(one.memory_error or 0)):
            print(json.dumps(_row(one)))


def _row(one: Score) -> dict[str, Any]:
    rounded = {
        name: None if value is None else round(value, 4)
        for name, value in (
            ("token_error", one.token_error),
            ("memory_error", one.memory_error),
            ("weights_error", one.weights_error),
        )
    }
    return {
        "id": one.case.id,
        "model": one.case.row["model_id"],
        "gpu": str(one.case.row["gpu_model"]),
        "engine": f"{one.case.ask.engine} {one.case.ask.version}",
        "tp": one.case.ask.split.tensor,
        "tokens": one.case.tokens,
        "ours": [round(value) for value in one.tokens],
        **rounded,
        "covered": one.covered,
        "measured": one.case.verdict,
        "verdict": one.verdict,
    }


def _show(found: dict[str, Any]) -> None:
    print(f"{found['planned']} of {found['cases']} rows planned")
    for reason, ids in found["not_planned"].items():
        print(f"  not planned: {reason} ({', '.join(ids)})")
    for name in ("free_kv_tokens", "free_kv_share_of_gpu", "weights"):
        print(f"{name:24} {found[name]}")
    width = found["interval_width_median"]
    print(f"coverage {found['coverage']:.1%}, median width {'-' if width is None else f'{width:.1%}'} of the guess")
    print(f"verdicts of {found['verdict_rows']} rows: {found['verdicts']}")
    print(f"false fits {found['false_fits']}, false does-not-fits {found['false_does_not_fit']}")
    print(f"too close to say {found['too_close']:.1%}")
    for name, errors in found["peers"].items():
        print(f"  {name:40} {errors}")


if __name__ == "__main__":
    main()
