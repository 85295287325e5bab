"""Defaults: what the configuration classes of huggingface/transformers assume where a nested config says nothing.

`save_pretrained` writes of a nested config (`text_config`, `vision_config`) only what differs from its class, so Gemma
3 publishes no vocabulary and LLaVA 1.5 no layers; the outermost config is written in full and needs none of this.
From src/transformers/models/*/configuration_*.py, read out of the classes of 5.23; those that 4.57 has too have
the same numbers there.
"""

from collections.abc import Mapping
from typing import Any

# By `model_type`. Only what sizes are computed from; None of a class is left out.
CLASSES: dict[str, dict[str, Any]] = {
    # Language models.
    "llama": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048},
    "mistral": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "sliding_window": 4096},
    "gemma": {"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192},
    "gemma2": {"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192,
        "sliding_window": 4096},
    "gemma3_text": {"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
        "_sliding_window_pattern": 6, "sliding_window": 4096},
    "gemma3n_text": {"vocab_size": 262400, "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 35,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "max_position_embeddings": 32768,
        "hidden_size_per_layer_input": 256, "num_kv_shared_layers": 15, "sliding_window": 512,
        "vocab_size_per_layer_input": 262144},
    "gemma4_text": {"vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072,
        "hidden_size_per_layer_input": 256, "num_kv_shared_layers": 0, "sliding_window": 512,
        "vocab_size_per_layer_input": 262144},
    "qwen2": {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 32768,
        "max_window_layers": 28, "sliding_window": 4096, "use_sliding_window": False},
    "qwen3": {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 32768,
        "max_window_layers": 28, "sliding_window": 4096, "use_sliding_window": False},
    "qwen2_vl_text": {"vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 32768,
        "max_window_layers": 80, "sliding_window": 4096, "use_sliding_window": False},
    "qwen2_5_vl_text": {"vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "max_position_embeddings": 32768, "max_window_layers": 80, "sliding_window": 4096,
        "use_sliding_window": False},
    "qwen3_vl_text": {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 128000},
    "qwen3_vl_moe_text": {"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
        "max_position_embeddings": 128000, "decoder_sparse_step": 1, "moe_intermediate_size": 1408, "num_experts": 60,
        "num_experts_per_tok": 4},
    "qwen3_5_text": {"vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32,
        "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 32768,
        "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128},
    "qwen3_5_moe_text": {"vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "max_position_embeddings": 32768,
        "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
        "moe_intermediate_size": 512, "num_experts": 256, "num_experts_per_tok": 8,
        "shared_expert_intermediate_size": 512},
    "llama4_text": {"vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192, "num_hidden_layers": 48,
        "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
        "attention_chunk_size": 8192, "interleave_moe_layer_step": 1, "intermediate_size_mlp": 16384,
        "no_rope_layer_interval": 4, "num_experts_per_tok": 1, "num_local_experts": 16},
    "mllama_text_model": {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]},
    "cohere2": {"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528, "num_hidden_layers": 40,
        "num_attention_heads": 64, "max_position_embeddings": 8192, "sliding_window": 4096},
    "granite": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048},
    "glm4v_text": {"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 2, "max_position_embeddings": 32768},
    "glm4v_moe_text": {"vocab_size": 151424, "hidden_size": 4096, "intermediate_size": 10944, "num_hidden_layers": 46,
        "num_attention_heads": 96, "num_key_value_heads": 8, "max_position_embeddings": 65536,
        "first_k_dense_replace": 1, "moe_intermediate_size": 1408, "n_routed_experts": 128, "n_shared_experts": 1,
        "num_experts_per_tok": 8},
    "opt": {"vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "max_position_embeddings": 2048, "ffn_dim": 3072},
    # Vision towers.
    "clip_vision_model": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 32},
    "siglip_vision_model": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 16},
    "pixtral": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 16},
    "qwen2_vl_vision": {"hidden_size": 3584, "embed_dim": 1280, "mlp_ratio": 4, "depth": 32, "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2},
    "qwen2_5_vl_vision": {"hidden_size": 3584, "intermediate_size": 3420, "depth": 32, "out_hidden_size": 3584,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2},
    "qwen3_vl_vision": {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "out_hidden_size": 3584,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "deepstack_visual_indexes": [8, 16, 24]},
    "qwen3_vl_moe_vision": {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "out_hidden_size": 3584,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "deepstack_visual_indexes": [8, 16, 24]},
    "qwen3_5_vision": {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "out_hidden_size": 3584,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2},
    "qwen3_5_moe_vision": {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "out_hidden_size": 3584,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2},
    "idefics2_vision": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 32},
    "idefics3_vision": {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 32},
    "smolvlm_vision": {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 32},
    "mllama_vision_model": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
        "image_size": 448, "max_num_tiles": 4, "num_global_layers": 8, "patch_size": 14,
        "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
        "vision_output_dim": 7680},
    "llama4_vision_model": {"hidden_size": 768, "intermediate_size": 5632, "num_hidden_layers": 34, "patch_size": 14,
        "vision_output_dim": 7680},
    "gemma4_vision": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16, "patch_size": 16,
        "position_embedding_size": 10240},
    "internvl_vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "patch_size": [14, 14]},
    # Audio towers.
    "qwen2_audio_encoder": {"d_model": 1280, "encoder_ffn_dim": 5120, "encoder_layers": 32},
    "voxtral_encoder": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32},
}  # fmt: skip

# The classes of a model's parts, for parts that do not say their own `model_type`.
PARTS: dict[str, dict[str, str]] = {
    "aya_vision": {"text_config": "cohere2", "vision_config": "siglip_vision_model"},
    "blip-2": {"text_config": "opt"},
    "cohere2_vision": {"text_config": "cohere2", "vision_config": "siglip_vision_model"},
    "gemma3": {"text_config": "gemma3_text", "vision_config": "siglip_vision_model"},
    "gemma3n": {"text_config": "gemma3n_text"},
    "gemma4": {"text_config": "gemma4_text"},
    "glm46v": {"text_config": "glm4v_text"},
    "glm4v": {"text_config": "glm4v_text"},
    "glm4v_moe": {"text_config": "glm4v_moe_text"},
    "granite_speech": {"text_config": "granite"},
    "idefics2": {"text_config": "mistral", "vision_config": "idefics2_vision"},
    "idefics3": {"text_config": "llama", "vision_config": "idefics3_vision"},
    "instructblip": {"text_config": "opt"},
    "internvl": {"text_config": "qwen2", "vision_config": "internvl_vision"},
    "lighton_ocr": {"text_config": "qwen3", "vision_config": "pixtral"},
    "llama4": {"text_config": "llama4_text", "vision_config": "llama4_vision_model"},
    "llava": {"text_config": "llama", "vision_config": "clip_vision_model"},
    "llava_next": {"text_config": "llama", "vision_config": "clip_vision_model"},
    "llava_next_video": {"text_config": "llama", "vision_config": "clip_vision_model"},
    "llava_onevision": {"text_config": "qwen2", "vision_config": "siglip_vision_model"},
    "mistral3": {"text_config": "mistral", "vision_config": "pixtral"},
    "mllama": {"text_config": "mllama_text_model", "vision_config": "mllama_vision_model"},
    "paligemma": {"text_config": "gemma", "vision_config": "siglip_vision_model"},
    "qwen2_5_vl": {"text_config": "qwen2_5_vl_text", "vision_config": "qwen2_5_vl_vision"},
    "qwen2_audio": {"audio_config": "qwen2_audio_encoder", "text_config": "qwen2"},
    "qwen2_vl": {"text_config": "qwen2_vl_text", "vision_config": "qwen2_vl_vision"},
    "qwen3_5": {"text_config": "qwen3_5_text", "vision_config": "qwen3_5_vision"},
    "qwen3_5_moe": {"text_config": "qwen3_5_moe_text", "vision_config": "qwen3_5_moe_vision"},
    "qwen3_vl": {"text_config": "qwen3_vl_text", "vision_config": "qwen3_vl_vision"},
    "qwen3_vl_moe": {"text_config": "qwen3_vl_moe_text", "vision_config": "qwen3_vl_moe_vision"},
    "shieldgemma2": {"text_config": "gemma3_text", "vision_config": "siglip_vision_model"},
    "smolvlm": {"text_config": "llama", "vision_config": "smolvlm_vision"},
    "video_llava": {"text_config": "llama", "vision_config": "clip_vision_model"},
    "vipllava": {"text_config": "llama", "vision_config": "clip_vision_model"},
    "voxtral": {"audio_config": "voxtral_encoder", "text_config": "llama"},
}  # fmt: skip


def class_of(outer: str, key: str, said: str) -> str:
    """`model_type` of the part at `key` of a model of the type `outer`, where the part calls itself `said`.

    Early Qwen2-VL checkpoints give the whole model's type to its tower.
    """
    own = PARTS.get(outer, {}).get(key, "")
    return own if own and said in ("", outer) else said


def assumed(kind: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """What the class of `kind` adds to what a nested `part` says, with `model_type`. A null that is said stays said."""
    of_class = {"model_type": kind, **CLASSES.get(kind, {})} if kind else {}
    return {key: value for key, value in of_class.items() if key not in part}
