"""Fields: typed access to a model's config.json, whatever its family calls things.

Language models inside of multimodal ones say their sizes in a nested part (`text_config` and its like); what is not
there is what its class assumes (defaults.py), then looked for above.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from modelport.catalog.defaults import assumed, class_of
from modelport.errors import ModelportError

NESTED = ("text_config", "llm_config", "language_config", "language_model_config", "thinker_config", "decoder")
MOST = 1 << 40  # far above every count and length in a config: what is above is damage
MOST_LAYERS = 4096


class Fields:
    """One config. Lookups try each of several names, in the language model's part first; null counts as absent."""

    def __init__(self, source: str, config: Mapping[str, Any], nested_kind: str | None = None) -> None:
        """`nested_kind` is given for what is itself a part of a config: the `model_type` its class has."""
        self.source, self.top = source, config
        self.parts: list[Mapping[str, Any]] = [config]
        if nested_kind is not None:
            self.parts.append(assumed(nested_kind, config))
        inner, kind, depth = config, nested_kind or _kind_of(config), 0
        while key := next((k for k in NESTED if _is_part(inner, kind, k)), None):
            if (depth := depth + 1) > 4:
                raise self.broken(NESTED[0], "nested too deeply")
            inner = cast(Mapping[str, Any], inner[key])
            kind = class_of(kind, key, _kind_of(inner))
            self.parts[:0] = [inner, assumed(kind, inner)]

    def get(self, *names: str) -> Any:
        for part in self.parts:
            for name in names:
                if part.get(name) is not None:
                    return part[name]
        return None

    def has(self, *names: str) -> bool:
        return self.get(*names) is not None

    def number(self, *names: str, default: int = 0) -> int:
        """The first of `names` that is there, a whole number of 0 or more. Raises ModelportError for anything else."""
        value = self.get(*names)
        if value is None or value == "":
            return default
        # Gemma 3n and OpenELM say one size per layer; the widest one stands for all.
        if isinstance(value, list) and value:
            value = max((v for v in cast(list[Any], value) if type(v) is int), default=None)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= MOST:
            raise self.broken(self._said(names), repr(self.get(*names)))
        return value

    def need(self, *names: str) -> int:
        """As `number`, at least 1. Raises ModelportError that names the key when there is none."""
        value = self.number(*names)
        if not value:
            raise missing(self.source, [names[0]])
        return value

    def text(self, *names: str) -> str:
        value = self.get(*names)
        return value[:200] if isinstance(value, str) else ""

    def flag(self, *names: str, default: bool = False) -> bool:
        value = self.get(*names)
        return default if value is None else bool(value)

    def part(self, *names: str) -> Mapping[str, Any]:
        value = self.get(*names)
        return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}

    def words(self, *names: str) -> tuple[str, ...]:
        value = self.get(*names)
        items = cast(list[Any], value) if isinstance(value, list) else []
        return tuple(item for item in items if isinstance(item, str))

    def numbers(self, *names: str) -> tuple[int, ...]:
        value = self.get(*names)
        items = cast(list[Any], value) if isinstance(value, list) else []
        return tuple(item for item in items if type(item) is int)

    def inner(self, name: str) -> "Fields":
        """A part of the config (`vision_config`) as Fields of its own, empty where it is absent."""
        if not isinstance(self.get(name), Mapping):
            return Fields(self.source, {})
        part = self.part(name)
        return Fields(self.source, part, class_of(_kind_of(self.top), name, _kind_of(part)))

    @property
    def kind(self) -> str:
        """`model_type` of the language model."""
        return self.text("model_type").lower()

    @property
    def wrapper(self) -> str:
        """`model_type` of the whole, which around a language model is another one: `llava`, `gemma3`."""
        return _kind_of(self.top)

    @property
    def layers(self) -> int:
        listed = len(self.words("layers_block_type")) or len(self.text("hybrid_override_pattern"))
        layers = self.number("num_hidden_layers", "n_layer", "n_layers", "num_layers", default=listed)
        if not layers:
            raise missing(self.source, ["num_hidden_layers"])
        if layers > MOST_LAYERS:
            raise self.broken("num_hidden_layers", f"{layers:,}, where {MOST_LAYERS:,} are the most")
        return layers

    @property
    def hidden(self) -> int:
        return self.need("hidden_size", "n_embd", "d_model", "n_embed", "model_dim")

    @property
    def heads(self) -> int:
        return self.need("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")

    def broken(self, key: str, what: object) -> ModelportError:
        return ModelportError(
            f"The config of {self.source!r} cannot be used: {key} is {str(what)[:80]}.", param="model"
        )

    def _said(self, names: Sequence[str]) -> str:
        return next((name for name in names if self.has(name)), names[0])


def _kind_of(part: Mapping[str, Any]) -> str:
    kind = part.get("model_type")
    return kind.lower() if isinstance(kind, str) else ""


def _is_part(outer: Mapping[str, Any], kind: str, key: str) -> bool:
    """Whether the language model is at `key`: an empty part counts where its class is known to fill it."""
    part = outer.get(key)
    return isinstance(part, Mapping) and bool(part or class_of(kind, key, ""))


def missing(source: str, keys: Sequence[str]) -> ModelportError:
    """The error for a config that lacks what sizes are computed from."""
    return ModelportError(f"The config of {source!r} does not say {', '.join(keys)}.", param="model")
