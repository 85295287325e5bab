"""Source: from where an engine and its model come: a directory of this machine, the Hub, a cloud, an image."""

import re
import shlex
from pathlib import Path
from typing import Literal

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import FROM_ENVIRONMENT
from modelport.domain.plan import Device
from modelport.errors import ModelportError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_HUB_FILE = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?)/(?P<file>\S.*\.gguf)", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"(?P<stem>.*)-\d{5}(?P<end>-of-\d{5}\.gguf)", re.ASCII | re.IGNORECASE)

Kind = Literal["local", "hub", "cloud"]


def kind(path: str) -> Kind:
    """What a path of ModelFacts is. What exists here is local, even if it reads like a Hub id."""
    if "://" in path:
        return "cloud"
    named = HUB_ID.fullmatch(path) or _HUB_FILE.fullmatch(path)
    return "hub" if named and not Path(path).exists() else "local"


def to_download(facts: ModelFacts) -> str:
    """The sentence for an engine that fetches nothing itself; empty for a model that is on this machine."""
    where = kind(facts.path)
    if where == "local":
        return ""
    if where == "cloud":
        return f"{facts.source!r} must be downloaded first: copy {facts.path} to this machine, and name the file."
    found = _HUB_FILE.fullmatch(facts.path)
    words = ["hf", "download", *([found["id"], found["file"]] if found else [facts.path])]
    if found and (part := _PART.fullmatch(found["file"])):
        words[3:] = ["--include", f"{part['stem']}-*{part['end']}"]
    words += ["--revision", facts.revision] if facts.revision else []
    return f"{facts.source!r} must be downloaded first: run `{shlex.join(words)}`, and name the file that it prints."


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
    if kind(name) == "hub" and not _HUB_FILE.fullmatch(name):
        return name, revision
    if not Path(model.strip()).is_dir():
        raise ModelportError(
            f"the draft model {model!r} is neither a Hub id (org/name) nor a directory of this machine.",
            param="speculative",
        )
    return str(Path(model.strip()).resolve()), ""  # engines start in a directory of their own
