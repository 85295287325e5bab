"""The catalog answers: what is this model? A source goes in, ModelFacts come out."""

from pathlib import Path

from modelport.catalog.aliases import ALIASES, alias_directory
from modelport.catalog.facts import facts_of
from modelport.catalog.gguf import read_header
from modelport.catalog.local import gguf_files
from modelport.domain.facts import ModelFacts
from modelport.errors import MODEL_NOT_FOUND, ModelportError, nearest


def resolve(source: str) -> ModelFacts:
    """What the files of a model say.

    `source` is an alias, a .gguf file or a directory with one model; `~` and relative paths work. An alias wins over
    a file of the same name: write `./name` for the file. Raises ModelportError when there is no such model or it
    cannot be read.
    """
    try:
        path = alias_directory(source) if source in ALIASES else _existing(source)
        files = gguf_files(path)
        return facts_of(source, files[0], [read_header(file) for file in files])
    except OSError as error:
        raise ModelportError(f"{source!r} cannot be read: {error.strerror or error}.", param="model") from None


def _existing(source: str) -> Path:
    try:
        path = Path(source).expanduser().absolute()
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError, RuntimeError):
        # ValueError: a zero byte in the name. RuntimeError: `~nobody` has no home.
        raise ModelportError(
            f"No model {source!r}: it is neither a file or directory here nor an alias ({', '.join(sorted(ALIASES))})."
            + nearest(source, tuple(ALIASES)),
            MODEL_NOT_FOUND,
            param="model",
        ) from None
    return path
