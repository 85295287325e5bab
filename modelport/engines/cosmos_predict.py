"""Cosmos-Predict2.5: NVIDIA's video generation in TAO's container, or by its program on PATH. CUDA only.

Options are those of service.yaml of NVIDIA's TAO skill. It is told by options alone, without a job; its address is
fixed to every one of the machine.
"""

import shutil

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import PORT, Launch
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec
from modelport.engines import source, tao_payload
from modelport.engines.flags import OURS, extra
from modelport.engines.tao_container import (
    CONTAINER_PORT,
    NEVER_MINUTES,
    READY,
    TaoContainer,
    by_size,
    container_argv,
    idle_minutes,
)
from modelport.errors import ModelportError

PROGRAM = "cosmos_predict"
START = ("inference_microservice", "start")
OUTPUT = "/tmp/cosmos-predict2.5-output"  # noqa: S108 (in the container, whose own it is)
KEYS = "2B/pre-trained, 2B/post-trained or 14B/pre-trained"
"""Registered base models (MODEL_KEYS in cosmos_predict2/config.py of nvidia-cosmos/cosmos-predict2.5); the program in
the container may have others, so none is refused."""
REFUSED = {
    **dict.fromkeys(("--checkpoint-path", "--model"), "it is made from `model` and options.model_key"),
    **dict.fromkeys(("--port", "--pid-file", "--host"), OURS),
    "--output-dir": "set options.output_dir",
    "--idle-timeout-minutes": "set `idle_timeout`",
}
OPTIONS = frozenset(("image", "model_key", "output_dir", "any_address"))


class CosmosPredict(TaoContainer):
    """Makes a video of a text, a picture or a video."""

    name = "cosmos-predict2.5"
    image_key = "COSMOS_PREDICT2_5"
    image = "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-predict"
    program = PROGRAM
    options = OPTIONS
    adapters = False
    refused = REFUSED

    def installed(self) -> str:
        return shutil.which(PROGRAM) or ""

    def unread(self, model: str) -> ModelFacts:
        return by_size(self.name, model)

    def runs_on(self) -> frozenset[str]:
        return frozenset({"gpu"})

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        if spec.platform == "process" and not spec.options.get("any_address"):
            raise ModelportError(
                f"{self.name} listens on every address of this machine without a key, and has no option for another: "
                "set options.any_address to true where a firewall keeps its port, or run it in a container.",
                param="options",
            )
        if spec.dtype:
            raise ModelportError(f"{self.name} cannot be told dtype: leave it out.", param="dtype")
        checkpoint(facts, spec)
        return super().check(facts, spec, device)

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        notes = self.check(facts, spec, plan.device)
        self.must_be_installed(spec)
        chosen, more = checkpoint(facts, spec), extra(self.name, spec.engine_args, self.refused)
        folder = str(spec.options.get("output_dir") or "")
        minutes = idle_minutes(spec)
        idle = () if minutes is None else ("--idle-timeout-minutes", str(minutes or NEVER_MINUTES))
        # A process starts in a directory of its own. Its default for the pid file is one for the whole machine.
        here = ("--output-dir", folder or "output", "--port", PORT, "--pid-file", "cosmos.pid")
        there = ("--output-dir", folder or OUTPUT, "--port", CONTAINER_PORT)
        never = ("--idle-timeout-minutes", str(NEVER_MINUTES))  # control and the shim's lease end what is idle
        return Launch(
            argv=(self.installed() or PROGRAM, *START, *chosen, *here, *never, *more),
            container_argv=container_argv(PROGRAM, *START, *chosen, *there, *idle, *more),
            env=tao_payload.plain(spec),
            secret_env=tao_payload.secrets(facts, spec),
            image=self.image_of(spec),
            notes=notes,
            health_path=READY,
            routes=("POST /v1/chat/completions", f"GET {READY}"),
        )


def checkpoint(facts: ModelFacts, spec: Spec) -> tuple[str, str]:
    """The option that says which weights: a path of its own, or the key under which the program knows them.

    Raises ModelportError where a key is needed and not given: it cannot be told from a repository's name.
    """
    path = tao_payload.model_path(facts)
    key = str(spec.options.get("model_key") or "").strip()
    if source.kind(facts.path) == "local":
        if key:
            raise ModelportError(
                f"options.model_key is {key!r}, and {facts.source!r} is a checkpoint of its own: leave one out.",
                param="options",
            )
        return "--checkpoint-path", path
    if not key or key.startswith("-") or not key.isprintable():
        raise ModelportError(
            f"cosmos-predict2.5 loads {path} by a key of its own, which cannot be told from the name: set "
            f"options.model_key, like {KEYS}.",
            param="options",
        )
    return "--model", key
