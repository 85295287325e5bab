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


def tied_by_default(kind: str, hidden_size: int) -> bool:
    """Whether embeddings and head are one matrix where the config does not say so.

    Small Qwen models tie (Qwen2.5 up to 3B, Qwen3 up to 4B), large ones do not.
    """
    if kind in ("qwen2", "qwen2_5"):
        return hidden_size <= 2048
    if kind == "qwen3":
        return hidden_size <= 2560
    return kind in TIED
