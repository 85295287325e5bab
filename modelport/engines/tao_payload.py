"""Payload: the two JSON objects that NVIDIA TAO's inference containers are told: the job, and their environment.

What may be in each is service.yaml's of NVIDIA's TAO skill (job payload, environment, secrets), which also names the
backends, and base_inference_microservice_server.py's of nvidia-tao-core 7.0, which reads `specs`. Both are written
without spaces, as the containers' own launchers do. A secret is in neither: it comes by environment.
"""

import json
from collections.abc import Mapping
from typing import Any

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import SERVICE
from modelport.domain.spec import REFERENCE, SECRET_NAME, Spec
from modelport.domain.variables import ALLOWED, FORBIDDEN
from modelport.engines import source
from modelport.errors import ModelportError, nearest

HUB_SCHEME = "hf_model://"
BACKENDS = {"kubernetes": "local-k8s", "slurm": "slurm", "lepton": "lepton"}
"""TAO_EXECUTION_BACKEND of a platform; any other one runs containers of its own: `local-docker`."""
SPECS = frozenset(
    ("torch_dtype", "device_map", "trust_remote_code", "use_flash_attention_2", "enable_lora", "base_model_path")
)
"""Options that go into the job's `specs`, under the same names."""


def model_path(facts: ModelFacts) -> str:
    """As the containers name a model: `hf_model://org/name`, or an absolute path.

    Raises ModelportError for a model in an object store, and for one revision of a repository: a path has no place
    for it.
    """
    where = source.kind(facts.path)
    if where == "cloud":
        raise ModelportError(cloud(facts), param="model")
    if where == "hub" and "@" in facts.source:
        raise ModelportError(
            f"{facts.source!r} names a revision, and TAO's containers always take a repository's newest: leave it out, "
            "or download that revision and name its directory.",
            param="model",
        )
    return _named(facts.path)


def _named(path: str) -> str:
    return HUB_SCHEME + path if source.kind(path) == "hub" else path


def cloud(facts: ModelFacts) -> str:
    """The sentence for a model that lies where the containers do not read."""
    return (
        f"{facts.source!r} is in an object store, which TAO's containers do not read: bring it to this machine and "
        "name its directory, or leave `engine` out."
    )


def job(facts: ModelFacts, spec: Spec, network_arch: str) -> str:
    """The value of `--job`. Raises ModelportError for an option that is no spec of a job."""
    specs: dict[str, Any] = {"model_path": model_path(facts)}
    if facts.adapter is not None:
        specs = {"model_path": _named(facts.adapter.path), "enable_lora": True, "base_model_path": specs["model_path"]}
    if spec.dtype:
        specs["torch_dtype"] = spec.dtype
    # The server's own default is to run what Python code a model brings.
    specs["trust_remote_code"] = False
    specs |= {name: value for name, value in spec.options.items() if name in SPECS}
    return compact({"job_id": SERVICE, "specs": specs, "neural_network_name": network_arch})


def environment(spec: Spec) -> dict[str, str]:
    """The variables of a container that is told by a job: the payload's and those of its process besides. Raises
    ModelportError for those that it is not given, and for others' values of those that are set here."""
    backend = BACKENDS.get(spec.platform, "local-docker")
    ours = {"TAO_EXECUTION_BACKEND": backend, "TAO_API_JOB_ID": SERVICE, "CLOUD_BASED": "False"}
    for name, text in ours.items():
        if spec.env.get(name, text) != text:
            raise ModelportError(
                f"env holds {name}, which follows from the platform and the job: leave it out.", param="env"
            )
    return {**plain(spec), **ours}


def docker_env_vars(env: Mapping[str, str]) -> str:
    """The value of `--docker_env_vars`: what containers take so. Other variables are in their environment alone."""
    return compact({name: text for name, text in env.items() if name in ALLOWED})


def plain(spec: Spec) -> dict[str, str]:
    """The Spec's own variables that are no secrets. Raises ModelportError for those that make containers report."""
    for name in spec.env:
        if name in FORBIDDEN or name.startswith("TAO_CLOUD_"):
            raise ModelportError(
                f"env holds {name}, which a TAO container is not given here: it would look for a TAO server or its "
                "cloud storage. Leave it out.",
                param="env",
            )
    return {name: text for name, text in spec.env.items() if not (SECRET_NAME.search(name) or _is_reference(text))}


def secrets(facts: ModelFacts, spec: Spec) -> dict[str, str]:
    """Variables that hold secrets, by reference: the Spec's, and the Hub's token where the model comes from there."""
    given = {name: text for name, text in spec.env.items() if _is_reference(text)}
    return {**source.hub_token(facts), **given}


def _is_reference(text: str) -> bool:
    return bool(text and REFERENCE.fullmatch(text))


def must_be_known(engine: str, spec: Spec, known: frozenset[str]) -> None:
    """Raises ModelportError for an option that the engine has not."""
    for name in spec.options:
        if name not in known:
            hint = nearest(name, known)
            raise ModelportError(
                f"{engine} has no option {name[:80]!r}; it has {', '.join(sorted(known))}.{hint}", param="options"
            )


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))
