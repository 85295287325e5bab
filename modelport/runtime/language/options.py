"""Options: how a model is loaded, by the names that TAO's job specs have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from modelport.errors import ModelportError, nearest

DTYPES = {
    "auto": "auto",
    "float16": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float32": "float32",
    "fp32": "float32",
}
"""What may be asked for, and torch's name of it; auto is what the checkpoint has."""
CHOICES = {"torch_dtype": tuple(DTYPES), "device_map": ("auto", "cpu", "cuda"), "lora_mode": ("merge", "attach")}
CODE = "source code that comes with a request or a job is not run. Serve the model by its architecture instead"
REFUSED = {
    "custom_pipeline_loader": CODE,
    "custom_pipeline_loader_encoded": CODE,
    "custom_inference_fn": CODE,
    "custom_inference_fn_encoded": CODE,
    "hf_token": "a token is a secret and comes by the environment: set HF_TOKEN there",
}
REMOTE_CODE = (
    "`trust_remote_code` can only be false: code that a repository brings along is not run. "
    "Use a model whose architecture transformers itself has."
)
IGNORED = frozenset({"hf_model"})
"""Said by TAO beside `model_path`, which it repeats."""


@dataclass(frozen=True, slots=True)
class Options:
    torch_dtype: str = "auto"
    device_map: str = "auto"
    """auto is every GPU there is, else the CPU."""
    trust_remote_code: bool = False
    use_flash_attention_2: bool = False
    max_memory: str = ""
    """How much of each GPU weights may take: `20GiB` for all, or JSON such as `{"0": "20GiB", "cpu": "60GiB"}`."""
    enable_lora: bool = False
    """The directory is a LoRA adapter, and `base_model_path` what it was made for."""
    base_model_path: str = ""
    lora_mode: str = "merge"
    """merge adds the adapter to the weights once; attach computes it beside them."""


def read(given: Mapping[str, str | int | float | bool]) -> Options:
    """Raises ModelportError for an option that is unknown (with the nearest), refused, or of a wrong value."""
    types = {field.name: type(field.default) for field in fields(Options)}
    taken: dict[str, Any] = {}
    for name, value in given.items():
        if name in REFUSED:
            raise ModelportError(f"The option `{name}` is refused: {REFUSED[name]}.", param=name)
        if name in IGNORED:
            continue
        if name not in types:
            raise ModelportError(
                f"There is no option {name!r} for language models.{nearest(name, types)} Known: {', '.join(types)}.",
                param=name,
            )
        if type(value) is not types[name]:
            wanted = "true or false" if types[name] is bool else "text"
            raise ModelportError(f"The option `{name}` is {wanted}, not {value!r}.", param=name)
        if name in CHOICES and value not in CHOICES[name]:
            raise ModelportError(f"`{name}` is one of {', '.join(CHOICES[name])}, not {value!r}.", param=name)
        taken[name] = value
    options = Options(**taken)
    if options.trust_remote_code:
        raise ModelportError(REMOTE_CODE, param="trust_remote_code")
    if options.enable_lora and not options.base_model_path:
        raise ModelportError(
            "`enable_lora` needs `base_model_path`: the directory of the model that the adapter was made for.",
            param="base_model_path",
        )
    if options.max_memory:
        limits(options.max_memory, 1)
    return options


def limits(text: str, gpus: int) -> dict[int | str, str]:
    """accelerate's `max_memory`: a GPU's number, or `cpu`, to a size. Raises ModelportError."""
    wrong = ModelportError(
        '`max_memory` is a size such as 20GiB, or JSON such as {"0": "20GiB", "cpu": "60GiB"}.', param="max_memory"
    )
    if not text.startswith("{"):
        sizes: dict[str, object] = {str(gpu): text for gpu in range(gpus)}
    else:
        try:
            sizes = cast(dict[str, object], json.loads(text))
        except ValueError:
            raise wrong from None
    found: dict[int | str, str] = {}
    for device, size in sizes.items():
        if not (device == "cpu" or device.isdecimal()) or not isinstance(size, str) or not _is_size(size):
            raise wrong
        found[device if device == "cpu" else int(device)] = size
    return found


def _is_size(text: str) -> bool:
    number = text.removesuffix("GiB").removesuffix("MiB").removesuffix("GB").removesuffix("MB")
    return number != text and number.replace(".", "", 1).isdecimal()
