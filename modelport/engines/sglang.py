"""SGLang: models on NVIDIA and AMD GPUs, by `python -m sglang.launch_server` of the environment that has it.

Options are those of sglang/srt/server_args.py (newer versions: sglang/srt/arg_groups/fields), in the versions that
bench/engine_flags.py looked at. SGLang reads its key from no environment variable; it comes by a `--config` file, which
it has since 0.5.3 (sglang/srt/server_args_config_parser.py), hence the oldest version.
"""

import math

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import HOST, PORT, SECRET_MARK, Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan, Split
from modelport.domain.spec import Spec, Speculative
from modelport.engines import dp_attention, source
from modelport.engines.caveat import caveats, must_have_heads, must_have_weights, path
from modelport.engines.flags import ALWAYS, Range, extra, must_hold
from modelport.engines.generation import BFLOAT16, must_do
from modelport.engines.measure_sglang import measured
from modelport.engines.packaged import Packaged
from modelport.engines.quantizer import Quantizer
from modelport.engines.refused_sglang import REFUSED
from modelport.errors import ModelportError

OLDEST, NEWEST = "0.5.3", "0.5.23"
"""What was looked at. An older one is refused; a newer one is taken to be like the newest."""
KEY_FILE = "sglang.yaml"
OLDEST_GPU = 7.5
"""Compute capability: "SGLang only supports sm75 and above" (sglang/srt/model_executor/model_runner.py)."""

FLAGS: dict[str, Range] = {
    **dict.fromkeys(
        ("--config", "--model-path", "--served-model-name", "--host", "--port", "--revision", "--load-format"), ALWAYS
    ),
    **dict.fromkeys(
        ("--dtype", "--quantization", "--kv-cache-dtype", "--tp-size", "--pp-size", "--dp-size", "--ep-size"), ALWAYS
    ),
    **dict.fromkeys(
        ("--enable-dp-attention", "--mem-fraction-static", "--context-length", "--max-running-requests"), ALWAYS
    ),
    **dict.fromkeys(("--chunked-prefill-size", "--disable-cuda-graph", "--enable-metrics", "--is-embedding"), ALWAYS),
    **dict.fromkeys(
        ("--speculative-algorithm", "--speculative-draft-model-path", "--speculative-draft-model-revision"), ALWAYS
    ),
    **dict.fromkeys(("--speculative-num-steps", "--speculative-eagle-topk", "--speculative-num-draft-tokens"), ALWAYS),
    "--torchao-config": Range(until="0.5.16"),
}

TORCHAO = FLAGS["--torchao-config"]
QUANTIZERS = {
    "fp8": Quantizer(("--quantization", "fp8"), fp8=True),
    "bitsandbytes": Quantizer(("--quantization", "bitsandbytes", "--load-format", "bitsandbytes")),
    **{
        name: Quantizer(("--torchao-config", name), TORCHAO)
        for name in ("int8wo", "int8dq", "int4wo-32", "int4wo-64", "int4wo-128", "int4wo-256")
    },
    **{
        name: Quantizer(("--torchao-config", name), TORCHAO, fp8=True)
        for name in ("fp8wo", "fp8dq-per_tensor", "fp8dq-per_row")
    },
}
"""torchao's names and group sizes: sglang/srt/layers/torchao_utils.py."""

STORED = frozenset(
    [
        *("awq", "gptq", "fp8", "bitsandbytes", "mxfp4", "modelopt", "modelopt_fp8", "modelopt_fp4"),
        *("nvfp4", "compressed-tensors", "w8a8_int8", "w8a8_fp8", "quark", "auto-round", "w4afp8"),
    ]
)
"""Methods whose files it loads (QUANTIZATION_CHOICES, and compressed-tensors by the files' own config)."""

ALGORITHMS = {"eagle": "EAGLE", "eagle3": "EAGLE3", "mtp": "NEXTN", "draft": "STANDALONE", "ngram": "NGRAM"}
"""Speculative decoding (sglang/srt/speculative/spec_info.py): our name and theirs."""

COMMON_ROUTES = dict.fromkeys(("GET /health", "GET /v1/models"), ALWAYS)
ROUTES: dict[str, dict[str, Range]] = {
    "generate": {
        **COMMON_ROUTES,
        **dict.fromkeys(("POST /v1/chat/completions", "POST /v1/completions"), ALWAYS),
        "POST /v1/messages/count_tokens": Range(since="0.5.9"),
    },
    "embed": {**COMMON_ROUTES, "POST /v1/embeddings": ALWAYS},
}
"""What clients may reach, by the versions looked at. Left out: /v1/responses, which keeps every answer in memory
(openai/serving_responses.py), /v1/rerank, which needs a model that ranks, and /v1/messages (since 0.5.9), which tells
no usage along the way; the gateway translates it, and counts what a broken stream took."""


class SGLang(Packaged):
    """Serves safetensors and PyTorch files, from a directory or the Hub."""

    name = "sglang"
    oldest, newest, quantizers = OLDEST, NEWEST, QUANTIZERS
    why_oldest = ", which takes its key from a file"

    def supports(self, facts: ModelFacts) -> str:
        if facts.format == "gguf":
            return f"sglang does not serve GGUF files here, and {facts.source!r} is one: llamacpp does."
        if facts.quantized and facts.quantized.method not in STORED:
            return f"sglang does not load {facts.quantized.method} files, which {facts.source!r} has."
        if facts.adapter:
            # A request picks an adapter as `model:adapter` (openai/serving_base.py); with the service's plain name it
            # would be answered by the base model, and nobody would notice.
            return "sglang does not serve a LoRA adapter under a name of its own: vllm and tgi do."
        return ""

    def installed(self) -> str:
        return str(self._found()) if self._found().python else ""

    def runs_on(self) -> frozenset[str]:
        return frozenset({"gpu"})

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        """What it decides on by itself. Raises ModelportError for what this version, model or device cannot do."""
        version = self._aimed(spec)
        _, note = self._quantizer(facts, spec, device, version)
        if source.kind(facts.path) == "cloud":
            raise ModelportError(
                f"sglang does not load models from a cloud here: download {facts.source!r}, and name its directory.",
                param="model",
            )
        gpu = device.gpu
        if gpu and gpu.vendor == "nvidia" and gpu.capability < OLDEST_GPU:
            raise ModelportError(
                f"sglang needs NVIDIA GPUs of compute capability {OLDEST_GPU} or newer (T4), and {device.name} has "
                f"{gpu.capability}: set accelerators to a newer kind, or engine llamacpp with a GGUF file.",
                param="engine",
            )
        must_do(self.name, spec, device, (BFLOAT16,))
        asked = Split(spec.tensor_parallel or 1, 1, spec.data_parallel or 1, spec.expert_parallel or 1)
        if facts.experts:  # of a model without, the planner says what is wrong
            dp_attention.must_have(facts, asked, version)
        extra(self.name, spec.engine_args, REFUSED)
        if spec.speculative:
            speculative_argv(spec.speculative, facts, device)
        must_have_heads(facts, spec)
        return (*([note] if note else []), *self._aimed_note(spec, version))

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        found, version = self._found(), self._aimed(spec)
        if not found.python and not spec.accelerators:
            raise ModelportError(
                "sglang is not installed: put `sglang` on PATH (`pip install sglang` in an environment of its own).",
                param="engine",
            )
        must_have_weights(facts, spec)
        notes = (*self.check(facts, spec, plan.device), *caveats(self.name, facts, plan, spec))
        dp_attention.must_have(facts, plan.split, version)
        argv = [
            "--model-path",
            path(facts),
            "--served-model-name",
            spec.served_name or spec.name,
            "--host",
            HOST,
            "--port",
            PORT,
        ]
        argv += ["--config", KEY_FILE]
        if source.kind(facts.path) == "hub" and facts.revision:
            argv += ["--revision", facts.revision]
        argv += split_argv(plan)
        if plan.memory_fraction:
            argv += ["--mem-fraction-static", f"{plan.memory_fraction:g}"]
        argv += ["--enable-metrics"]
        if plan.context_tokens:
            argv += ["--context-length", str(plan.context_tokens)]
        if spec.parallel:
            argv += ["--max-running-requests", str(running(plan))]
        if spec.max_batched_tokens:
            argv += ["--chunked-prefill-size", str(spec.max_batched_tokens)]
        if spec.dtype and spec.dtype != "auto":
            argv += ["--dtype", spec.dtype]
        argv += self._quantizer(facts, spec, plan.device, version)[0]
        if spec.kv_cache_dtype and spec.kv_cache_dtype != "auto":
            argv += ["--kv-cache-dtype", {"fp8": "fp8_e4m3"}.get(spec.kv_cache_dtype, spec.kv_cache_dtype)]
        if spec.eager:
            argv += ["--disable-cuda-graph"]
        if plan.task == "embed":
            argv += ["--is-embedding"]
        if spec.speculative:
            if dp_attention.shares_experts(plan.split) and spec.speculative.method in ("draft", "ngram"):
                raise ModelportError(
                    f"sglang has no speculative decoding by {spec.speculative.method} where experts are shared out "
                    "over copies (data_parallel with expert_parallel): use eagle3 or mtp, or leave one of them out.",
                    param="speculative",
                )
            argv += speculative_argv(spec.speculative, facts, plan.device)
        must_hold(self.name, version, argv, FLAGS)
        argv += extra(self.name, spec.engine_args, REFUSED)
        return Launch(
            argv=(found.python or "python3", "-m", "sglang.launch_server", *argv),
            secret_env=source.hub_token(facts),
            secret_files={KEY_FILE: f'api-key: "{SECRET_MARK}"\n'},
            image=f"lmsysorg/sglang:v{version}" if source.cuda(plan.device) else "",
            notes=notes,
            health_path="/health",
            metrics_path="/metrics",
            routes=tuple(route for route, versions in ROUTES[plan.task].items() if versions.holds(version)),
            grace_s=30.0,  # an estimate: workers of several GPUs end one after another
        )

    def measured(self, lines: list[str]) -> Measured | None:
        """What it printed about memory; None where that is nothing."""
        return measured(lines)


def split_argv(plan: Plan) -> list[str]:
    """The options of a Split. With dp-attention, tp-size is the GPUs of a stage and dp-size divides it
    (server_args.py, _handle_data_parallelism); without, each of dp-size copies has tp-size GPUs of its own."""
    split, shared = plan.split, dp_attention.shares_experts(plan.split)
    sizes = {
        "--tp-size": split.tensor * split.data if shared else split.tensor,
        "--pp-size": split.pipeline,
        "--dp-size": split.data,
        "--ep-size": split.expert,
    }
    argv = [word for flag, size in sizes.items() if size > 1 for word in (flag, str(size))]
    return argv + (["--enable-dp-attention"] if shared else [])


def running(plan: Plan) -> int:
    """Requests at once, as --max-running-requests counts them: of each copy, but of all together with dp-attention."""
    shared = dp_attention.shares_experts(plan.split)
    return plan.parallel if shared else math.ceil(plan.parallel / plan.split.data)


def speculative_argv(wanted: Speculative, facts: ModelFacts, device: Device) -> list[str]:
    """Speculative decoding. Raises ModelportError for what SGLang does not have on this device.

    Steps, topk and draft tokens are given together: with steps left out it asserts that the others are too. With one
    guess a step (topk 1) it drafts one token more than there are steps (server_args.py, _handle_speculative_decoding).
    """
    argv = ["--speculative-algorithm", ALGORITHMS[wanted.method]]
    if wanted.method == "ngram":
        if device.kind == "cpu" or (device.gpu and device.gpu.vendor != "nvidia"):
            raise ModelportError(
                f"sglang has speculative decoding by ngram on NVIDIA GPUs only, and {device.name} is none.",
                param="speculative",
            )
        return [*argv, "--speculative-num-draft-tokens", str(wanted.tokens + 1)]
    # A model's own MTP layers are in its own files, which older versions want to be told.
    hub = source.kind(facts.path) == "hub"
    draft, revision = (
        source.draft(wanted.model) if wanted.model.strip() else (path(facts), facts.revision if hub else "")
    )
    argv += ["--speculative-draft-model-path", draft]
    argv += ["--speculative-draft-model-revision", revision] if revision else []
    argv += ["--speculative-num-steps", str(wanted.tokens), "--speculative-eagle-topk", "1"]
    return [*argv, "--speculative-num-draft-tokens", str(wanted.tokens + 1)]
