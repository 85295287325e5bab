"""Sidecar: vision.json as it lies beside a model, read with a bound."""

import json
from pathlib import Path
from typing import Any, cast

from modelport.errors import ModelportError

NAME = "vision.json"
MOST_BYTES = 4 << 20
"""Thousands of labels have some hundred kilobytes."""


def read_sidecar(directory: Path) -> dict[str, Any]:
    """The content of a directory's vision.json; empty where there is none.

    Raises ModelportError when it is no JSON object, or longer than 4 MiB.
    """
    file = directory / NAME
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        raw = opened.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ModelportError(f"{NAME} has more than {MOST_BYTES >> 20} MiB.")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelportError(f"{NAME} is no JSON object; write `{{...}}` with its keys.")
    return cast(dict[str, Any], found)
