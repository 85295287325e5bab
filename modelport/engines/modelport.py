"""Modelport's own runtime: pictures through onnxruntime, and language models that no other engine here serves through
transformers. It runs as a process of its own (`python -m modelport.runtime`), in this Python or in the one that
MODELPORT_HF_PYTHON names, whose environment has torch.
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from modelport.domain.facts import ModelFacts, Task
from modelport.domain.launch import ENGINE_KEY, HOST, PORT, Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec
from modelport.domain.vision import OPTIONS
from modelport.engines import source
from modelport.errors import ModelportError, nearest

HF_PYTHON = "MODELPORT_HF_PYTHON"
COMMON_ROUTES = (
    *("GET /health", "GET /v1/models", "POST /api/v1/inference"),
    *("GET /api/v1/status", "GET /api/v1/health/liveness", "GET /api/v1/health/readiness"),
)
ROUTES: dict[Task, tuple[str, ...]] = {
    "classify": COMMON_ROUTES,
    "detect": COMMON_ROUTES,
    "generate": (*COMMON_ROUTES, "POST /v1/chat/completions"),
    "embed": (*COMMON_ROUTES, "POST /v1/embeddings"),
}
READINESS = "/api/v1/health/readiness"
STATUS = "/api/v1/status"


@dataclass(frozen=True, slots=True)
class Kind:
    """What one format needs."""

    packages: tuple[str, ...]
    extra: str
    tasks: frozenset[Task]


PICTURES = Kind(("onnxruntime", "PIL"), "vision", frozenset({"classify", "detect"}))
LANGUAGE = Kind(("torch", "transformers"), "hf", frozenset({"generate", "embed"}))
KINDS = {"onnx": PICTURES, "safetensors": LANGUAGE}
UNSET = (
    "quantization", "kv_cache_dtype", "speculative", "tensor_parallel", "pipeline_parallel", "data_parallel",
    "expert_parallel", "memory_fraction", "max_batched_tokens",
)  # fmt: skip
"""Fields of a Spec that mean nothing to it."""


class Modelport:
    """Serves ONNX classifiers and detectors, safetensors models, and archives of either."""

    name = "modelport"

    def supports(self, facts: ModelFacts) -> str:
        if facts.format == "archive":
            return ""
        kind = KINDS.get(facts.format)
        if kind is None:
            return f"modelport serves ONNX and safetensors models, and {facts.source!r} is {facts.format}."
        if facts.task not in kind.tasks:
            return f"modelport does not {facts.task} with {facts.format} models."
        missing = [package for package in kind.packages if not _has(package)]
        if missing:
            return (
                f"modelport's runtime needs {' and '.join(missing)} for {facts.format} models: "
                f"pip install 'modelport[{kind.extra}]'."
            )
        return ""

    def installed(self) -> str:
        here = [package for kind in KINDS.values() for package in kind.packages[:1] if _has(package)]
        return f"its own runtime, with {' and '.join(here)}" if here else ""

    def version(self) -> str:
        return version("modelport")

    def runs_on(self) -> frozenset[str]:
        """On GPUs where onnxruntime or torch was built for them."""
        built = find_spec("onnxruntime") is not None and "onnxruntime-gpu" in _distributions()
        return frozenset({"cpu", "gpu"}) if built or _torch_on_gpu() else frozenset({"cpu"})

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        for name in UNSET:
            if getattr(spec, name) is not None:
                raise ModelportError(f"modelport's runtime has no {name}: leave it out.", param=name)
        if facts.format == "onnx":
            known = (*OPTIONS, "threads", "device")
            for name in spec.options:
                if name not in known:
                    raise ModelportError(
                        f"options has the unknown key {name!r}; see docs/runtime.md.{nearest(name, known)}",
                        param="options",
                    )
        if spec.engine_args:
            raise ModelportError("modelport's runtime takes `options`, not engine_args.", param="engine_args")
        if spec.task != "auto" and facts.format in KINDS and spec.task not in KINDS[facts.format].tasks:
            raise ModelportError(
                f"{facts.source!r} is {facts.format}, which cannot {spec.task}: leave task out.", param="task"
            )
        return ("eager is left aside.",) if spec.eager else ()

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        if refused := self.supports(facts):
            raise ModelportError(refused, param="model")
        notes = self.check(facts, spec, plan.device)
        options = dict(spec.options)
        if spec.dtype:
            options.setdefault("torch_dtype", spec.dtype)
        model = facts.path
        if facts.adapter is not None:
            model = facts.adapter.path
            options.setdefault("enable_lora", True)
            options.setdefault("base_model_path", facts.path)
        if source.kind(model) == "hub" and facts.revision:
            model = f"{model}@{facts.revision}"
        argv = [_python(facts), "-m", "modelport.runtime", "--model", model, "--name", spec.served_name or spec.name]
        if facts.format != "archive" or spec.task != "auto":
            argv += ["--task", plan.task]
        argv += ["--host", HOST, "--port", PORT, "--disable_auto_deletion"]
        for name, value in options.items():
            argv += ["--option", f"{name}={json.dumps(value)}"]
        if spec.batch is not None:
            argv += ["--batch", spec.batch.model_dump_json()]
        return Launch(
            argv=tuple(argv),
            # One process has a share of the cores; libraries that take them all starve their neighbours.
            env={
                "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // spec.replicas)),
                **({"MODELPORT_IDLE_S": f"{spec.idle_timeout:g}"} if spec.job else {}),
            },
            secret_env={"MODELPORT_ENGINE_KEY": ENGINE_KEY, **source.hub_token(facts)},
            notes=notes,
            health_path=READINESS,
            progress_path=STATUS if spec.batch is not None else None,
            routes=ROUTES[plan.task] if facts.format != "archive" else _every_route(),
        )

    def measured(self, lines: list[str]) -> Measured | None:
        return None


def _every_route() -> tuple[str, ...]:
    """Of an archive it is known only later what is in it."""
    return tuple(dict.fromkeys(route for routes in ROUTES.values() for route in routes))


def _has(package: str) -> bool:
    return find_spec(package) is not None or (package in LANGUAGE.packages and bool(os.environ.get(HF_PYTHON)))


def _python(facts: ModelFacts) -> str:
    """The interpreter for a model: for language models the one with torch, where that is another."""
    other = os.environ.get(HF_PYTHON, "")
    if facts.format not in ("safetensors", "archive") or not other or find_spec("torch") is not None:
        return sys.executable
    if not Path(other).is_file():
        raise ModelportError(f"{HF_PYTHON} is {other!r}, which is no file: name a Python that has torch.")
    return other


def _distributions() -> set[str]:
    from importlib.metadata import distributions

    return {str(found.metadata["Name"]).lower() for found in distributions()}


def _torch_on_gpu() -> bool:
    if find_spec("torch") is None:
        return bool(os.environ.get(HF_PYTHON)) and Path("/dev/nvidiactl").exists()
    return not version("torch").endswith("+cpu")
