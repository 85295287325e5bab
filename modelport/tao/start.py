"""Start: the body of a start, v1's free form or v2's schema, becomes a Spec."""

import re
import secrets
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelport.domain.experiment import Choice
from modelport.domain.spec import NAME, SECRET_NAME, Spec, name_from, parse_spec
from modelport.domain.verbs import Verbs
from modelport.errors import ModelportError
from modelport.tao.environment import environment
from modelport.tao.errors import first_problem
from modelport.tao.parents import checkpoint, network, parent, registered, source, workspace

IDLE_MINUTES = 30.0
"""What NVIDIA's servers wait too."""
LABEL_CHARACTERS = 1024
HUB_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?(?:@[\w./-]+)?", re.ASCII)
Path = Annotated[str, Field(max_length=2048)]
Short = Annotated[str, Field(max_length=128)]


class StartBody(BaseModel):
    """The keys of nvidia-tao-core's InferenceMicroserviceReq with its limits, v1's `parent_id`, and two of ours."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    parent_job_id: Short | None = None
    parent_id: Short | None = None
    kind: Short | None = None
    model_path: Path | None = None
    hf_model: Path | None = None
    network_arch: Short | None = None
    enable_lora: bool | None = None
    base_model_path: Path | None = None
    torch_dtype: Annotated[str, Field(max_length=50)] | None = None
    device_map: Annotated[str, Field(max_length=50)] | None = None
    docker_image: Path | None = None
    """Named back, and not used: Modelport chooses what runs a model."""
    gpu_type: Short | None = None
    num_gpus: Annotated[int, Field(ge=0)] | None = None
    workspace: Short | None = None
    docker_env_vars: dict[str, str | None] | None = None
    checkpoint_choose_method: Choice | None = None
    checkpoint_epoch_number: dict[str, int | None] | int | None = None
    custom_pipeline_loader: Any = None
    custom_inference_fn: Any = None
    idle_timeout_minutes: Annotated[float, Field(ge=0, le=1e7)] = IDLE_MINUTES
    """Ours: after so long without a request the job ends; 0 is never."""
    disable_auto_deletion: bool = False
    """Ours, after the server's flag."""


CODE = ("custom_pipeline_loader", "custom_inference_fn")
OPTIONS = ("torch_dtype", "device_map", "enable_lora")


def read(body: dict[str, Any]) -> StartBody:
    """The body with its types checked. Raises ModelportError (400)."""
    for key in CODE:
        if body.get(key) or body.get(f"{key}_encoded"):
            raise ModelportError(
                f"{key} is Python source that would run on the server with all it can reach; Modelport runs no code "
                "out of requests. Leave it out: models are loaded by their own configuration.",
                param=key,
            )
    try:
        return StartBody.model_validate(body)
    except ValidationError as error:
        raise first_problem(error) from None


def start_spec(verbs: Verbs, body: dict[str, Any], org: str, experiment: str = "") -> Spec:
    """The service that a start asks for; v1's has the experiment of its path, and its unknown keys are settings of the
    model. Raises ModelportError (400, 404)."""
    asked = read(body)
    parts = model(verbs, asked, org, experiment)
    extras = {} if not experiment else asked.model_extra or {}
    idle_s = 0.0 if asked.disable_auto_deletion else asked.idle_timeout_minutes * 60
    labels = {"tao.action": "inference_microservice", **parts.pop("labels")}
    options = {**settings(extras), **parts.pop("options")}
    return parse_spec({**parts, "idle_timeout": idle_s, "options": options, "labels": labels}, "the request")


def model(verbs: Verbs, asked: StartBody, org: str, experiment: str) -> dict[str, Any]:
    """The fields of a Spec that say which model runs, and with what. Raises ModelportError (400, 404)."""
    known = registered(verbs, org, experiment) if experiment else None
    parent_id = (asked.parent_job_id or asked.parent_id or "").strip()
    trained = parent(verbs, org, parent_id) if parent_id else None
    hub = (asked.hf_model or "").strip()
    if hub and not HUB_ID.fullmatch(hub.removeprefix("hf_model://")):
        raise ModelportError(
            f"hf_model is {hub[:120]!r}, which is no model of the Hub: write org/name, and a path as model_path.",
            param="hf_model",
        )
    arch = asked.network_arch or (trained and trained.network_arch) or (known and known.network_arch) or ""
    arch = "huggingface" if hub else arch
    bucket = asked.workspace or (trained.workspace if trained else "")
    where = workspace(verbs, bucket) if bucket else None
    path = source(hub or asked.model_path or "")
    if not path and trained is not None:
        how = asked.checkpoint_choose_method or "best_model"
        path = checkpoint(trained, arch, how, asked.checkpoint_epoch_number, where)
    if not path:
        raise ModelportError("Model path or hf_model is required for Inference Microservice", param="model_path")
    labels = {
        "tao.org": org,
        "tao.experiment": experiment,
        "tao.parent": parent_id,
        "tao.network-arch": arch,
        "tao.kind": asked.kind or "experiment",
        "tao.docker-image": asked.docker_image or "",
        "tao.num-gpus": str(asked.num_gpus or 1),
    }
    options: dict[str, Any] = {key: getattr(asked, key) for key in OPTIONS if getattr(asked, key)}
    if asked.base_model_path:
        options["base_model_path"] = source(asked.base_model_path)
    return {
        "job": True,
        "model": path,
        "name": unique(arch or name_from(path)),
        "workspace": where.name if where else "",
        "env": environment(asked.docker_env_vars or {}),
        "accelerators": f"{asked.gpu_type.strip()}:{max(1, asked.num_gpus or 1)}" if asked.gpu_type else None,
        "options": options,
        "labels": {name: text[:LABEL_CHARACTERS] for name, text in labels.items() if text},
    }


def settings(extras: dict[str, Any]) -> dict[str, Any]:
    """What is left of a v1 body, as settings of the model's handler. Raises ModelportError (400) for what is none."""
    found: dict[str, Any] = {}
    for key, value in extras.items():
        if value is None or key == "network":
            continue
        if SECRET_NAME.search(key.upper()):
            raise ModelportError(
                f"{key[:80]!r} is a secret, which the body of a start cannot hold: name its place in docker_env_vars, "
                "like HF_TOKEN=env:HF_TOKEN.",
                param=key,
            )
        if not isinstance(value, str | int | float | bool):
            raise ModelportError(f"The request's {key[:80]!r} must be a text, a number or true or false.", param=key)
        found[key] = value
    return found


def unique(begin: str) -> str:
    """A service's name that no other has: `cosmos-rl-1f0c3a9b`."""
    short = name_from(network(begin))[:54].strip("-")
    name = f"{short}-{secrets.token_hex(4)}"
    return name if NAME.fullmatch(name) else f"job-{secrets.token_hex(4)}"
