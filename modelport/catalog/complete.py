"""Whether a model's files hold what its config describes, as far as their bytes tell."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelport.catalog.config import facts_of_config
from modelport.catalog.families import ENCODERS
from modelport.catalog.tensors import Tensor
from modelport.domain.facts import ModelFacts
from modelport.domain.units import show_bytes
from modelport.errors import ModelportError

PACKED = frozenset({"I32", "U32", "U8", "I8", "F4"})
"""Types that hold several weights in one element, or that only quantizing makes."""


def holds_packed(tensors: Sequence[Tensor]) -> bool:
    """Whether some tensors are quantized, be it declared or not."""
    return any(tensor.dtype in PACKED for tensor in tensors)


def must_be_whole(facts: ModelFacts, config: Mapping[str, Any], *, packed: bool = False) -> None:
    """Nothing, or ModelportError where less than half is there of what the config implies.

    Half is far from every model in bench/data/models.jsonl, which are computed to 1 %. `packed` says that some tensors
    are. Models whose bytes the config does not tell are passed over: encoders, which may share layers (ALBERT), and
    those quantized without a word of it.
    """
    if facts.precision == "computed" or facts.architecture in ENCODERS:
        return
    if facts.quantized is None and (packed or "quantization" in config):
        return
    try:
        implied = facts_of_config(facts.source, config)
    except ModelportError:  # the config alone does not suffice
        return
    if facts.quantized:
        # 8 bits are also what stands in where the config does not say how many: then there may be 4.
        whole = facts.weight_bytes * 2 >= (
            implied.weight_bytes if facts.quantized.bits <= 4 else implied.weight_bytes / 2
        )
    elif facts.precision == "tensors":
        whole = facts.parameters * 2 >= implied.parameters
    else:
        whole = facts.weight_bytes >= implied.parameters  # half of two bytes each: float32 may be stored in 16 bit
    if not whole:
        raise ModelportError(
            f"The weight files of {facts.source!r} hold {show_bytes(facts.weight_bytes)}, and its config describes "
            f"{show_bytes(implied.weight_bytes)}: they are not complete, or of another model. Download them again, or "
            "name the config.json alone to plan without them.",
            param="model",
        )
