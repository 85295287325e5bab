"""What engine_args may not hold for llama.cpp: what would undo the key, the address or the plan.

Options: common/arg.cpp, listed in tools/server/README.md; each with all its names, which its parser takes whole.
"""

from modelport.engines.flags import FILES_SEEN, MACHINES, MEMORY, NAME, OURS, TLS, TOKEN

MODEL = "set `model`"
SPECULATIVE = "llamacpp is started without a draft model here, vllm and sglang are with `speculative`"
LAYERS = "the plan puts all layers on the GPUs, or all on the CPU: set `accelerators`, or choose a smaller model"
GPUS = "the plan says which GPUs take which layers: set `accelerators`, and CUDA_VISIBLE_DEVICES for certain ones"
CACHE = "the plan counts keys and values of 16 bit on the device: set `context` or `parallel`"
TOOLS = "clients could then run programs on this machine"
VISION = "the projector is the mmproj file beside the model, which the plan counts: put it there, or take it away"
PICTURES = "the plan counts the largest picture the projector takes by itself"
ROUTER = "an engine serves one model: set `model`"

REFUSED = {
    **dict.fromkeys(("--host", "--port", "--reuse-port", "--api-key", "--api-key-file", "--api-prefix"), OURS),
    **dict.fromkeys(("--path", "--props", "--slots", "--slot-save-path"), OURS),
    **dict.fromkeys(("--ssl-key-file", "--ssl-cert-file"), TLS),
    **dict.fromkeys(("--alias", "-a"), NAME),
    **dict.fromkeys(("--hf-token", "-hft"), TOKEN),
    **dict.fromkeys(("--model", "-m", "--model-url", "-mu", "--docker-repo", "-dr"), MODEL),
    **dict.fromkeys(("--hf-repo", "-hf", "-hfr", "--hf-file", "-hff"), MODEL),
    **dict.fromkeys(("--embd-bge-small-en-default", "--embd-e5-small-en-default", "--embd-gte-small-default"), MODEL),
    **dict.fromkeys(("--embd-gemma-default", "--tts-oute-default"), MODEL),
    **dict.fromkeys(("--fim-qwen-1.5b-default", "--fim-qwen-3b-default", "--fim-qwen-7b-default"), MODEL),
    **dict.fromkeys(("--fim-qwen-30b-default", "--fim-qwen-7b-spec", "--fim-qwen-14b-spec"), MODEL),
    **dict.fromkeys(("--gpt-oss-20b-default", "--gpt-oss-120b-default"), MODEL),
    **dict.fromkeys(("--vision-gemma-4b-default", "--vision-gemma-12b-default"), MODEL),
    **dict.fromkeys(("--models-dir", "--models-preset", "--models-max", "--models-autoload"), ROUTER),
    "--no-models-autoload": ROUTER,
    **dict.fromkeys(("--model-draft", "-md", "--spec-draft-model", "--hf-repo-draft", "-hfd", "-hfrd"), SPECULATIVE),
    **dict.fromkeys(("--spec-draft-hf", "--spec-default"), SPECULATIVE),
    **dict.fromkeys(("--ctx-size", "-c", "--kv-unified-per-slot"), "set `context`"),
    **dict.fromkeys(("--parallel", "-np"), "set `parallel`"),
    **dict.fromkeys(("--batch-size", "-b", "--ubatch-size", "-ub"), "set `max_batched_tokens`"),
    **dict.fromkeys(("--embeddings", "--embedding"), "set `task: embed`"),
    "--sleep-idle-seconds": "set `idle_timeout`",
    **dict.fromkeys(("--gpu-layers", "--n-gpu-layers", "-ngl"), LAYERS),
    **dict.fromkeys(("--cpu-moe", "-cmoe", "--n-cpu-moe", "-ncmoe", "--n-cpu-ffn", "-ncffn"), LAYERS),
    **dict.fromkeys(("--moe-cache-mib", "--override-tensor", "-ot"), LAYERS),
    **dict.fromkeys(("--split-mode", "-sm", "--tensor-split", "-ts", "--main-gpu", "-mg", "--device", "-dev"), GPUS),
    **dict.fromkeys(("--cache-type-k", "-ctk", "--cache-type-v", "-ctv"), CACHE),
    **dict.fromkeys(("--kv-offload", "-kvo", "--no-kv-offload", "-nkvo", "--swa-full"), CACHE),
    **dict.fromkeys(("--fit", "-fit", "--fit-target", "-fitt", "--fit-ctx", "-fitc"), MEMORY),
    **dict.fromkeys(("--cache-ram", "-cram"), MEMORY),
    "--rpc": MACHINES,
    **dict.fromkeys(("--tools", "--tools-runtime", "--agent", "-ag"), TOOLS),
    **dict.fromkeys(("--mcp-servers-config", "--mcp-servers-json"), TOOLS),
    **dict.fromkeys(("--ui-mcp-proxy", "--webui-mcp-proxy"), TOOLS),
    **dict.fromkeys(
        ("--mmproj", "-mm", "--mmproj-url", "-mmu", "--mmproj-auto", "--no-mmproj", "--no-mmproj-auto"), VISION
    ),
    **dict.fromkeys(("--mmproj-offload", "--no-mmproj-offload", "--mmproj-device", "-mmdev"), LAYERS),
    "--image-max-tokens": PICTURES,
    "--media-path": FILES_SEEN,
}
