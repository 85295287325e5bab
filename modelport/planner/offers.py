"""Offers: what clouds sell at which price: dated data (prices.yaml), which a file of the user's replaces row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from modelport.domain.gpu import GPUS_OF_A_MACHINE
from modelport.domain.plan import Offer, Split
from modelport.errors import ModelportError, nearest
from modelport.planner.gpus import GPUS, find

PACKAGED = Path(__file__).with_name("prices.yaml")
_KEYS = ("cloud", "source", "as_of", "counts", "usd_per_machine", "usd_per_gpu")


@dataclass(frozen=True, slots=True)
class Price:
    """One machine with `count` GPUs of a kind, on demand."""

    cloud: str
    gpu: str
    count: int
    usd_per_hour: float
    as_of: str


def prices(own: Path | None = None) -> tuple[Price, ...]:
    """All known prices; those of the file `own`, where it exists, in place of the packaged ones they name.

    Raises ModelportError, one sentence: what in which file is wrong.
    """
    table = {(row.cloud, row.gpu, row.count): row for row in _packaged()}
    if own is not None and own.exists():
        table |= {(row.cloud, row.gpu, row.count): row for row in _read(own)}
    return tuple(sorted(table.values(), key=lambda row: (row.usd_per_hour, row.cloud, row.gpu, row.count)))


def cheapest(table: Sequence[Price], gpu: str, split: Split, count: int = 0) -> Offer | None:
    """The cheapest way to rent at least `count` GPUs of a kind (by default what the split uses), or None.

    More than one machine holds are rented as whole nodes of 8, and only for pipeline stages or copies that each fit a
    node. The price is of the whole machines, idle GPUs included.
    """
    wanted = count or split.gpus
    found: list[Offer] = []
    for row in table:
        machines = -(-wanted // row.count)
        spans = row.count == GPUS_OF_A_MACHINE and split.tensor <= GPUS_OF_A_MACHINE
        if row.gpu == gpu and (machines == 1 or spans):
            total = machines * row.count
            found.append(Offer(gpu, total, row.cloud, round(machines * row.usd_per_hour, 4), row.as_of))
    return min(found, key=lambda offer: (offer.usd_per_hour, offer.count), default=None)


def shapes(table: Sequence[Price]) -> list[tuple[str, int]]:
    """GPU kind and count of every machine that is sold, and two nodes of each kind sold by the node, cheapest first."""
    costs: dict[tuple[str, int], float] = {}
    for row in table:
        for nodes in (1, 2) if row.count == GPUS_OF_A_MACHINE else (1,):
            key, usd = (row.gpu, nodes * row.count), nodes * row.usd_per_hour
            costs[key] = min(usd, costs.get(key, usd))
    return sorted(costs, key=lambda key: (costs[key], key))


@cache
def _packaged() -> list[Price]:
    return _read(PACKAGED)


def _read(path: Path) -> list[Price]:
    try:
        data: object = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ModelportError(f"The price file {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ModelportError(f"The price file {path} is not YAML.") from None
    entries = cast(dict[str, object], data).get("prices") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ModelportError(f"The price file {path} has no list `prices:`.")
    return [row for number, entry in enumerate(cast(list[Any], entries), 1) for row in _entry(path, number, entry)]


def _entry(path: Path, number: int, entry: Any) -> list[Price]:
    """The rows of one entry."""

    def wrong(what: str) -> ModelportError:
        return ModelportError(f"Entry {number} of the price file {path}: {what}.")

    if not isinstance(entry, dict):
        raise wrong("it must be a mapping with cloud, as_of and prices")
    given = cast(dict[str, Any], entry)
    if unknown := [str(key) for key in given if key not in _KEYS]:
        raise wrong(f"the key {unknown[0]!r} is not known{nearest(unknown[0], _KEYS).rstrip('?') or ''}")
    cloud, as_of = given.get("cloud"), given.get("as_of")
    if not isinstance(cloud, str) or not cloud:
        raise wrong("`cloud` must be a name")
    try:
        day = (as_of if isinstance(as_of, date) else date.fromisoformat(str(as_of))).isoformat()
    except ValueError:
        raise wrong(f"`as_of` must be a day like 2026-09-08, not {as_of!r}") from None
    machines: dict[Any, Any] = dict(_mapping(given.get("usd_per_machine"), "usd_per_machine", wrong))
    for gpu, usd in _mapping(given.get("usd_per_gpu"), "usd_per_gpu", wrong).items():
        counts = given.get("counts", [1])
        if not isinstance(counts, list):
            raise wrong("`counts` must be a list of numbers of GPUs")
        machines[gpu] = {n: _positive(n, float, wrong) * _positive(usd, float, wrong) for n in cast(list[Any], counts)}
    rows: list[Price] = []
    for name, by_count in machines.items():
        gpu = find(str(name))
        if gpu is None:
            raise wrong(f"the GPU {str(name)!r} is not known{nearest(str(name), GPUS).rstrip('?')}")
        for count, usd in _mapping(by_count, f"usd_per_machine of {name}", wrong).items():
            rows.append(Price(cloud, gpu.name, _positive(count, int, wrong), _positive(usd, float, wrong), day))
    return rows


def _mapping(value: Any, key: str, wrong: Any) -> dict[Any, Any]:
    if value is not None and not isinstance(value, dict):
        raise wrong(f"`{key}` must be a mapping, not {value!r}")
    return cast(dict[Any, Any], value or {})


def _positive(value: Any, kind: type, wrong: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)) or not 0 < value < 1e6:
        raise wrong(f"{value!r} is not a number above 0")
    return kind(value)
