"""Wanted: what somebody wants a TAO inference service of, and the Spec that it makes."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.domain.spec import Spec, name_from, parse_spec
from modelport.errors import ModelportError
from modelport.tao import arch as archs
from modelport.tao import images, payload, platforms
from modelport.tao.images import Image
from modelport.tao.payload import Option

PORTS = "8080-8199"
SKILL, ARCH, PLATFORM = "tao.skill", "tao.network-arch", "tao.platform"
"""Labels by which such a service is known again."""
MODEL_KEYS = (
    *("2B/pre-trained", "2B/post-trained", "14B/pre-trained", "2B/auto/multiview"),
    *("2B/robot/multiview", "2B/robot/multiview-agibot"),
)
"""What cosmos-predict2.5 calls its checkpoints (cosmos_predict2/config.py of nvidia-cosmos/cosmos-predict2.5)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything a start may be told; only the first two must be."""

    network_arch: str
    model_path: str
    platform: str = "process"
    gpus: str = "1"
    """How many, or `NAME:COUNT`."""
    engine: str = "auto"
    """`auto` is what of Modelport's own serves the model; the architecture's own name is TAO's container."""
    image: str = ""
    versions: Path | None = None
    """A versions.yaml in place of the packaged one."""
    sidecars: Path | None = None
    """A directory with `{network_arch}.config.json` files."""
    hf_token_ref: str = ""
    workspace: str = ""
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    """More specs of the job, like `torch_dtype`."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    on: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the platform is told, like `partition`."""
    idle_timeout: str | float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A Wanted in our words."""

    spec: Spec
    image: Image


def order(wanted: Wanted, environ: Mapping[str, str] = os.environ) -> Order:
    """The Spec and the image. Raises ModelportError with one sentence on the first thing that is wrong."""
    arch = archs.find(wanted.network_arch)
    platform = platforms.find(wanted.platform)
    model = payload.model(arch, wanted.model_path)
    contained = wanted.engine == arch.name
    if wanted.engine in archs.ARCHS and not contained:
        raise ModelportError(f"The engine {wanted.engine} serves {wanted.engine}, not {arch.name}.", param="engine")
    image = images.resolve(
        arch.name, image=wanted.image, versions=wanted.versions, sidecars=wanted.sidecars, environ=environ
    )
    options = payload.specs(wanted.options)
    if contained:
        _check_container(arch.name, model, image, options)
        options["image"] = image.uri
    fields: dict[str, Any] = {
        "model": model.source,
        "name": f"{name_from(arch.name)}-{secrets.token_hex(4)}",
        "engine": wanted.engine,
        "platform": platform.ours,
        "job": True,
        "port": PORTS,
        "options": options,
        "env": payload.environment(arch, platform, model, wanted.env, wanted.hf_token_ref),
        "workspace": wanted.workspace,
        "labels": {
            **{SKILL: "1", ARCH: arch.name, PLATFORM: platform.name},
            **platforms.labels(platform, wanted.on, image.uri, environ),
        },
        **_gpus(wanted.gpus),
    }
    if wanted.idle_timeout is not None:
        fields["idle_timeout"] = wanted.idle_timeout
    return Order(parse_spec(fields, "the service"), image)


def _gpus(text: str) -> dict[str, Any]:
    """One GPU is what an engine takes by itself, or none where there is none."""
    if ":" in text:
        return {"accelerators": text}
    if not re.fullmatch(r"[0-9]{1,4}", text.strip()) or int(text) < 1:
        raise ModelportError(f"The number of GPUs is {text[:40]!r}; it is at least 1, or NAME:COUNT.", param="gpus")
    return {"tensor_parallel": int(text)} if int(text) > 1 else {}


def _check_container(arch: str, model: payload.Model, image: Image, options: Mapping[str, Option]) -> None:
    """What TAO's own container cannot do. Raises ModelportError."""
    if image.folder and not model.hub and Path(model.source).is_file():
        raise ModelportError(
            f"{model.source} is a file, and the container of {arch} takes the model path for a directory: name the "
            "directory it is in.",
            param="model_path",
        )
    if arch == "cosmos-predict2.5" and model.hub and not options.get("model_key"):
        raise ModelportError(
            f"cosmos-predict2.5 knows models of the Hub by keys of its own: say which {model.source} is by --option "
            f"model_key=…; its keys are {', '.join(MODEL_KEYS)}.",
            param="model_key",
        )
