"""TGI (text-generation-inference): models on NVIDIA GPUs, in its container image or where its launcher is on PATH.

Options are those of its launcher (launcher/src/main.rs), which clap takes from the environment too: the key as API_KEY.
The launcher then hands the key on to its router as an argument, where whoever sees the machine's processes can read it:
a note with each launch says so. 3.3.7 (December 2025) is the last version; the project is in maintenance mode.
"""

import shutil

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import ENGINE_KEY, HOST, PORT, Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec, Speculative
from modelport.engines import source
from modelport.engines.caveat import caveats, must_have_weights, path
from modelport.engines.flags import ALWAYS, MACHINES, MEMORY, NAME, OURS, Range, extra, must_hold
from modelport.engines.generation import BFLOAT16, must_do
from modelport.engines.quantizer import Quantizer, quantizer
from modelport.errors import ModelportError

OLDEST, NEWEST = "2.3.1", "3.3.7"
"""What was looked at; API_KEY is there from 2.3 on. The one on PATH does not tell its version without being run."""

FLAGS: dict[str, Range] = {
    **dict.fromkeys(
        ("--model-id", "--revision", "--hostname", "--port", "--num-shard", "--cuda-memory-fraction"), ALWAYS
    ),
    **dict.fromkeys(("--max-total-tokens", "--max-input-tokens", "--max-concurrent-requests"), ALWAYS),
    **dict.fromkeys(("--max-batch-prefill-tokens", "--dtype", "--quantize", "--cuda-graphs", "--speculate"), ALWAYS),
    **dict.fromkeys(("--lora-adapters", "--usage-stats"), ALWAYS),
    "--kv-cache-dtype": Range(since="2.4.0"),
}

QUANTIZERS = {
    "fp8": Quantizer(("--quantize", "fp8"), fp8=True),
    "int8wo": Quantizer(("--quantize", "eetq")),
    "eetq": Quantizer(("--quantize", "eetq")),
    "bitsandbytes": Quantizer(("--quantize", "bitsandbytes")),
    "bitsandbytes-nf4": Quantizer(("--quantize", "bitsandbytes-nf4")),
    "bitsandbytes-fp4": Quantizer(("--quantize", "bitsandbytes-fp4")),
}
"""EETQ is 8 bit integer, weights only (enum Quantization)."""

STORED = frozenset(["awq", "gptq", "fp8", "compressed-tensors", "marlin", "exl2", "eetq", "bitsandbytes"])
KV_DTYPES = {"fp8": "fp8_e4m3fn", "fp8_e4m3": "fp8_e4m3fn", "fp8_e5m2": "fp8_e5m2"}

REFUSED = {
    **dict.fromkeys(("--hostname", "--port", "-p", "--api-key", "--ngrok", "--ngrok-authtoken", "--ngrok-edge"), OURS),
    **dict.fromkeys(("--cors-allow-origin", "--prometheus-port"), OURS),
    **dict.fromkeys(("--env", "-e"), "it prints the environment, with the engine's key"),
    "--served-model-name": NAME,
    "--model-id": "the model is the service's `model`",
    "--revision": "write it as `model: org/name@revision`",
    "--max-total-tokens": "set `context`",
    "--max-input-tokens": "set `context`",
    "--max-input-length": "set `context`",
    "--max-concurrent-requests": "set `parallel`",
    "--num-shard": "set `tensor_parallel`",
    "--sharded": "set `tensor_parallel`",
    "--cuda-memory-fraction": "set `memory_fraction`",
    "--quantize": "set `quantization`",
    "--kv-cache-dtype": "set `kv_cache_dtype`",
    "--dtype": "set `dtype`",
    "--max-batch-prefill-tokens": "set `max_batched_tokens`",
    "--cuda-graphs": "set `eager`",
    "--speculate": "set `speculative`",
    "--max-batch-total-tokens": MEMORY,
    "--max-batch-size": "set `parallel`",
    **dict.fromkeys(("--master-addr", "--master-port", "--shard-uds-path"), MACHINES),
}
KEY_SEEN = "TGI's launcher hands its key to its router as an argument, which users of this machine can read."
ROUTES = (
    "GET /health",
    "POST /tokenize",
    "POST /generate",
    "POST /generate_stream",
    "POST /v1/chat/completions",
    "POST /v1/completions",
)


class Tgi:
    """Serves safetensors files, from a directory or the Hub, on the GPUs of one machine."""

    name = "tgi"

    def supports(self, facts: ModelFacts) -> str:
        if facts.format not in ("safetensors", "config"):
            return f"tgi serves safetensors files, and {facts.source!r} is {facts.format}."
        if facts.task != "generate":
            return f"tgi does not serve embeddings, which {facts.source!r} makes."
        if facts.quantized and facts.quantized.method not in STORED:
            return f"tgi does not load {facts.quantized.method} files, which {facts.source!r} has."
        return ""

    def installed(self) -> str:
        return shutil.which("text-generation-launcher") or ""

    def version(self) -> str:
        return ""

    def runs_on(self) -> frozenset[str]:
        return frozenset({"gpu"})

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        """What it decides on by itself. Raises ModelportError for what TGI, the model or the device cannot do."""
        _, note = quantizer(self.name, NEWEST, QUANTIZERS, facts, spec.quantization or "", device)
        wanted = [
            (source.kind(facts.path) == "cloud", "model", f"load models from a cloud: download {facts.source!r}"),
            (
                bool(facts.adapter) and source.kind(facts.adapter.path if facts.adapter else "") != "local",
                "model",
                "fetch adapters under a name of ours: download it, and name its directory",
            ),
            (spec.task == "embed", "task", "serve embeddings: use vllm, sglang or llamacpp"),
            (spec.dtype == "float32", "dtype", "compute in float32: use bfloat16 or float16"),
            ((spec.pipeline_parallel or 1) > 1, "pipeline_parallel", "split layers over stages: use vllm or sglang"),
            ((spec.data_parallel or 1) > 1, "data_parallel", "run copies: set `replicas`"),
            ((spec.expert_parallel or 1) > 1, "expert_parallel", "share out experts: use vllm or sglang"),
        ]
        for asked, param, what in wanted:
            if asked:
                raise ModelportError(f"tgi does not {what}.", param=param)
        must_do(self.name, spec, device, (BFLOAT16,))
        extra(self.name, spec.engine_args, REFUSED)
        if spec.speculative:
            speculate(spec.speculative)
        return (note,) if note else ()

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        if not self.installed() and not spec.accelerators:
            raise ModelportError("tgi is not installed: its image holds `text-generation-launcher`.", param="engine")
        must_have_weights(facts, spec)
        notes = (*self.check(facts, spec, plan.device), *caveats(self.name, facts, plan, spec))
        split = plan.split
        if split.pipeline > 1 or split.data > 1 or split.expert > 1:
            raise ModelportError("tgi splits a model by tensor parallelism only.", param="engine")
        argv = ["--model-id", path(facts)]
        if source.kind(facts.path) == "hub" and facts.revision:
            argv += ["--revision", facts.revision]
        argv += ["--hostname", HOST, "--port", PORT, "--num-shard", str(split.tensor)]
        if plan.memory_fraction:
            argv += ["--cuda-memory-fraction", f"{plan.memory_fraction:g}"]
        if plan.context_tokens:
            # Its input must leave room for one token of answer (launcher/src/main.rs).
            argv += ["--max-total-tokens", str(plan.context_tokens), "--max-input-tokens", str(plan.context_tokens - 1)]
        if spec.parallel:
            argv += ["--max-concurrent-requests", str(plan.parallel)]
        if spec.max_batched_tokens:
            argv += ["--max-batch-prefill-tokens", str(spec.max_batched_tokens)]
        if spec.dtype and spec.dtype != "auto":
            argv += ["--dtype", spec.dtype]
        argv += quantizer(self.name, NEWEST, QUANTIZERS, facts, spec.quantization or "", plan.device)[0]
        if spec.kv_cache_dtype and spec.kv_cache_dtype != "auto":
            argv += ["--kv-cache-dtype", KV_DTYPES[spec.kv_cache_dtype]]
        if spec.eager:
            argv += ["--cuda-graphs", "0"]
        if spec.speculative:
            argv += ["--speculate", str(speculate(spec.speculative))]
        if facts.adapter:
            # A request's `model` picks the adapter of that name (router/src/server.rs): the service's own.
            argv += ["--lora-adapters", f"{spec.name}={facts.adapter.path}"]
        argv += ["--usage-stats", "off"]
        must_hold(self.name, NEWEST, argv, FLAGS)
        argv += extra(self.name, spec.engine_args, REFUSED)
        return Launch(
            argv=(self.installed() or "text-generation-launcher", *argv),
            secret_env={"API_KEY": ENGINE_KEY, **source.hub_token(facts)},
            image=f"ghcr.io/huggingface/text-generation-inference:{NEWEST}" if source.cuda(plan.device) else "",
            notes=(*notes, KEY_SEEN),
            health_path="/health",
            metrics_path="/metrics",
            routes=ROUTES,
            grace_s=90.0,  # its own --graceful-termination-timeout
        )

    def measured(self, lines: list[str]) -> Measured | None:
        """None: TGI prints tokens it can hold, and no bytes."""
        return None


def speculate(wanted: Speculative) -> int:
    """The value of --speculate. Raises ModelportError for what TGI does not have: it drafts by n-grams, or by heads
    (Medusa, MLP speculators) that a model brings with it."""
    if wanted.method != "ngram":
        raise ModelportError(
            f"tgi has no speculative decoding by {wanted.method}: set method ngram, or use vllm or sglang.",
            param="speculative",
        )
    return wanted.tokens
