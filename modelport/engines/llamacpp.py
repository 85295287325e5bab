"""llama.cpp: GGUF models on CPU or GPU, by the `llama-server` on PATH, else by the xllamacpp package.

Both are the same server. Its options are given as environment variables where older builds lack the flag: an unknown
variable is ignored, an unknown flag ends the program (llama.cpp: common/arg.cpp).
"""

import os
import shutil
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import ENGINE_KEY, HOST, PORT, Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec
from modelport.engines import source
from modelport.engines.caveat import caveats
from modelport.engines.flags import Range, extra
from modelport.engines.measure_llamacpp import measured
from modelport.engines.refused_llamacpp import REFUSED
from modelport.errors import ModelportError

SERVER = Path(__file__).with_name("llamacpp_server.py")
COMMON_ROUTES = ("GET /health", "GET /v1/models", "POST /tokenize", "POST /detokenize")
ROUTES = {
    "generate": (*COMMON_ROUTES, "POST /v1/chat/completions", "POST /v1/completions", "POST /apply-template"),
    "embed": (*COMMON_ROUTES, "POST /v1/embeddings"),
}
"""What clients may reach of the server. Left out on purpose: /props and /slots, which show paths and prompts;
/v1/messages, which not every build has and the gateway translates; /v1/rerank, which needs a model that ranks."""
PACKAGE_ROUTES = {"POST /v1/responses": Range(since="2026.10")}
"""Of the generating server in the xllamacpp package: a llama-server on PATH does not say which build it is."""


MOST_PARALLEL = 256
"""LLAMA_MAX_SEQ (src/llama-cparams.h)."""


class LlamaCpp:
    """Serves GGUF files."""

    name = "llamacpp"

    def supports(self, facts: ModelFacts) -> str:
        if facts.format != "gguf":
            return f"llamacpp serves GGUF files, and {facts.source!r} is {facts.format}."
        if facts.adapter:
            return "llamacpp is not started with LoRA adapters here: vllm and tgi are."
        return ""

    def installed(self) -> str:
        if binary := shutil.which("llama-server"):
            return binary
        return "the xllamacpp package" if find_spec("xllamacpp") else ""

    def version(self) -> str:
        return ""

    def runs_on(self) -> frozenset[str]:
        """A llama-server that somebody installed may have been built for GPUs; the xllamacpp package is for CPU."""
        return frozenset({"cpu", "gpu"}) if shutil.which("llama-server") else frozenset({"cpu"})

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        """What it leaves aside. Raises ModelportError for what it does not do here."""
        wanted = [
            (
                spec.quantization,
                "quantization",
                "quantizes nothing while it loads: name a GGUF file of the wanted kind",
            ),
            (spec.dtype not in (None, "auto"), "dtype", "computes in what the file holds: leave dtype out"),
            (spec.kv_cache_dtype not in (None, "auto"), "kv_cache_dtype", "keeps keys and values in 16 bit"),
            (spec.speculative, "speculative", "is started without speculative decoding here: use vllm or sglang"),
            ((spec.parallel or 1) > MOST_PARALLEL, "parallel", f"works on at most {MOST_PARALLEL} requests at once"),
            ((spec.data_parallel or 1) > 1, "data_parallel", "runs no copies inside one engine: set `replicas`"),
            ((spec.expert_parallel or 1) > 1, "expert_parallel", "does not share out experts: use vllm or sglang"),
        ]
        for asked, param, what in wanted:
            if asked:
                raise ModelportError(f"llamacpp {what}.", param=param)
        if spec.engine_args and not shutil.which("llama-server"):
            raise ModelportError("engine_args need a `llama-server` on PATH; xllamacpp has no command line.")
        extra(self.name, spec.engine_args, REFUSED, joined=False)
        unused = {
            "memory_fraction": spec.memory_fraction,
            "max_batched_tokens": spec.max_batched_tokens,
            "eager": spec.eager,
        }
        return tuple(f"llamacpp has no {name}: it is left aside." for name, given in unused.items() if given)

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        self.check(facts, spec, plan.device)
        binary = shutil.which("llama-server")
        if missing := source.to_download(facts):
            raise ModelportError(missing, param="model")
        if not self.installed() and not spec.accelerators:
            raise ModelportError(
                "llama.cpp is not installed: put `llama-server` on PATH, or `pip install 'modelport[local]'`."
            )
        total = plan.context_tokens * plan.parallel
        threads = max(1, (os.cpu_count() or 1) // spec.replicas)
        argv = [binary or "llama-server"] if binary or spec.accelerators else [sys.executable, "-I", str(SERVER)]
        argv += ["--model", facts.path, "--alias", spec.served_name or spec.name, "--host", HOST, "--port", PORT]
        argv += ["--ctx-size", str(total), "--parallel", str(plan.parallel)]
        # Threads of llama.cpp spin while they compute: replicas with one for every core each starve one another.
        argv += ["--threads", str(threads)]
        argv += ["--n-gpu-layers", "999" if plan.device.kind == "gpu" else "0"]
        if plan.device.kind == "gpu":
            argv += split_argv(plan)
        if plan.task == "embed":
            # A pooled embedding is computed in one physical batch, which must hold the whole input (server.cpp).
            argv += [
                "--embeddings",
                "--batch-size",
                str(plan.context_tokens),
                "--ubatch-size",
                str(plan.context_tokens),
            ]
            if not facts.pooling:
                argv += ["--pooling", "mean"]
        elif spec.max_batched_tokens:
            argv += ["--batch-size", str(spec.max_batched_tokens), "--ubatch-size", str(spec.max_batched_tokens)]
        if facts.projector and plan.task == "generate":
            argv += ["--mmproj", facts.projector.path]
            argv += [] if plan.device.kind == "gpu" else ["--no-mmproj-offload"]
        argv += extra(self.name, spec.engine_args, REFUSED, joined=False)
        return Launch(
            argv=tuple(argv),
            # No prompt cache in RAM beyond the slots', and no silent refitting: the plan is what it takes.
            env={
                **{"LLAMA_ARG_CACHE_RAM": "0", "LLAMA_ARG_FIT": "off", "LLAMA_ARG_NO_WEBUI": "1"},
                **({"GGML_CUDA_DISABLE_GRAPHS": "1"} if spec.eager else {}),
            },
            secret_env={"LLAMA_API_KEY": ENGINE_KEY},
            notes=(*self.check(facts, spec, plan.device), *caveats(self.name, facts, plan, spec)),
            health_path="/health",
            routes=(*ROUTES[plan.task], *(() if binary or spec.accelerators else package_routes(plan.task))),
        )

    def measured(self, lines: list[str]) -> Measured | None:
        """What it printed about memory; None where that is nothing."""
        return measured(lines)


def package_routes(task: str) -> tuple[str, ...]:
    """Those that the installed xllamacpp has besides."""
    if task != "generate":
        return ()
    return tuple(route for route, versions in PACKAGE_ROUTES.items() if versions.holds(version("xllamacpp")))


def split_argv(plan: Plan) -> list[str]:
    """How layers are spread over GPUs: evenly over those of the plan, or all on the first where it needs one of many.

    llama.cpp's own default is all GPUs it sees, by their free memory.
    """
    if plan.split.gpus > 1:
        shares = ",".join(["1"] * plan.split.gpus)
        return ["--split-mode", "layer", "--tensor-split", shares, "--main-gpu", "0"]
    return ["--split-mode", "none", "--main-gpu", "0"] if plan.devices > 1 else []
