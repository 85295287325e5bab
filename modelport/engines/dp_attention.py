"""SGLang's dp-attention: attention in copies, one a GPU, whose experts all GPUs share out.

A model needs attention written for it: heads counted by the GPUs of one copy, and hidden states gathered before the
experts (sglang/srt/layers/communicator.py). Read from sglang/srt/models of 0.5.6 and 0.5.23; what a version between
them has is not known, so `since` is the newer where only that one has it.
"""

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Split
from modelport.engines.flags import ALWAYS, Range
from modelport.errors import ModelportError

_NEWER = Range(since="0.5.23")

MODELS: dict[str, Range] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "longcat_flash"), ALWAYS),
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_vl_moe"), ALWAYS),
    **dict.fromkeys(("glm4_moe", "glm4v_moe", "gpt_oss", "llama4", "llada2_moe", "step3"), ALWAYS),
    **dict.fromkeys(("bailing_moe", "bailing_moe_v2"), ALWAYS),
    **dict.fromkeys(("deepseek_v4", "glm_moe_dsa", "glm4_moe_lite", "qwen3_5_moe", "exaone_moe"), _NEWER),
    **dict.fromkeys(("mimo_v2_flash", "minimax_m2", "nemotron_h", "sdar_moe", "step3p5"), _NEWER),
}
"""Model types, without the `_text` that language models inside others have."""


def shares_experts(split: Split) -> bool:
    """Whether a Split is dp-attention: copies of one GPU each, and experts over all of them."""
    return split.data > 1 and split.tensor == 1 and split.expert == split.data


def must_have(facts: ModelFacts, split: Split, version: str) -> None:
    """Raises ModelportError for copies whose experts are shared out in a way that SGLang, or its version of this model,
    does not do."""
    if split.data == 1 or split.expert == 1:
        return
    if not shares_experts(split):
        raise ModelportError(
            f"sglang shares experts out over copies of one GPU each, and over all of them, which expert_parallel "
            f"{split.expert} with data_parallel {split.data} is not: set both to the number of GPUs and leave "
            "tensor_parallel out, or leave expert_parallel out.",
            param="expert_parallel",
        )
    kind = facts.architecture.removesuffix("_text")
    if kind not in MODELS or not MODELS[kind].holds(version):
        raise ModelportError(
            f"sglang {version} is not known to share experts out over copies (--enable-dp-attention) for "
            f"{facts.architecture} models: leave expert_parallel or data_parallel out.",
            param="expert_parallel",
        )
