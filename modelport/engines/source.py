"""Source: from where an engine and its model come: a directory of this machine, the Hub, a cloud, an image."""

import re
from pathlib import Path
from typing import Literal

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import FROM_ENVIRONMENT
from modelport.domain.plan import Device
from modelport.errors import ModelportError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

Kind = Literal["local", "hub", "cloud"]


def kind(path: str) -> Kind:
    """What a path of ModelFacts is. What exists here is local, even if it reads like a Hub id."""
    if "://" in path:
        return "cloud"
    return "hub" if HUB_ID.fullmatch(path) and not Path(path).exists() else "local"


def hub_token(facts: ModelFacts) -> dict[str, str]:
    """What an engine needs beside its key to fetch a model from the Hub: a token, where there is one."""
    return {"HF_TOKEN": f"{FROM_ENVIRONMENT}HF_TOKEN"} if kind(facts.path) == "hub" else {}


def cuda(device: Device) -> bool:
    """Whether the engines' usual images, which are built for NVIDIA, are for this device."""
    return device.kind == "gpu" and (device.gpu is None or device.gpu.vendor == "nvidia")


def draft(model: str) -> tuple[str, str]:
    """A draft model as engines take it, and its revision. Raises ModelportError for what no engine loads."""
    name, _, revision = model.strip().removeprefix("hf_model://").partition("@")
    if "://" in name:
        raise ModelportError(
            f"the draft model {model!r} is a cloud address, which engines do not load drafts from: download it, and "
            "name its directory.",
            param="speculative",
        )
    if kind(name) == "hub":
        return name, revision
    if not Path(model.strip()).is_dir():
        raise ModelportError(
            f"the draft model {model!r} is neither a Hub id (org/name) nor a directory of this machine.",
            param="speculative",
        )
    return str(Path(model.strip()).resolve()), ""  # engines start in a directory of their own
