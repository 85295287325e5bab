# peft lives in the runtime's own environment, not in the one that is type-checked.
# pyright: reportMissingImports=false
"""LoRA: an adapter on top of a loaded model."""

import warnings
from pathlib import Path
from typing import Any

from modelport.runtime.handler import LoadFailed


def add(model: Any, adapter: Path, *, merge: bool) -> Any:
    """`merge` adds it to the weights once, so that it costs nothing afterwards; else it is computed beside them.

    Raises LoadFailed for an adapter that was made for another model.
    """
    try:
        from peft import PeftModel
    except ImportError:
        raise LoadFailed("LoRA adapters need the package peft: pip install 'modelport[hf]'.") from None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")  # peft would go on without them
            both = PeftModel.from_pretrained(model, adapter, local_files_only=True, is_trainable=False)
    except (ValueError, RuntimeError, KeyError, UserWarning) as error:
        raise LoadFailed("The LoRA adapter does not fit the model in `base_model_path`.") from error
    if not merge:
        return both
    return both.merge_and_unload(safe_merge=True)
