"""Labels: the names of a model's classes, from vision.json or from the file beside the model that has them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from modelport.domain.vision import Vision
from modelport.errors import ModelportError, nearest
from modelport.runtime.boxes import MOST_CLASSES

MOST_BYTES = 4 << 20


class Labels:
    """Class to name. A class without a name goes by its number."""

    def __init__(self, named: Mapping[int, str]) -> None:
        self.named = dict(named)
        self.numbers = {name: number for number, name in reversed(self.named.items())}

    def __len__(self) -> int:
        return len(self.named)

    def of(self, number: int) -> str:
        return self.named.get(number, str(number))

    def number(self, asked: object, classes: int) -> int:
        """The class that a request names or numbers, of so many (0 where that is not known).

        Raises ModelportError for none of them, with the nearest name.
        """
        text = str(asked)
        if not isinstance(asked, bool) and text in self.numbers:
            return self.numbers[text]
        if not isinstance(asked, bool) and text.isdecimal() and len(text) < 7 and int(text) < (classes or MOST_CLASSES):
            return int(text)
        raise ModelportError(
            f"classes names {text[:60]!a}, which this model does not know.{nearest(text[:60], self.numbers)}",
            param="classes",
        )


def read_labels(vision: Vision, directory: Path) -> Labels:
    """The labels of a model in `directory`. Raises ModelportError for a file that is not there or no list of names."""
    if not isinstance(vision.labels, str):
        return _in_order(vision.labels, vision.boxes.first_label)
    name = vision.labels
    if "/" in name or "\\" in name or name.startswith("."):
        raise ModelportError(f"vision.json: labels is {name[:80]!r}, but it is the name of a file beside the model.")
    file = directory / name
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        raise ModelportError(f"vision.json: the labels' file {name[:80]!r} is not there, or has more than 4 MiB.")
    try:
        text = file.read_text("utf-8-sig")
        if not name.lower().endswith((".yaml", ".yml", ".json")):
            return _in_order(_lines(text), vision.boxes.first_label)
        content = json.loads(text) if name.lower().endswith(".json") else yaml.load(text, yaml.BaseLoader)  # noqa: S506
        return _structured(content, vision.boxes.first_label)
    except (ValueError, RecursionError, yaml.YAMLError):
        raise ModelportError(
            f"The labels' file {name[:80]!r} holds no names: write one name a line, `name;name`, or a YAML or JSON "
            "list or mapping."
        ) from None


def _lines(text: str) -> list[str]:
    """One a line, or TAO's and DeepStream's `name;name`. Empty lines at the end are none."""
    lines = text.replace(";", "\n").rstrip().splitlines() if ";" in text else text.rstrip().splitlines()
    return [line.strip() for line in lines]


def _structured(content: Any, first: int) -> Labels:
    """A list; a mapping of names to numbers (TAO's classmap.json) or of numbers to names; or either below `names`."""
    if isinstance(content, dict) and "names" in content:
        content = cast(Any, content)["names"]
    if isinstance(content, list):
        return _in_order([str(name) for name in cast(list[Any], content)], first)
    if not isinstance(content, dict) or not content:
        raise ValueError
    pairs = list(cast(dict[Any, Any], content).items())
    numbered = [(int(key), str(value)) for key, value in pairs if str(key).isdecimal()]
    if len(numbered) != len(pairs):
        numbered = [(int(value), str(key)) for key, value in pairs]
    if min(numbered)[0] < 0 or max(numbered)[0] >= MOST_CLASSES:
        raise ValueError
    return Labels(dict(numbered))


def _in_order(names: Sequence[str], first: int) -> Labels:
    if len(names) > MOST_CLASSES:
        raise ModelportError(f"vision.json: there are {len(names):,} labels, where {MOST_CLASSES:,} are the most.")
    return Labels(dict(enumerate(names, first)))
