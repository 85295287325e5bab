"""Fits modelport/planner/calibration.json to bench/data/cases.jsonl.

    python bench/calibrate.py [--cases F] [--models F] [--out F]

For every engine, range of versions, class of GPU and range of tensor parallelism: what is left of the budget after the
weights and the cache that the engine printed is explained by the activations of its profiling run (two factors for a
range of versions, chosen on a grid) and a constant (the median); the interval holds nine of ten measured starts.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from cases import Case, case_of, read
from truth import DATA, GIB

from modelport.planner import gpu_memory
from modelport.planner.calibration import Overhead, gpu_class, parse_version

ERAS = (
    # engine, since, until, bytes per logit before anything is fitted, graphs GiB
    ("vllm", (0,), (0, 4), 36, 0.0),
    ("vllm", (0, 4), (0, 8), 36, 0.0),
    ("vllm", (0, 8), (0, 17), 38, 0.0),
    ("vllm", (0, 17), (0, 20), 6, 0.0),
    ("vllm", (0, 20), (), 6, 0.3),
    ("sglang", (0,), (0, 5), 0, 0.0),
    ("sglang", (0, 5), (), 0, 0.0),
    ("tgi", (0,), (), 6, 0.3),
)
"""Ranges of versions in which profiling allocates alike: V0, twice; V1 sorting logits; V1 with a kernel that needs the
logits in 32 bit and little else (v1/sample/ops/topk_topp_triton.py); V1 that sets graphs aside. TGI has no measured
start."""
TENSORS = ((1, 1), (2, 3), (4, 7), (8, 4096))
CLASSES = ("nvlink", "pcie", "unified", "amd")
SAMPLER_BYTES = (2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 34, 36, 37, 38, 39, 40)
FORWARD_SCALES = (0.5, 0.75, 1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0)
PRIOR_OTHER_GIB = {1: 0.2, 2: 0.5, 4: 0.7, 8: 2.0}
"""By the least tensor parallelism of a row: NCCL's and all-reduce's buffers grow with it. Counts as one start."""
FEWEST_FOR_FACTORS = 4
OUTLIER_GIB = 1.0
"""A residual above counts no more than this when factors are chosen: other programs on the GPU, patched builds."""
EXPLAINED = ("activations", "cuda graphs", "vision")
SPREAD = {1: 1.0, 2: 1.2, 4: 1.5, 8: 2.0}
"""How much wider intervals are taken with tensor parallelism, where a row has too few starts to say."""
COVERED = 0.92
OWN_ROWS = 6
"""From so many measured starts on a row's interval is its own; below, it is that of its engine and split."""
LEAST_HALF_GIB = 0.15


def blank(
    engine: str,
    since: tuple[int, ...],
    until: tuple[int, ...],
    sampler: float,
    graphs: float,
    kind: str,
    tensor: tuple[int, int],
) -> Overhead:
    """A row before anything was measured."""
    return Overhead(
        engine=engine,
        since=since,
        until=until or (999,),
        gpu_class=kind,  # type: ignore[arg-type]
        tensor_from=tensor[0],
        tensor_to=tensor[1],
        other_low_gib=0.0,
        other_gib=PRIOR_OTHER_GIB[tensor[0]],
        other_high_gib=0.0,
        forward_scale=1.0,
        sampler_bytes=sampler,
        graphs_gib=graphs if kind != "amd" else 0.0,
        rows=0,
    )


def unexplained(case: Case, row: Overhead) -> float | None:
    """GiB of the budget that weights, cache and the row's activations and graphs leave; None where not recorded."""
    flat = replace(row, other_low_gib=0.0, other_gib=0.0, other_high_gib=0.0)
    found = gpu_memory.estimate(case.facts, case.ask, [flat])
    kept = cache_gib(case)
    if kept is None:
        return None
    parts = {part.name: part.bytes / GIB for part in found.parts}
    weights = case.weights_gib if case.weights_gib is not None else parts["weights"]
    return found.budget_bytes / GIB - weights - kept - sum(parts[name] for name in EXPLAINED)


def cache_gib(case: Case) -> float | None:
    """Measured memory for the cache, from its tokens where only those were printed."""
    if case.cache_gib is not None:
        return case.cache_gib
    if case.tokens is None:
        return None
    laid = gpu_memory.layout(case.facts, case.ask)
    return case.tokens * laid.token_bytes / laid.share / GIB


def fit(cases: Sequence[Case]) -> list[Overhead]:
    """The whole table, from the cases that may be scored."""
    usable = [c for c in cases if c.row["use"] == "score" and c.has_gpu and cache_gib(c) is not None]
    rows: list[tuple[Overhead, list[float]]] = []
    for era in ERAS:
        mine = [c for c in usable if c.ask.engine == era[0] and within(c, era[1], era[2])]
        rows += _fit_era(mine, era)
    return _with_intervals(rows)


def within(case: Case, since: tuple[int, ...], until: tuple[int, ...]) -> bool:
    return since <= parse_version(case.ask.engine, case.ask.version) < (until or (999,))


def cell(case: Case) -> tuple[str, tuple[int, int]]:
    """Class of GPU and range of tensor parallelism."""
    return gpu_class(case.ask.gpu), next(t for t in TENSORS if t[0] <= case.ask.split.tensor <= t[1])


def _fit_era(cases: Sequence[Case], era: Any) -> list[tuple[Overhead, list[float]]]:
    """The two factors on a grid, then a median for every cell that was measured; with each row its residuals."""
    start = {key: blank(*era, *key) for key in product(CLASSES, TENSORS)}

    def residuals(factors: tuple[float, float]) -> dict[Any, list[float]]:
        found: dict[Any, list[float]] = {}
        for case in cases:
            row = replace(start[cell(case)], sampler_bytes=factors[0], forward_scale=factors[1])
            if (left := unexplained(case, row)) is not None:
                found.setdefault(cell(case), []).append(left)
        return found

    def cost(factors: tuple[float, float]) -> float:
        return sum(
            min(abs(value - _center(key, values)), OUTLIER_GIB)
            for key, values in residuals(factors).items()
            for value in values
        )

    fitted = era[0] == "vllm" and len(cases) >= FEWEST_FOR_FACTORS
    factors = min(product(SAMPLER_BYTES, FORWARD_SCALES), key=cost) if fitted else (era[3], 1.0)
    measured = residuals(factors)
    out: list[tuple[Overhead, list[float]]] = []
    for key, row in start.items():
        values = measured.get(key, [])
        other = max(0.0, round(_center(key, values), 3)) if values else row.other_gib
        row = replace(row, sampler_bytes=float(factors[0]), forward_scale=factors[1], other_gib=other, rows=len(values))
        out.append((row, [value - other for value in values]))
    return out


def _center(key: Any, values: list[float]) -> float:
    return median([*values, PRIOR_OTHER_GIB[key[1][0]]])


def _with_intervals(rows: list[tuple[Overhead, list[float]]]) -> list[Overhead]:
    """Half-widths that hold the wanted share of residuals: the row's own, or, where it has few, those of all rows of
    its engine, in proportion to what is expected at its tensor parallelism."""
    pools: dict[tuple[str, tuple[int, ...]], list[float]] = {}
    for row, residuals in rows:
        scale = SPREAD[row.tensor_from]
        pools.setdefault((row.engine, row.since), []).extend(abs(value) / scale for value in residuals)
    every = [value for pool in pools.values() for value in pool]
    table: list[Overhead] = []
    for row, residuals in rows:
        scale = SPREAD[row.tensor_from]
        pool = pools[row.engine, row.since]
        if len(pool) < OWN_ROWS:
            pool = every or [PRIOR_OTHER_GIB[row.tensor_from]]
        half = quantile(pool, COVERED) * scale
        if len(residuals) >= OWN_ROWS:
            half = quantile([abs(value) for value in residuals], COVERED)
        half = max(half, LEAST_HALF_GIB)
        table.append(
            replace(row, other_low_gib=round(row.other_gib - half, 3), other_high_gib=round(row.other_gib + half, 3))
        )
    return table


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` (not empty) that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=DATA / "cases.jsonl")
    parser.add_argument("--models", type=Path, default=DATA / "models.jsonl")
    parser.add_argument("--out", type=Path, default=Path(gpu_memory.__file__).with_name("calibration.json"))
    options = parser.parse_args()
    models = {row["model_id"]: row for row in read(options.models) if row["model_id"]}
    cases = [case for row in read(options.cases) if isinstance(case := case_of(row, models), Case)]
    rows = fit(cases)
    content = {"made_by": "python bench/calibrate.py", "cases": len(cases), "rows": [asdict(row) for row in rows]}
    for row in content["rows"]:
        row["until"] = [] if row["until"] == (999,) else row["until"]
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{len(rows)} rows from {len(cases)} cases -> {options.out}")


if __name__ == "__main__":
    main()
