"""TaoContainer: what NVIDIA TAO's inference containers have in common as engines.

They are named by a Spec and never chosen: none is better than the other engines at what those serve. Their servers take
no key and no address to listen at, so they belong into a container's own network; as bare processes they listen on
every address of the machine, which each command says.
"""

import math
import os
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import PORT, Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec
from modelport.engines import source, tao_payload
from modelport.engines.caveat import must_have_weights
from modelport.engines.flags import OURS, extra
from modelport.errors import MODEL_NOT_FOUND, ModelportError

READY = "/api/v1/health/readiness"
CONTAINER_PORT = "8080"
"""Where each of them listens in its container."""
ROUTES = (
    *("POST /v1/chat/completions", "POST /api/v1/inference", "GET /api/v1/status"),
    *("GET /api/v1/health/liveness", f"GET {READY}"),
)
DEFAULT_IDLE_S = 1800.0
"""The containers' own, 30 minutes."""
NEVER_MINUTES = 525_600
"""A year, for a program that has no way to say never."""
OPEN = "{} takes no key and listens on every address of this machine: keep its port from other machines by a firewall."
MOST_FILES = 100_000
"""Of a directory whose size is summed up."""
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("--job", "--docker-env-vars"), "it is made from the Spec"),
    **dict.fromkeys(("--idle-timeout-minutes", "--disable-auto-deletion"), "set `idle_timeout`"),
    "--port": OURS,
}
"""Of those that are told by a job."""
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,1000}")


class TaoContainer(ABC):
    """One of them."""

    name: str
    image_key: str
    """IMAGE_<KEY> of the environment names another image."""
    image: str
    """Of release 7.0.0."""
    program: str
    """How its program is called, for people."""
    options: frozenset[str] = frozenset(("image",)) | tao_payload.SPECS
    refused: Mapping[str, str]
    """Arguments that are not passed on, and what to do instead."""
    adapters = True

    def supports(self, facts: ModelFacts) -> str:
        if source.kind(facts.path) == "cloud":
            return tao_payload.cloud(facts)
        if facts.format not in ("safetensors", "pytorch", "config"):
            return f"{self.name} serves safetensors and PyTorch checkpoints, and {facts.source!r} is {facts.format}."
        if facts.adapter and not self.adapters:
            return f"{self.name} serves no LoRA adapters."
        return "" if facts.task == "generate" else f"{self.name} has no way to {facts.task}; it only generates."

    @abstractmethod
    def installed(self) -> str: ...

    def unread(self, model: str) -> ModelFacts | None:
        """What is known of a model whose files only this engine reads; None where those the catalog reads are all it
        serves. Raises ModelportError for what is nowhere."""
        return None

    def version(self) -> str:
        return ""

    def runs_on(self) -> frozenset[str]:
        return frozenset({"cpu", "gpu"})

    def measured(self, lines: list[str]) -> Measured | None:
        return None

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        must_have_weights(facts, spec)
        tao_payload.must_be_known(self.name, spec, self.options)
        tao_payload.plain(spec)
        given = {
            "task": spec.task not in ("auto", "generate"),
            "quantization": spec.quantization,
            "kv_cache_dtype": spec.kv_cache_dtype not in (None, "auto"),
            "speculative": spec.speculative,
            "workspace": spec.workspace,
            "batch": spec.batch,
            "pipeline_parallel": (spec.pipeline_parallel or 1) > 1,
            "data_parallel": (spec.data_parallel or 1) > 1,
            "expert_parallel": (spec.expert_parallel or 1) > 1,
        }
        for field, wanted in given.items():
            if wanted:
                raise ModelportError(f"{self.name} cannot be told {field}: leave it out.", param=field)
        extra(self.name, spec.engine_args, self.refused)
        left = ("context", "parallel", "memory_fraction", "max_batched_tokens", "eager", "tensor_parallel")
        said = [f"{self.name} has no {name}: it is left aside." for name in left if getattr(spec, name)]
        if spec.options.get("trust_remote_code"):
            said.append("trust_remote_code runs the Python files that come with the model.")
        return (*said, OPEN.format(self.name)) if spec.platform == "process" else tuple(said)

    def must_be_installed(self, spec: Spec) -> None:
        """Raises ModelportError where the program itself is to run here, and is not here."""
        if spec.platform == "process" and not spec.accelerators and not self.installed():
            raise ModelportError(
                f"{self.name} is not installed here: {self.program} is in NVIDIA's image {self.image_of(spec)}.",
                param="engine",
            )

    def image_of(self, spec: Spec) -> str:
        """The option, else the environment's, else release 7.0.0's. Raises ModelportError for what is no image."""
        variable = f"IMAGE_{self.image_key}"
        for origin, given in (("options.image", spec.options.get("image")), (variable, os.environ.get(variable))):
            if given:
                if not _IMAGE.fullmatch(str(given)):
                    raise ModelportError(
                        f"{origin} is {str(given)[:80]!r}, which is no container image.", param="options"
                    )
                return str(given)
        return self.image


class JobContainer(TaoContainer):
    """One that is told by the JSON of a job, and of its environment."""

    refused = REFUSED

    def job(self, facts: ModelFacts, plan: Plan, spec: Spec, here: tuple[str, ...], there: tuple[str, ...]) -> Launch:
        """The Launch of a program that is `here` on this machine, and `there` in the image."""
        notes = self.check(facts, spec, plan.device)
        self.must_be_installed(spec)
        more = extra(self.name, spec.engine_args, self.refused)
        env = tao_payload.environment(spec)
        told = (
            *("--job", tao_payload.job(facts, spec, self.name)),
            *("--docker_env_vars", tao_payload.docker_env_vars(env)),
        )
        return Launch(
            # Control and the shim's lease end what is idle: a clock of its own would look like a crash to them.
            argv=(*here, *told, "--port", PORT, "--disable_auto_deletion", *more),
            container_argv=container_argv(*there, *told, *idle_argv(spec), *more),
            env=env,
            secret_env=tao_payload.secrets(facts, spec),
            image=self.image_of(spec),
            notes=notes,
            health_path=READY,
            routes=ROUTES,
        )


def by_size(engine: str, model: str) -> ModelFacts:
    """A model that is known by its place alone: a Hub id, or a file or directory of this machine and its size.

    Raises ModelportError for what is neither. OSError passes through.
    """
    name = model.removeprefix(tao_payload.HUB_SCHEME)
    where = source.kind(name)
    path = Path(name).expanduser().absolute()
    if where == "cloud" or (where == "local" and not path.exists()):
        raise ModelportError(
            f"No model {model!r} for {engine}: it is neither a file or directory here nor a Hub id, "
            f"{tao_payload.HUB_SCHEME}org/name.",
            MODEL_NOT_FOUND,
            param="model",
        )
    size = 0
    if where == "local":
        files = path.rglob("*") if path.is_dir() else (path,)
        size = sum(file.stat().st_size for file in islice(files, MOST_FILES) if file.is_file())
    how = "memory is planned by the size of its files alone" if size else "the plan does not know what it takes"
    return ModelFacts(
        source=model, path=str(path) if where == "local" else name, format="pytorch", architecture="",
        task="generate", parameters=0, weight_bytes=size, largest_layer_bytes=0, layers=0, embedding_size=0,
        vocabulary=0, context_tokens=0, kv_bytes_per_token=0, quantization="", pooling=False, chat_template=False,
        precision="total", note=f"What {model!r} is made of is for {engine} to read: {how}.",
    )  # fmt: skip


def container_argv(*words: str) -> tuple[str, ...]:
    """The command of a container as TAO's own launchers give it: one line for bash, each word quoted."""
    return ("/bin/bash", "-c", f"umask 0 && {shlex.join(words)}")


def idle_minutes(spec: Spec) -> int | None:
    """What a container's own idle clock is set to; None for its default. Modelport's own clock is the first to ring."""
    if spec.idle_timeout == DEFAULT_IDLE_S:
        return None
    return math.ceil(spec.idle_timeout / 60) if spec.idle_timeout else 0


def idle_argv(spec: Spec) -> tuple[str, ...]:
    """The same as options of the containers that are told by a job."""
    minutes = idle_minutes(spec)
    if minutes is None:
        return ()
    return ("--idle_timeout_minutes", str(minutes)) if minutes else ("--disable_auto_deletion",)
