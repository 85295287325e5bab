"""Families: what a model type implies that its config.json leaves unsaid.

From the configuration and modelling files of huggingface/transformers (src/transformers/models) and vllm-project/vllm
(vllm/model_executor/models): a key at its class's default is not written to config.json.
"""

# Embeddings and output head are one matrix although `tie_word_embeddings` is absent.
TIED = frozenset({
    "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text",
    "gemma4_unified", "gpt2", "gpt_bigcode", "opt", "bloom", "cohere", "cohere2", "falcon", "mpt", "starcoder2",
    "recurrent_gemma", "bert", "roberta", "xlm-roberta",
})  # fmt: skip

# The feed-forward part is up and down only; all others have a gate beside up.
UNGATED = frozenset({
    "opt", "apertus", "arcee", "gpt2", "gpt_neo", "gptj", "gpt_neox", "gpt_bigcode", "bloom", "falcon", "mpt", "phi",
    "codegen", "starcoder2", "nemotron", "nemotron_h", "bert", "roberta", "xlm-roberta", "persimmon", "fuyu", "biogpt",
    "xglm",
})  # fmt: skip

# Vision towers whose feed-forward part has a gate (Qwen2_5_VLMLP, PixtralMLP, Gemma4VisionMLP). The 32B and 72B
# Qwen2.5-VL give the whole model's type to their tower.
GATED_TOWERS = frozenset({"qwen2_5_vl", "qwen2_5_vl_vision", "pixtral", "gemma4_vision"})

# Models whose tower's output passes two matrices, the second square (LlavaMultiModalProjector: linear_1, linear_2).
TWO_LAYER_PROJECTORS = frozenset({"llava", "llava_next", "llava_next_video", "llava_onevision", "vipllava", "mistral3"})

# `intermediate_size` counts gate and up together (Qwen 1; modeling_qwen.py: w1 and w2 of half of it each).
HALVED = frozenset({"qwen"})

# One key and value head for all when `multi_query` is true and the config gives no number.
MULTI_QUERY = frozenset({"falcon", "RefinedWebModel", "gpt_bigcode"})

# Every other layer, starting with the first, sees a window only (Gemma2Config, GptOssConfig: (i + 1) % 2).
ALTERNATING = {"gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "gemma3n_text": 5}

# Attention queries carry an output gate of the same size (Qwen3NextAttention: q_proj is twice as wide).
GATED_QUERIES = frozenset({
    "qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_6", "qwen3_6_moe", "qwen3_8",
    "qwen3_8_moe",
})  # fmt: skip

# Multi-token prediction layers are stored with embeddings and head of their own, the same ones once more.
DRAFT_COPIES = frozenset({"deepseek_v3", "deepseek_v32"})

# The recurrent state is float32 although the config does not say so (vLLM's kda_state_dtype).
FLOAT32_STATE = frozenset({"kimi_linear"})

# They read all tokens at once and keep none.
ENCODERS = frozenset({
    "bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "nomic_bert", "new", "gte", "mpnet", "electra",
    "deberta", "deberta-v2", "camembert", "albert", "jina_bert", "jina_bert_v2", "snowflake_arctic",
    "gemma3_text_encoder", "eurobert", "t5_encoder",
})  # fmt: skip

# Class names in `architectures` end so when the model makes vectors or labels, not text.
EMBEDDING_CLASSES = (
    "EmbeddingModel", "ForSequenceClassification", "ForTokenClassification", "ForRewardModel", "RewardModel",
    "ForEmbedding", "ForTextEncoding", "ForRetrieval",
)  # fmt: skip

# Attention whose cache cannot be told from the config's sizes.
UNKNOWN_CACHE = {
    "zamba2": "its attention blocks are shared between layers",
    "deepseek_v4": "its compressed sparse attention keeps several caches whose sizes the config does not give",
}

# bytes of one element as `torch_dtype` names it
DTYPE_BYTES = {"float64": 8, "float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2, "float8_e4m3fn": 1}


# Language models whose arithmetic is held by tests against published files or against transformers' own modules.
KNOWN = frozenset({
    "apertus", "arcee", "biogpt", "bloom", "chatglm", "codegen", "cohere", "cohere2", "deepseek_v2", "deepseek_v3",
    "deepseek_v32", "ernie4_5", "ernie4_5_moe", "exaone4", "falcon", "falcon_h1", "flex_olmo", "gemma", "gemma2",
    "gemma3_text", "gemma3n_text", "gemma4_text", "glm4", "glm4_moe", "glm4v_moe", "glm4v_moe_text", "glm_moe_dsa",
    "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "granitemoehybrid",
    "helium", "jamba", "kimi_k2", "kimi_linear", "lfm2", "llama", "llama4_text", "minimax", "minimax_m2", "mistral",
    "mixtral", "mllama_text_model", "mpt", "nemotron_h", "olmo2", "olmoe", "opt", "persimmon", "phi", "phi3", "phimoe",
    "qwen2", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_audio", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen3",
    "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "qwen3_vl_moe", "qwen3_vl_moe_text",
    "qwen3_vl_text", "seed_oss", "smollm3", "stablelm", "starcoder2", "xverse",
})  # fmt: skip


def known(model_type: str) -> bool:
    """Whether the arithmetic was checked for this `model_type` of a language model; else its sizes are what a plain
    transformer with the same keys would have. No encoder was checked."""
    return model_type in KNOWN


def tied_by_default(kind: str, hidden_size: int) -> bool:
    """Whether embeddings and head are one matrix where the config does not say so.

    Small Qwen models tie (Qwen2.5 up to 3B, Qwen3 up to 4B), large ones do not.
    """
    if kind in ("qwen2", "qwen2_5"):
        return hidden_size <= 2048
    if kind == "qwen3":
        return hidden_size <= 2560
    return kind in TIED
