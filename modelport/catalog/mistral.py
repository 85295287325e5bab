"""Mistral's own params.json, as older checkpoints of theirs carry instead of a config.json."""

from collections.abc import Mapping
from typing import Any

from modelport.errors import ModelportError

# params.json: config.json (vLLM translates the same ones in transformers_utils/configs/mistral.py).
_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "sliding_window": "sliding_window",
    "tied_embeddings": "tie_word_embeddings",
}
_CONTEXT = ("max_position_embeddings", "max_seq_len", "model_max_length")


def config_of_params(source: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The same facts under config.json's names. Raises ModelportError for one that is not Mistral's."""
    if "dim" not in params or "n_layers" not in params:
        raise ModelportError(f"{source!r} has no config.json, and its params.json is not Mistral's.", param="model")
    config: dict[str, Any] = {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "torch_dtype": "bfloat16",
    }
    config["tie_word_embeddings"] = False
    config |= {name: params[key] for key, name in _NAMES.items() if params.get(key) is not None}
    if context := next((params[key] for key in _CONTEXT if params.get(key)), None):
        config["max_position_embeddings"] = context
    if isinstance(moe := params.get("moe"), dict):
        config |= {
            "model_type": "mixtral",
            "architectures": ["MixtralForCausalLM"],
            "num_local_experts": moe.get("num_experts"),
            "num_experts_per_tok": moe.get("num_experts_per_tok"),
        }
    return config
