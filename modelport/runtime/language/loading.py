# torch and transformers live in the runtime's own environment, not in the one that is type-checked.
# pyright: reportMissingImports=false
"""Loading: weights from safetensors into memory. Nothing is fetched, no code of a repository is run, and a model that
lacks weights is refused instead of being filled with random ones.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers.utils import logging as chatter

from modelport.errors import INTERNAL, ModelportError
from modelport.runtime.handler import LoadFailed, Told
from modelport.runtime.language import lora
from modelport.runtime.language.options import DTYPES, Options, limits
from modelport.runtime.language.source import Source

log = logging.getLogger("modelport.runtime")
chatter.disable_progress_bar()

LOCAL = {"local_files_only": True, "trust_remote_code": False}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
UNUSED = ("pooler.",)
"""Weights that a checkpoint may lack: embeddings do not use what is made of them."""
FULL = ("out of memory", "allocate memory", "bad_alloc")
"""How torch's errors that are not of the class OutOfMemoryError say that memory is full."""


def model(source: Source, options: Options, auto: Any, told: Told) -> Any:
    """A model of one of transformers' Auto classes, on its device, in evaluation. Raises LoadFailed."""
    gpu = options.device_map != "cpu" and torch.cuda.is_available()
    if options.device_map == "cuda" and not gpu:
        raise LoadFailed("`device_map` is cuda, but torch finds no GPU here. Use auto or cpu.")
    wanted: dict[str, Any] = {"dtype": DTYPES[options.torch_dtype], "use_safetensors": True, **LOCAL}
    if options.use_flash_attention_2:
        wanted["attn_implementation"] = "flash_attention_2"
    if gpu:
        wanted["device_map"] = "auto" if options.device_map == "auto" else {"": 0}
    if options.max_memory:
        if not gpu:
            raise LoadFailed("`max_memory` says how weights are spread over GPUs, and none is used here. Leave it out.")
        wanted["max_memory"] = limits(options.max_memory, torch.cuda.device_count())
    told("Reading the model's weights", None)
    with sentences(options), _bare(source.base) as directory:
        loaded, info = auto.from_pretrained(directory, output_loading_info=True, **wanted)
        _complete(info)
        if source.adapter is not None:
            told("Reading the LoRA adapter", None)
            loaded = lora.add(loaded, source.adapter, merge=options.lora_mode == "merge")
    return loaded.eval()


@contextmanager
def sentences(options: Options) -> Iterator[None]:
    """Turns what libraries raise while they load into LoadFailed; their own words go to the log."""
    try:
        yield
    except ModelportError:
        raise
    except Exception as error:
        log.exception("the model could not be loaded")
        raise _failure(error, options) from error


def is_full(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)


def _failure(error: Exception, options: Options) -> LoadFailed:
    if is_full(error):
        return LoadFailed(
            "There is not enough memory for the model. Use a smaller one, a shorter `torch_dtype`, or more GPUs.",
            INTERNAL,
            again=True,
        )
    text = str(error)
    table = (
        (type(error).__name__ == "SafetensorError", "The model's weights are damaged or cut off. Fetch it again."),
        ("trust_remote_code" in text, "The model needs code that its repository brings along, which is not run."),
        ("does not recognize this architecture" in text or "Unrecognized model" in text,
         "transformers here does not know the model's architecture. A newer transformers may."),
        (options.use_flash_attention_2 and "flash" in text.lower(),
         "`use_flash_attention_2` needs the package flash-attn and a GPU it supports. Leave it out."),
        ("mismatched_sizes" in text, "The model's weights have other shapes than its config.json says. Fetch again."),
        (isinstance(error, ImportError), "The model needs a Python package that is not installed; the log names it."),
    )  # fmt: skip
    said = next((sentence for holds, sentence in table if holds), None)
    return LoadFailed(said or "The model's files could not be read; the server's log says why. Fetch the model again.")


def _complete(info: dict[str, Any]) -> None:
    missing = [name for name in sorted(info["missing_keys"]) if not name.startswith(UNUSED)]
    if missing:
        raise LoadFailed(
            f"The model's files lack {len(missing)} of its tensors (the first is {missing[0]}). Fetch the model again."
        )


@contextmanager
def _bare(directory: Path) -> Iterator[Path]:
    """The directory as if no adapter lay in it: transformers would load one without being asked, and, where there is no
    config.json, a base model by the name that the adapter gives."""
    if not any((directory / name).exists() for name in ADAPTER_FILES):
        yield directory
        return
    with TemporaryDirectory(prefix="modelport-") as view:
        for entry in directory.iterdir():
            if entry.name not in ADAPTER_FILES:
                os.symlink(entry.resolve(), Path(view) / entry.name)
        yield Path(view)
