"""Payload: what a TAO service is told: its model's path, its specs, its environment. Checked by the skill's rules.

What may be in each is NVIDIA's: service.yaml of the TAO skill (`secrets_handling`, `model_path`). Secrets are never
values here, only the place where they are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelport.domain.launch import SERVICE
from modelport.domain.spec import REFERENCE
from modelport.domain.variables import ALLOWED, FORBIDDEN
from modelport.errors import ModelportError, nearest
from modelport.tao.arch import Arch
from modelport.tao.platforms import Platform

Option = str | int | float | bool

HUB_SCHEME = "hf_model://"
CLOUDS = ("s3", "gs", "az", "cs", "aws")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[\w./-]{1,128})?")
_PLACEHOLDER = re.compile(
    r"[<>{}]|\.\.\.|…|(?:^|/)(?:path/to|your[-_]|my[-_]?(?:org|model)\b|org/model$|example/)", re.IGNORECASE
)

SECRETS = (
    "HF_TOKEN", "WANDB_API_KEY", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY", "TAO_API_KEY", "TAO_USER_KEY",
)  # fmt: skip
SET_HERE = ("TAO_EXECUTION_BACKEND", "TAO_API_JOB_ID", "CLOUD_BASED")
"""Of the variables that a service may have, those that are set by this file."""
CODE = ("custom_pipeline_loader", "custom_inference_fn")
REFUSED_SPECS = {
    **dict.fromkeys(("job_id", "model_path", "neural_network_name"), "it is set from what else was given"),
    **dict.fromkeys(("cloud_metadata", "results_dir"), "this service has nothing to do with cloud storage"),
    "hf_token": "a secret is given by its place alone: --hf-token-ref env:HF_TOKEN",
    **dict.fromkeys((*CODE, *(f"{name}_encoded" for name in CODE)), "code that comes with a request is run for nobody"),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model path as a Spec has it. `hub` where it is a repository, which may want a token."""

    source: str
    hub: bool


def model(arch: Arch, path: str) -> Model:
    """What a model path names: `hf_model://org/model`, an absolute path, or for some architectures `org/model`.
    Raises ModelportError for anything else, and for what stands for a path that somebody has yet to fill in."""
    path = path.strip()
    forms = f"{HUB_SCHEME}org/name of the Hub, or an absolute path" + (", or org/name" if arch.bare_hub_id else "")
    scheme, marked, rest = path.partition("://")
    if not path or _PLACEHOLDER.search(path):
        raise _wrong(f"{path!r} names no model yet" if path else "A model path is needed", forms)
    if marked and scheme.lower() in CLOUDS:
        raise _wrong(
            f"The model path {path[:200]!r} is in cloud storage, which a TAO inference service does not read: bring "
            "it to this machine, or serve it by `modelport start`, which reads clouds",
            forms,
        )
    if marked and scheme == "hf":
        raise _wrong(f"hf:// is not known; write {HUB_SCHEME}{rest[:200]}", forms)
    if marked and scheme != "hf_model":
        raise _wrong(f"Unsupported model_path scheme {scheme[:40]!r}", forms)
    if marked or (arch.bare_hub_id and _HUB_ID.fullmatch(path)):
        name = rest if marked else path
        if not _HUB_ID.fullmatch(name):
            raise _wrong(f"{name[:200]!r} is no repository of the Hub, which is org/name", forms)
        return Model(name, hub=True)
    if not path.startswith("/"):
        raise _wrong(f"Unsupported model_path scheme: {path[:200]!r} is relative, or nothing that is known", forms)
    return Model(path, hub=False)


def specs(given: Mapping[str, Option]) -> dict[str, Option]:
    """Further specs of a job (`torch_dtype`, `device_map`, …). Raises ModelportError for those it must not have."""
    for name in given:
        if name in REFUSED_SPECS:
            raise ModelportError(f"The spec {name} cannot be given: {REFUSED_SPECS[name]}.", param=name)
        if name.upper().startswith("TAO_CLOUD_"):
            raise ModelportError(f"The spec {name} cannot be given: {REFUSED_SPECS['cloud_metadata']}.", param=name)
    return dict(given)


def environment(
    arch: Arch, platform: Platform, model: Model, given: Mapping[str, str], hf_token_ref: str = ""
) -> dict[str, str]:
    """A service's environment, secrets by reference. cosmos-predict2.5's holds nothing but what was given and, for a
    model of the Hub, its token. Raises ModelportError for a variable that is not allowed and for a secret's value."""
    for name, text in given.items():
        if name in FORBIDDEN:
            raise ModelportError(f"{name} cannot be given: the service reports to no TAO API server.", param=name)
        if name in SET_HERE:
            raise ModelportError(f"{name} cannot be given: it follows from the platform and the job.", param=name)
        if name not in ALLOWED:
            raise ModelportError(
                f"{name[:80]!r} is no variable that a TAO service may have.{nearest(name, ALLOWED)}", param=name
            )
        if name in SECRETS:
            _referred(name, text)
    found = dict(given)
    if arch.job_payload:
        found |= {"TAO_EXECUTION_BACKEND": platform.backend, "TAO_API_JOB_ID": SERVICE, "CLOUD_BASED": "False"}
    if hf_token_ref:
        found["HF_TOKEN"] = _referred("--hf-token-ref", hf_token_ref)
    elif model.hub:
        found.setdefault("HF_TOKEN", "env:HF_TOKEN")
    return found


def _referred(name: str, text: str) -> str:
    if not text or not REFERENCE.fullmatch(text):
        raise ModelportError(
            f"{name} takes only the place of a secret, never the secret: env:NAME of a variable that is set where "
            "Modelport runs, or file:/path.",
            param=name,
        )
    return text


def _wrong(what: str, forms: str) -> ModelportError:
    return ModelportError(f"{what}. A model path is {forms}.", param="model_path")
