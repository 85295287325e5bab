"""llama.cpp: GGUF models on CPU or GPU, by the `llama-server` on PATH, else by the xllamacpp package.

Both are the same server. Its options are given as environment variables where older builds lack the flag: an unknown
variable is ignored, an unknown flag ends the program (llama.cpp: common/arg.cpp).
"""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import ENGINE_KEY, HOST, PORT, Launch
from modelport.domain.plan import Plan
from modelport.domain.spec import Spec
from modelport.errors import ModelportError

SERVER = Path(__file__).with_name("llamacpp_server.py")
COMMON_ROUTES = ("GET /health", "GET /v1/models", "POST /tokenize", "POST /detokenize")
ROUTES = {
    "generate": (*COMMON_ROUTES, "POST /v1/chat/completions", "POST /v1/completions", "POST /apply-template"),
    "embed": (*COMMON_ROUTES, "POST /v1/embeddings"),
}
"""What clients may reach of the server. Left out on purpose: /props and /slots, which show paths and prompts."""


class LlamaCpp:
    """Serves GGUF files."""

    name = "llamacpp"

    def supports(self, facts: ModelFacts) -> str:
        if facts.format != "gguf":
            return f"llamacpp serves GGUF files, and {facts.source!r} is {facts.format}."
        return ""

    def installed(self) -> str:
        if binary := shutil.which("llama-server"):
            return binary
        return "the xllamacpp package" if find_spec("xllamacpp") else ""

    def runs_on(self) -> frozenset[str]:
        """A llama-server that somebody installed may have been built for GPUs; the xllamacpp package is for CPU."""
        return frozenset({"cpu", "gpu"}) if shutil.which("llama-server") else frozenset({"cpu"})

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        binary = shutil.which("llama-server")
        if not self.installed():
            raise ModelportError(
                "llama.cpp is not installed: put `llama-server` on PATH, or `pip install 'modelport[local]'`."
            )
        total = plan.context_tokens * plan.parallel
        threads = max(1, (os.cpu_count() or 1) // spec.replicas)
        argv = [binary] if binary else [sys.executable, "-I", str(SERVER)]
        argv += ["--model", facts.path, "--alias", spec.name, "--host", HOST, "--port", PORT]
        argv += ["--ctx-size", str(total), "--parallel", str(plan.parallel)]
        # Threads of llama.cpp spin while they compute: replicas with one for every core each starve one another.
        argv += ["--threads", str(threads)]
        argv += ["--n-gpu-layers", "999" if plan.device.kind == "gpu" else "0"]
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
        return Launch(
            argv=tuple(argv),
            # No prompt cache in RAM beyond the slots', and no silent refitting: the plan is what it takes.
            env={"LLAMA_ARG_CACHE_RAM": "0", "LLAMA_ARG_FIT": "off", "LLAMA_ARG_NO_WEBUI": "1"},
            secret_env={"LLAMA_API_KEY": ENGINE_KEY},
            health_path="/health",
            routes=ROUTES[plan.task],
        )
