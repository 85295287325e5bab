"""Rows of memory-truth: what they say, as configs that the catalog understands.

A row is a normalised config without the model's kind, so the kind, and the few sizes that rows lack, are told by the
model's name from the table below (facts of the published config.json of each family).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelport.errors import ModelportError

DATA = Path(__file__).parent / "data"
GIB = 1 << 30

SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304,
          "patch_size": 14}  # fmt: skip
GEMMA4_VISION = {"model_type": "gemma4_vision", "hidden_size": 1152, "num_hidden_layers": 27,
                 "intermediate_size": 4304, "patch_size": 16, "position_embedding_size": 10240}  # fmt: skip
CLIP = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096, "patch_size": 14}
LLAMA4_VISION = {"hidden_size": 1408, "num_hidden_layers": 34, "intermediate_size": 5632, "patch_size": 14}
MLLAMA_VISION = {"hidden_size": 1280, "num_hidden_layers": 40, "intermediate_size": 5120, "patch_size": 14}
WHISPER = {"d_model": 1280, "encoder_layers": 32, "encoder_ffn_dim": 5120}
DELTA = {"full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_num_key_heads": 16,
         "linear_key_head_dim": 128, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
         "mtp_num_hidden_layers": 1, "mamba_ssm_dtype": "float32", "vocab_size": 248320}  # fmt: skip
QWEN2_VISION = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "hidden_size": 3584, "patch_size": 14,
                "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 3584}  # fmt: skip
QWEN25_VISION = {"model_type": "qwen2_5_vl", "depth": 32, "hidden_size": 1280, "intermediate_size": 3420,
                 "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2}  # fmt: skip
QWEN3_VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16,
                "temporal_patch_size": 2, "spatial_merge_size": 2}  # fmt: skip

# The first pattern that is found in the model's name, without regard to case, gives what the row leaves out.
FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("deepseek-v4", {"model_type": "deepseek_v4"}),
    ("r1-distill-qwen|distill-qwen", {"model_type": "qwen2", "tie_word_embeddings": False}),
    ("r1-distill-llama", {"model_type": "llama", "tie_word_embeddings": False}),
    ("deepseek-v3|deepseek-r1", {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1}),
    ("deepseek-v2", {"model_type": "deepseek_v2"}),
    ("kimi-linear", {"model_type": "kimi_linear", "tie_word_embeddings": False}),
    ("kimi-k2", {"model_type": "kimi_k2"}),
    ("glm-5", {"model_type": "glm_moe_dsa", "num_nextn_predict_layers": 1, "index_n_heads": 32}),
    ("glm-4.5v|glm-4.6v", {"model_type": "glm4v_moe"}),
    ("glm-4", {"model_type": "glm4_moe", "num_nextn_predict_layers": 1}),
    ("gemma-4", {"model_type": "gemma4_text", "attention_k_eq_v": True, "tie_word_embeddings": True,
                 "enable_moe_block": True, "vision_config": GEMMA4_VISION}),
    ("gemma-3", {"model_type": "gemma3_text", "vision_config": SIGLIP}),
    ("gemma-2", {"model_type": "gemma2"}),
    ("qwen2-vl", {"model_type": "qwen2_vl", "tie_word_embeddings": False, "vision_config": QWEN2_VISION}),
    ("qwen2.5-vl-3b", {"model_type": "qwen2_5_vl", "vision_config": QWEN25_VISION, "vocab_size": 151936,
                       "tie_word_embeddings": True}),
    ("qwen2.5-vl-72b", {"model_type": "qwen2_5_vl", "vision_config": QWEN25_VISION, "vocab_size": 152064,
                        "intermediate_size": 29568, "tie_word_embeddings": False}),
    ("qwen2-audio", {"model_type": "qwen2_audio", "audio_config": WHISPER, "vocab_size": 156032,
                     "intermediate_size": 11008, "tie_word_embeddings": False}),
    ("qwen2.5-vl", {"model_type": "qwen2_5_vl", "vision_config": QWEN25_VISION}),
    ("qwen3-vl", {"model_type": "qwen3_vl_moe", "vision_config": QWEN3_VISION}),
    ("qwen3-next|qwen3-coder-next", {"model_type": "qwen3_next"}),
    (r"qwen3\.[5-9].*a\d+b", {"model_type": "qwen3_5_moe_text", "vision_config": QWEN3_VISION, **DELTA}),
    (r"qwen3\.[5-9]-27b", {"model_type": "qwen3_5_text", "vision_config": QWEN3_VISION, **DELTA,
                           "linear_num_value_heads": 48, "intermediate_size": 17408, "tie_word_embeddings": False}),
    (r"qwen3\.[5-9]", {"model_type": "qwen3_5_text", "vision_config": QWEN3_VISION, **DELTA}),
    ("qwen3-embedding-8b", {"model_type": "qwen3", "vocab_size": 151665, "tie_word_embeddings": True}),
    (r"qwen3-.*a\d+b|qwen3-coder", {"model_type": "qwen3_moe"}),
    ("qwen3", {"model_type": "qwen3"}),
    ("qwen1.5|qwen2-[57]|codeqwen", {"model_type": "qwen2", "tie_word_embeddings": False}),
    ("qwen2|qwq", {"model_type": "qwen2"}),
    ("nemotron-3-super", {"model_type": "nemotron_h", "moe_latent_size": 1024, "num_nextn_predict_layers": 1}),
    ("nemotron-3|nemotron-nano", {"model_type": "nemotron_h"}),
    ("jamba", {"model_type": "jamba", "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 16,
               "mamba_expand": 2}),
    ("gpt-oss", {"model_type": "gpt_oss"}),
    ("minimax", {"model_type": "minimax_m2"}),
    ("mixtral", {"model_type": "mixtral"}),
    ("llama-3.2-11b-vision", {"model_type": "mllama_text_model", "vision_config": MLLAMA_VISION, "vocab_size": 128256,
                              "tie_word_embeddings": False}),
    ("llava-1.5", {"model_type": "llama", "vision_config": CLIP, "max_position_embeddings": 4096}),
    ("xverse-moe", {"model_type": "xverse", "num_experts": 64, "num_experts_per_tok": 6, "num_shared_experts": 2}),
    ("llama-4", {"model_type": "llama4_text", "attention_chunk_size": 8192, "vision_config": LLAMA4_VISION,
                 "intermediate_size_mlp": 16384}),
    ("opt-", {"model_type": "opt"}),
    ("phi-2", {"model_type": "phi", "intermediate_size": 10240}),
    ("chatglm", {"model_type": "chatglm"}),
)  # fmt: skip

FP8_BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def _packed(bits: int, group_size: int, kind: str = "int", ignore: tuple[str, ...] = ("lm_head",)) -> dict[str, Any]:
    scheme = {"num_bits": bits, "type": kind, "group_size": group_size or None, "symmetric": True,
              "strategy": "group" if group_size else "channel"}  # fmt: skip
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": scheme}},
            "ignore": list(ignore)}  # fmt: skip


EXPERTS_ONLY = ("lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp.(gate|up|down)_proj")
NEXT_KEPT = ("lm_head", "re:.*attn.*", "re:.*shared_expert.*", "re:.*mtp.*")

# How checkpoints are quantized whose rows do not say so, by the model's name: the first that is found.
QUANTIZED: tuple[tuple[str, dict[str, Any]], ...] = (
    # Meta's own: attention and the first and last layer are left as they were (modules_to_not_convert).
    (
        "405b-instruct-fp8",
        {
            "quant_method": "fbgemm_fp8",
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.0", "model.layers.125"],
        },
    ),
    (
        r"qwen3\.[5-9].*gptq",
        {
            "quant_method": "gptq",
            "bits": 4,
            "group_size": 128,
            "dynamic": {"-:.*attn.*": {}, "-:.*shared_expert.*": {}, "-:.*mtp.*": {}},
        },
    ),
    (r"qwen3\.[5-9].*nvfp4", _packed(4, 16, "float", ignore=("lm_head", "re:.*linear_attn.*", "re:.*mtp.*"))),
    (r"qwen3\.[5-9].*int4", _packed(4, 128, ignore=("lm_head", "re:.*mtp.*"))),
    ("qwen3-next.*awq", _packed(4, 32, ignore=NEXT_KEPT)),
    ("deepseek-v3|deepseek-r1(-0528)?$|minimax-m2|kimi-k2-instruct", FP8_BLOCKS),
    ("kimi-k2.5|kimi-k2-thinking", _packed(4, 32, ignore=EXPERTS_ONLY)),
    ("gpt-oss", {"quant_method": "mxfp4"}),
    ("nemotron-3-super.*nvfp4", {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}),
    ("nvfp4", _packed(4, 16, "float")),
    ("gemma-3.*fp8-dynamic|70b.*fp8|8b-instruct-fp8|distill.*fp8", _packed(8, 0, "float")),
    (r"fp8(-block)?$", FP8_BLOCKS),
    ("gptq-int8", {"quant_method": "gptq", "bits": 8, "group_size": 128}),
    ("a3b.*(gptq|awq)-4bit", _packed(4, 128)),
    ("gptq", {"quant_method": "gptq", "bits": 4, "group_size": 128}),
    ("awq", {"quant_method": "awq", "bits": 4, "group_size": 128}),
    ("w4a16|int4|4-bit", _packed(4, 128)),
    ("bnb-4bit", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
)

# What cases call a quantization.
WORDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("awq", {"quant_method": "awq", "bits": 4, "group_size": 128}),
    ("marlin", {"quant_method": "gptq", "bits": 4, "group_size": 128}),
    ("gptq.*8", {"quant_method": "gptq", "bits": 8, "group_size": 128}),
    ("gptq", {"quant_method": "gptq", "bits": 4, "group_size": 128}),
    ("bitsandbytes.*8", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    ("bitsandbytes", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    ("experts_int8", {"quant_method": "experts_int8"}),
    ("mxfp4", {"quant_method": "mxfp4"}),
    ("modelopt_mixed", {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}),
    ("nvfp4", _packed(4, 16, "float")),
    ("fp8", {"quant_method": "fp8"}),
    # bits per weight of llama.cpp's Q4_K_M, from the table in its tools/quantize/README.md
    ("q4_k_m", {"quant_method": "gguf", "bits": 4.89, "lm_head": True}),
    ("int4|w4a16", _packed(4, 128)),
)


def rows(name: str, path: Path | None = None) -> list[dict[str, Any]]:
    """The rows of `name` (cases, models, recipes), ours or those of another file in the same format."""
    text = (path or DATA / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def config_of_row(row: Mapping[str, Any], model: str = "", quantization: str = "") -> dict[str, Any]:
    """A row of models.jsonl as a config.json.

    `model` and `quantization` are what a case says it ran, where that is another checkpoint of the row's architecture.
    Raises ModelportError naming what the row lacks.
    """
    needed = ["num_hidden_layers", "hidden_size", "num_attention_heads"]
    kind, name = row.get("kv_kind"), str(row["model_id"])
    if kind in ("sliding_mix", "hybrid_mamba") and not row.get("hybrid_override_pattern"):
        needed.append("layer_types_summary")
    absent = [key for key in needed if row.get(key) is None]
    if absent:
        raise ModelportError(f"The row of {name!r} does not say {', '.join(absent)}.", param="model")
    config = {**_first(FAMILIES, name), **{key: value for key, value in row.items() if value is not None}}
    if kind == "full":
        config.pop("sliding_window", None)
    if (counts := row.get("layer_types_summary")) and not row.get("hybrid_override_pattern"):
        config["layer_types"] = _spread({kind: n for kind, n in counts.items() if n})
    if kind == "cross_mix":
        config["cross_attention_layers"] = list(range(3, int(row["num_hidden_layers"]), 5))  # 3, 8, 13, …
    declared = config.pop("quantization_config", None) or {}
    if set(declared) <= {"quant_method", "kv_cache_scheme"}:
        declared = _first(QUANTIZED, model or name) or _first(WORDS, quantization) or _first(QUANTIZED, name)
    if declared:
        config["quantization_config"] = declared
    return config


def _first(table: tuple[tuple[str, dict[str, Any]], ...], text: str) -> dict[str, Any]:
    return next((more for pattern, more in table if re.search(pattern, text, re.IGNORECASE)), {})


def _spread(counts: Mapping[str, int]) -> list[str]:
    """Layer types in an order that mixes them evenly; only how many there are of each matters."""
    places = [((i + 1) / (n + 1), kind) for kind, n in counts.items() for i in range(n)]
    return [kind for _, kind in sorted(places)]
