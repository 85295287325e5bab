"""Words that files bring, made fit for a terminal, a log and a page before anything else sees them."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from modelport.domain.facts import ModelFacts

MOST_CHARACTERS = 400
EXACT = frozenset({"source", "path"})
"""What the user wrote and what an engine opens: these must stay as they are."""


def cleaned(facts: ModelFacts) -> ModelFacts:
    """The facts with every word printable and at most MOST_CHARACTERS long: no escape sequence, no half character."""
    return _cleaned(facts)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(character for character in value[:MOST_CHARACTERS] if character.isprintable())
    if isinstance(value, tuple):
        return tuple(_cleaned(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        kept = {f.name: getattr(value, f.name) for f in fields(value) if f.name not in EXACT}
        changed = {name: new for name, old in kept.items() if (new := _cleaned(old)) != old}
        return replace(value, **changed) if changed else value
    return value
