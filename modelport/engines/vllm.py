"""vLLM: models on NVIDIA and AMD GPUs, by the `vllm` on PATH or the package of this Python; on CPUs with a CPU build.

Options are those of `vllm serve` (vllm/engine/arg_utils.py, vllm/entrypoints/openai/cli_args.py; newer versions:
vllm/entrypoints/launchers/cli_args.py), in the versions that bench/engine_flags.py looked at. The key comes by
VLLM_API_KEY (vllm/envs.py), which guards /v1; its other paths are open to whoever reaches its loopback port.
"""

import json
import math

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import ENGINE_KEY, HOST, PORT, Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec, Speculative
from modelport.engines import source
from modelport.engines.caveat import caveats, must_have_heads, must_have_weights, path
from modelport.engines.flags import ALWAYS, Range, extra, must_hold
from modelport.engines.generation import BFLOAT16, FP8_CACHE, must_do
from modelport.engines.measure_vllm import measured
from modelport.engines.packaged import Packaged
from modelport.engines.quantizer import Quantizer
from modelport.engines.refused_vllm import REFUSED
from modelport.errors import ModelportError

OLDEST, NEWEST = "0.8.5", "0.32.0"
"""What was looked at. An older one is refused; a newer one is taken to be like the newest."""

FLAGS: dict[str, Range] = {
    **dict.fromkeys(("--served-model-name", "--host", "--port", "--revision", "--load-format", "--dtype"), ALWAYS),
    **dict.fromkeys(
        ("--quantization", "--kv-cache-dtype", "--tensor-parallel-size", "--pipeline-parallel-size"), ALWAYS
    ),
    **dict.fromkeys(
        ("--data-parallel-size", "--enable-expert-parallel", "--gpu-memory-utilization", "--max-model-len"), ALWAYS
    ),
    **dict.fromkeys(
        ("--max-num-seqs", "--max-num-batched-tokens", "--enforce-eager", "--enable-lora", "--lora-modules"), ALWAYS
    ),
    **dict.fromkeys(("--max-lora-rank", "--speculative-config"), ALWAYS),
    "--task": Range(until="0.12.0"),
    "--runner": Range(since="0.10.2"),
}
AUTO_CONTEXT = Range(since="0.14.0")
"""`--max-model-len auto` (vllm/config/model.py)."""

QUANTIZERS = {
    "fp8": Quantizer(("--quantization", "fp8"), fp8=True),
    "bitsandbytes": Quantizer(("--quantization", "bitsandbytes"), Range(until="0.24.0")),
}
"""Left out: vLLM's `torchao` quantizes by a config that is no option of its own, and its online
`int8_per_channel_weight_only` leaves all but experts in 16 bit (layers/quantization/online/base.py)."""

STORED = frozenset(
    [
        *("awq", "gptq", "fp8", "compressed-tensors", "bitsandbytes", "mxfp4", "modelopt", "modelopt_fp4"),
        *("nvfp4", "quark", "fbgemm_fp8", "torchao", "auto-round", "inc", "experts_int8"),
    ]
)
"""Methods whose files it loads (layers/quantization/__init__.py)."""

METHODS = {
    "ngram": ("ngram", ALWAYS),
    "eagle": ("eagle", ALWAYS),
    "eagle3": ("eagle3", Range(since="0.9.2")),
    "mtp": ("mtp", Range(since="0.11.0")),
    "draft": ("draft_model", Range(since="0.16.0")),
}
"""Speculative decoding (vllm/config/speculative.py): our name, theirs, and since when. Before 0.16 the V1 engine
answers a draft model with "not supported yet"."""

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank may be (vllm/config/lora.py)."""

STREAMED = {"s3": ALWAYS, "gs": Range(since="0.10.2"), "az": Range(since="0.18.0")}
"""Clouds that its Run:ai loader reads (vllm/transformers_utils/runai_utils.py)."""

COMMON_ROUTES = dict.fromkeys(("GET /health", "GET /v1/models", "POST /tokenize", "POST /detokenize"), ALWAYS)
ROUTES: dict[str, dict[str, Range]] = {
    "generate": {
        **COMMON_ROUTES,
        **dict.fromkeys(("POST /v1/chat/completions", "POST /v1/completions"), ALWAYS),
        "POST /v1/responses": Range(since="0.10.2"),
    },
    "embed": {
        **COMMON_ROUTES,
        "POST /v1/embeddings": ALWAYS,
        **dict.fromkeys(("POST /v1/rerank", "POST /rerank"), Range(since="0.9.2")),
    },
}
"""What clients may reach, by the versions looked at. An embedding model reranks by likeness
(pooling/utils.py, enable_scoring_api). Left out: /v1/responses of 0.10.0, which keeps every answer, and /v1/messages
(since 0.12.0), which tells no usage along the way; the gateway translates it, and counts what a broken stream took."""
AUDIO_ROUTES = {"POST /v1/audio/transcriptions": ALWAYS, "POST /v1/audio/translations": Range(since="0.9.2")}
"""Of models that hear and generate text; those that only chat about sounds answer them with an error."""
GIB = 1 << 30


class Vllm(Packaged):
    """Serves safetensors and PyTorch files, from a directory, the Hub or a cloud."""

    name = "vllm"
    oldest, newest, quantizers = OLDEST, NEWEST, QUANTIZERS

    def supports(self, facts: ModelFacts) -> str:
        if facts.format == "gguf":
            return f"vllm does not serve GGUF files here, and {facts.source!r} is one: llamacpp does."
        if facts.quantized and facts.quantized.method not in STORED:
            return f"vllm does not load {facts.quantized.method} files, which {facts.source!r} has."
        if facts.adapter and facts.adapter.rank > LORA_RANKS[-1]:
            return f"vllm serves LoRA adapters up to rank {LORA_RANKS[-1]}, and this one has {facts.adapter.rank}."
        return ""

    def installed(self) -> str:
        return str(self._found()) if self._found() else ""

    def runs_on(self) -> frozenset[str]:
        """vLLM is built for one kind of device; a build for CPUs says so in its version."""
        return frozenset({"cpu"}) if self._found().version.endswith("+cpu") else frozenset({"gpu"})

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        """What it decides on by itself. Raises ModelportError for what this version, model or device cannot do."""
        version = self._aimed(spec)
        _, note = self._quantizer(facts, spec, device, version)
        source_argv(facts, version)
        must_do(self.name, spec, device, (BFLOAT16, FP8_CACHE))
        batched(spec)
        extra(self.name, spec.engine_args, REFUSED)
        if spec.speculative:
            speculative(spec.speculative, version)
        must_have_heads(facts, spec)
        return (*([note] if note else []), *self._aimed_note(spec, version))

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        found, version = self._found(), self._aimed(spec)
        if not found and not spec.accelerators:
            raise ModelportError(
                "vllm is not installed: put `vllm` on PATH (`pip install vllm` in an environment of its own).",
                param="engine",
            )
        must_have_weights(facts, spec)
        notes = [*self.check(facts, spec, plan.device), *caveats(self.name, facts, plan, spec)]
        adapter = facts.adapter
        names = [f"{spec.name}-base"] if adapter else names_of(spec)
        argv = ["--served-model-name", *names, "--host", HOST, "--port", PORT]
        argv += source_argv(facts, version)
        argv += split_argv(plan)
        if plan.memory_fraction and plan.device.kind == "gpu":
            argv += ["--gpu-memory-utilization", f"{plan.memory_fraction:g}"]
        if plan.context_tokens:
            argv += ["--max-model-len", str(plan.context_tokens)]
        elif AUTO_CONTEXT.holds(version):
            argv += ["--max-model-len", "auto"]
        else:
            notes.append(f"The context is the model's own: vllm {version} has no `--max-model-len auto`.")
        if spec.parallel:
            # Of one copy: each of `data` copies schedules requests of its own (vllm/v1/engine/core.py).
            argv += ["--max-num-seqs", str(math.ceil(plan.parallel / plan.split.data))]
        if spec.max_batched_tokens:
            argv += ["--max-num-batched-tokens", str(spec.max_batched_tokens)]
        if spec.dtype and spec.dtype != "auto":
            argv += ["--dtype", spec.dtype]
        argv += self._quantizer(facts, spec, plan.device, version)[0]
        if spec.kv_cache_dtype and spec.kv_cache_dtype != "auto":
            argv += ["--kv-cache-dtype", spec.kv_cache_dtype]
        if spec.eager:
            argv += ["--enforce-eager"]
        if adapter:
            # The adapter has the name clients use; what it stands on is reachable as NAME-base, by nobody through us.
            rank = next(rank for rank in LORA_RANKS if rank >= adapter.rank)
            argv += [
                "--enable-lora",
                "--lora-modules",
                *(f"{name}={adapter.path}" for name in names_of(spec)),
                "--max-lora-rank",
                str(rank),
            ]
        if plan.task == "embed":
            argv += ["--runner", "pooling"] if FLAGS["--runner"].holds(version) else ["--task", "embed"]
        if spec.speculative:
            argv += ["--speculative-config", json.dumps(speculative(spec.speculative, version))]
        must_hold(self.name, version, argv, FLAGS)
        argv += extra(self.name, spec.engine_args, REFUSED)
        program = (
            [found.path or "vllm"] if found.path or not found else [found.python, "-m", "vllm.entrypoints.cli.main"]
        )
        cpu = plan.device.kind == "cpu"
        env = {"VLLM_NO_USAGE_STATS": "1"}
        if cpu:
            need = plan.context_tokens * plan.parallel * facts.kv_bytes_per_token
            env["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(need / GIB)))
        return Launch(
            argv=(*program, "serve", path(facts), *argv),
            env=env,
            secret_env={"VLLM_API_KEY": ENGINE_KEY, **source.hub_token(facts)},
            image=f"vllm/vllm-openai:v{version}" if source.cuda(plan.device) else "",
            notes=tuple(notes),
            health_path="/health",
            metrics_path="/metrics",
            routes=routes(facts, plan.task, version),
            grace_s=30.0,  # an estimate: workers of several GPUs end one after another
        )

    def measured(self, lines: list[str]) -> Measured | None:
        """What it printed about memory; None where that is nothing."""
        return measured(lines)


def routes(facts: ModelFacts, task: str, version: str) -> tuple[str, ...]:
    """Those of this version that a model like this one has."""
    hears = task == "generate" and "audio" in facts.inputs
    table = ROUTES[task] | (AUDIO_ROUTES if hears else {})
    return tuple(route for route, versions in table.items() if versions.holds(version))


def names_of(spec: Spec) -> list[str]:
    """Every name that clients may use; answers carry the first."""
    return [name for name in dict.fromkeys((spec.served_name, spec.name)) if name]


def source_argv(facts: ModelFacts, version: str) -> list[str]:
    """How to load what `facts.path` names. Raises ModelportError for a cloud this version does not read."""
    kind = source.kind(facts.path)
    if kind == "hub":
        return ["--revision", facts.revision] if facts.revision else []
    if kind == "local":
        return []
    scheme = facts.path.partition("://")[0]
    if scheme not in STREAMED or not STREAMED[scheme].holds(version):
        raise ModelportError(
            f"vllm {version} does not load models from {scheme}://: download {facts.source!r}, and name its directory.",
            param="model",
        )
    return ["--load-format", "runai_streamer"]


def split_argv(plan: Plan) -> list[str]:
    """The options of a Split, those left out that are 1."""
    split = plan.split
    sizes = {
        "--tensor-parallel-size": split.tensor,
        "--pipeline-parallel-size": split.pipeline,
        "--data-parallel-size": split.data,
    }
    argv = [word for flag, size in sizes.items() if size > 1 for word in (flag, str(size))]
    return argv + (["--enable-expert-parallel"] if split.expert > 1 else [])


def batched(spec: Spec) -> None:
    """Raises ModelportError where a step has fewer tokens than one copy has requests (vllm/config/scheduler.py)."""
    requests = math.ceil((spec.parallel or 1) / (spec.data_parallel or 1))
    if spec.max_batched_tokens and spec.max_batched_tokens < requests:
        raise ModelportError(
            f"max_batched_tokens {spec.max_batched_tokens:,} is less than the {requests:,} requests of one engine, of "
            f"which vllm takes a token each in a step: set max_batched_tokens {requests} or more, or parallel lower.",
            param="max_batched_tokens",
        )


def speculative(wanted: Speculative, version: str) -> dict[str, object]:
    """The value of --speculative-config. Raises ModelportError for a method that this version does not have."""
    method, versions = METHODS[wanted.method]
    if not versions.holds(version):
        raise ModelportError(
            f"vllm {version} has no speculative decoding by {wanted.method} (vllm {versions} has).", param="speculative"
        )
    config: dict[str, object] = {"method": method, "num_speculative_tokens": wanted.tokens}
    if wanted.method == "ngram":
        # It looks for the last 5 tokens; its own default, which older versions demand to be said (speculative.py).
        return {**config, "prompt_lookup_max": 5}
    if wanted.model.strip():
        config["model"], revision = source.draft(wanted.model)
        return {**config, "revision": revision} if revision else config
    return config
