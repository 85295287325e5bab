"""The catalog answers: what is this model? A source goes in, ModelFacts come out."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from modelport.catalog.aliases import ALIASES, alias_directory
from modelport.catalog.clean import cleaned
from modelport.catalog.local import local_facts
from modelport.catalog.sized import archive_facts
from modelport.domain.facts import ModelFacts
from modelport.errors import MODEL_NOT_FOUND, ModelportError, nearest
from modelport.storage import is_archive


def resolve(source: str, env: Mapping[str, str] | None = None) -> ModelFacts:
    """What the files of a model say.

    `source` is an alias, a .gguf file, a directory with one model or an adapter, or a config.json alone; `~` and
    relative paths work. An alias wins over a file of the same name: write `./name` for the file. What is not here and
    has the form of it is looked up on the Hub (`org/name`, hub_name.py) or in an object store (`s3://bucket/directory`,
    cloud.py), with the variables of `env` over those of this process. Of a tar archive only the size is known. Raises
    ModelportError when there is no such model or it cannot be read.
    """
    try:
        return cleaned(_found(source, env))
    except OSError as error:
        raise ModelportError(f"{source!r} cannot be read: {error.strerror or error}.", param="model") from None


def _found(source: str, env: Mapping[str, str] | None) -> ModelFacts:
    if source not in ALIASES and not os.path.exists(os.path.expanduser(source)):
        from modelport.catalog.remote import remote_facts  # HTTP, for those who need it

        if facts := remote_facts(source, env):
            return facts
    path = alias_directory(source) if source in ALIASES else _existing(source)
    if is_archive(path.name) and path.is_file():
        return archive_facts(source, str(path), path.stat().st_size)
    return local_facts(source, path, resolve)


def _existing(source: str) -> Path:
    try:
        path = Path(source).expanduser().absolute()
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError, RuntimeError):
        # ValueError: a zero byte in the name. RuntimeError: `~nobody` has no home.
        raise ModelportError(
            f"No model {source!r}: it is neither a file or directory here nor an alias ({', '.join(sorted(ALIASES))})."
            + (_written_as(source) or nearest(source, tuple(ALIASES))),
            MODEL_NOT_FOUND,
            param="model",
        ) from None
    return path


def _written_as(source: str) -> str:
    """A hint for the address of a model's page, as browsers show it."""
    page = re.match(r"https?://[^/]+/(?P<id>[\w.-]+/[\w.-]+)(/|$)", source, re.ASCII)
    return f" For a model of the Hub write {page['id']}." if page else ""
