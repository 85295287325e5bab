"""Source: a model wherever it is, as files on this machine's disk."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelport import storage
from modelport.errors import ModelportError
from modelport.runtime.handler import LoadFailed, Told
from modelport.storage import is_archive, is_cloud

HUB = ("hf_model://", "hf://")
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.onnx", "*.onnx[_.]data"]
"""What of a Hub repository is downloaded: no pickles, whatever they are called."""


def is_here(model: str) -> bool:
    """Whether nothing has to be downloaded or unpacked."""
    return not is_cloud(model) and not model.startswith(HUB) and Path(model).exists() and not is_archive(model)


def located(model: str, env: Mapping[str, str], told: Told) -> Path:
    """The model's directory or file. Raises ModelportError, LoadFailed where another try may go better."""
    if is_here(model):
        return Path(model)
    with _unnamed(model):
        if is_cloud(model):
            return storage.model(model, env, _bytes("Downloading", told))
        if is_archive(model) and Path(model).is_file():
            return storage.unpacked(Path(model), _bytes("Unpacking", told))
    repository = model
    for scheme in HUB:
        repository = repository.removeprefix(scheme)
    if not _is_repository(repository):
        raise LoadFailed("The model is not there: no such file or directory, and no Hub id (org/name) either.")
    return _from_hub(repository, told)


def _is_repository(text: str) -> bool:
    name = text.partition("@")[0]
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and all(name.split("/"))


def _from_hub(repository: str, told: Told) -> Path:
    """From the usual cache, or into it; HF_TOKEN, HF_ENDPOINT and HF_HOME count as everywhere."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise LoadFailed("huggingface_hub is not installed: pip install 'modelport[hf]'.") from None
    name, _, revision = repository.partition("@")
    told(f"Downloading {name} from the Hub", None)
    try:
        found = snapshot_download(
            name, revision=revision or None, allow_patterns=WANTED, tqdm_class=_bar(f"Downloading {name}", told)
        )
    except GatedRepoError:
        raise LoadFailed(
            f"{name} is gated: accept its licence on the Hub, and set HF_TOKEN to a token of that account."
        ) from None
    except RepositoryNotFoundError:
        raise LoadFailed(f"The Hub has no model {name!r}, or HF_TOKEN may not see it.") from None
    except RevisionNotFoundError:
        raise LoadFailed(f"{name} has no revision {revision!r}.") from None
    except HFValidationError:
        raise LoadFailed(f"{name[:120]!r} is no Hub id.") from None
    except LocalEntryNotFoundError:
        raise LoadFailed(f"The Hub could not be reached for {name}, and it is not in the cache.", again=True) from None
    except (HfHubHTTPError, OSError) as error:
        full = isinstance(error, OSError) and error.errno == 28
        why = "the disk is full" if full else "the Hub or the network failed"
        raise LoadFailed(f"{name} could not be downloaded: {why}.", again=True) from None
    return Path(found)


@contextlib.contextmanager
def _unnamed(model: str) -> Iterator[None]:
    """What goes wrong within, told without the model's place: this server's clients did not choose it."""
    try:
        yield
    except ModelportError as error:
        said = error.message.replace(repr(model), "the model")
        raise ModelportError(said[:1].upper() + said[1:], error.kind) from None


def _bytes(doing: str, told: Told) -> Callable[[int, int], None]:
    """What hears of bytes, as what hears sentences."""
    return lambda have, all: told(f"{doing}: {have / 1e6:,.0f} of {all / 1e6:,.0f} MB", have / all if all else None)


def _bar(label: str, told: Told) -> Any:
    """A progress bar that tells instead of drawing: of all bars, the one that counts bytes."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.counts_bytes = options.get("unit") == "B"
            super().__init__(*arguments, **{**options, "file": _nowhere(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if self.counts_bytes and self.total:
                told(f"{label}: {self.n / 1e6:,.0f} of {self.total / 1e6:,.0f} MB", self.n / self.total)
            return shown

    return Bar


def _nowhere() -> Any:
    return open(os.devnull, "w")
