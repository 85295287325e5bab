"""A config.json becomes facts: sizes as real checkpoints have them, caches as engines allocate them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bench.truth import GIB, config_of_row, rows
from modelport.catalog.config import facts_of_config
from modelport.catalog.defaults import CLASSES, PARTS
from modelport.catalog.families import KNOWN, known
from modelport.catalog.tensors import Tensor, group_of
from modelport.domain.facts import Cache
from modelport.errors import ModelportError

MODELS = {row["model_id"]: row for row in rows("models")}
# Files that are counted twice in the row (the repository holds the same weights in another form).
TWICE = {"openai/gpt-oss-120b", "openai/gpt-oss-20b"}
# Only the files' total is known beside few sizes, so there is nothing to hold it against.
NO_WIDTH = {
    "deepseek-ai/DeepSeek-V4-Pro", "google/gemma-4-12B-it", "mistralai/Mistral-Large-3-675B-Instruct-2512",
    "mistralai/Mistral-Medium-3.5-128B", "mistralai/Mistral-Small-4-119B-2603",
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16",
}  # fmt: skip
MEASURED = sorted(name for name, row in MODELS.items() if row["safetensors_gib"] and name not in TWICE | NO_WIDTH)
KEPT = sorted(name for name, row in MODELS.items() if row["kv_bytes_per_token_16bit_tp1"] and name not in NO_WIDTH)
# Quantized by a list of layers that the row does not have.
LISTED = {"Qwen/Qwen3.5-122B-A10B-GPTQ-Int4": 0.04}
# The sizes that published configs say (or only the classes' names, where there is no org), with what transformers 5.19 makes of them:
# AutoModelForImageTextToText on the meta device, every parameter counted.
PUBLISHED = [json.loads(line) for line in (Path(__file__).parent / "published.jsonl").read_text().splitlines()]
ARCHITECTURES = [json.loads(line) for line in (Path(__file__).parent / "architectures.jsonl").read_text().splitlines()]

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
# One layer in four attends fully, the others are gated delta nets; the numbers are Qwen3-Next-80B-A3B's.
NEXT: dict[str, Any] = {
    "model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 5120, "num_hidden_layers": 48,
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 151936, "num_experts": 512,
    "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
    "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32, "linear_value_head_dim": 128, "tie_word_embeddings": False,
}  # fmt: skip
DEEPSEEK: dict[str, Any] = config_of_row(MODELS["deepseek-ai/DeepSeek-R1"])


def facts(config: dict[str, Any], **more: Any):
    return facts_of_config("org/name", config, **more)


def llama(**changes: Any):
    return facts({**LLAMA, **changes})


@pytest.mark.parametrize("name", MEASURED)
def test_computed_bytes_are_those_of_the_published_files(name: str) -> None:
    row = MODELS[name]
    computed = facts_of_config(name, config_of_row(row)).weight_bytes / GIB
    assert computed == pytest.approx(row["safetensors_gib"], rel=LISTED.get(name, 0.01))


@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row["config"]["model_type"])
def test_computed_parameters_are_those_that_transformers_makes(row: dict[str, Any]) -> None:
    # Counted by transformers 5.19 for each family's default config (AutoModelForCausalLM on the meta device).
    slack = {"gemma3n_text": 0.01, "gemma4_text": 0.002}.get(row["config"]["model_type"], 0.005)
    if row["config"]["model_type"] == "kimi_linear":
        slack = 0.04  # transformers makes the first layer dense by a list that its config does not hold
    assert facts(row["config"]).parameters == pytest.approx(row["parameters"], rel=slack)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])
def test_what_a_published_config_leaves_to_its_class_is_filled_in(row: dict[str, Any]) -> None:
    found = facts_of_config(row["name"], row["config"])
    slack = {"glm4v_moe": 0.01, "internvl": 0.003, "idefics3": 0.003}.get(row["name"], 0.0015)  # towers' own extras
    assert found.parameters == pytest.approx(row["parameters"], rel=slack)
    assert found.context_tokens == row["context"]
    assert known(found.architecture)


@pytest.mark.parametrize("key", ["text_config", "vision_config"])
def test_a_part_that_says_nothing_of_its_class_is_of_the_class_its_model_has(key: str) -> None:
    row = next(row for row in PUBLISHED if row["name"] == "google/gemma-3-4b-it")
    part = {name: value for name, value in row["config"][key].items() if name != "model_type"}
    assert facts({**row["config"], key: part}) == facts(row["config"])


def test_a_tower_that_gives_the_whole_models_type_is_computed_as_its_own() -> None:
    row = next(row for row in PUBLISHED if row["name"] == "Qwen/Qwen2.5-VL-7B-Instruct")
    named = {**row["config"]["vision_config"], "model_type": "qwen2_5_vl"}
    assert facts({**row["config"], "vision_config": named}) == facts(row["config"])


def test_a_null_is_an_answer_that_no_class_overrules() -> None:
    text = {"model_type": "mistral", "num_key_value_heads": None}
    config = {"model_type": "llava_next", "text_config": text, "tie_word_embeddings": False}
    assert facts(config).caches == (Cache("sliding", 32, 32, 128, 128, window_tokens=4096),)
    whole = facts({**config, "text_config": {**text, "sliding_window": None}})
    assert whole.caches == (Cache("full", 32, 32, 128, 128),)


def test_the_class_of_a_part_goes_before_what_the_whole_says() -> None:
    # transformers never looks for a part's sizes above it.
    config = {"model_type": "paligemma", "hidden_size": 2048, "vocab_size": 1, "text_config": {}}
    found = facts(config)
    assert (found.embedding_size, found.vocabulary, found.architecture) == (3072, 256000, "gemma")


def test_a_part_of_no_known_class_is_not_filled_in() -> None:
    with pytest.raises(ModelportError, match="does not say num_hidden_layers"):
        facts({"model_type": "frobnicator", "text_config": {"model_type": "frobnicator_text", "hidden_size": 64}})
    assert not any(g.name == "vision" for g in llama(vision_config={}).weights)


def test_every_part_in_the_table_has_a_class_in_it() -> None:
    assert {kind for parts in PARTS.values() for kind in parts.values()} <= CLASSES.keys()


@pytest.mark.parametrize("kind", ["whisper", "t5", "bart"])
def test_an_encoder_decoder_model_is_refused_by_name(kind: str) -> None:
    # Whisper's own keys: d_model, encoder_layers, decoder_layers; no heads by the usual name.
    config = {"model_type": kind, "is_encoder_decoder": True, "d_model": 1280, "num_hidden_layers": 32,
              "encoder_layers": 32, "decoder_layers": 32, "vocab_size": 51866}  # fmt: skip
    with pytest.raises(ModelportError, match=rf"encoder-decoder model \({kind}\)"):
        facts(config)


def test_families_that_no_test_computes_are_not_called_known() -> None:
    rows_ = [config_of_row(MODELS[name]) for name in {*MEASURED, *KEPT, *TWICE}]
    configs = [*rows_, *(row["config"] for row in (*ARCHITECTURES, *PUBLISHED))]
    assert {facts(config).architecture for config in configs} - {"unknown"} == KNOWN
    assert not any(known(kind) for kind in ("frobnicator", "", "bert"))


@pytest.mark.parametrize("name", KEPT)
def test_keys_and_values_of_a_token_are_as_the_rows_say(name: str) -> None:
    row = MODELS[name]
    assert facts_of_config(name, config_of_row(row)).kv_bytes_per_token == row["kv_bytes_per_token_16bit_tp1"]


def test_a_dense_model_is_told_in_groups_that_add_up() -> None:
    found = llama()
    assert {(g.name, g.sharding, g.layers) for g in found.weights} == {
        ("embeddings", "tensor", 0), ("head", "tensor", 0), ("attention", "tensor", 32),
        ("key_value", "key_value", 32), ("mlp", "tensor", 32), ("norms", "none", 32),
    }  # fmt: skip
    assert sum(g.bytes for g in found.weights) == found.weight_bytes
    assert found.parameters == 8_030_261_248  # Llama-3.1-8B
    assert (found.precision, found.format, found.dtype, found.quantization) == ("computed", "config") + (
        "bfloat16",
    ) * 2
    assert found.active_parameters == found.parameters - 128256 * 4096


def test_latent_attention_keeps_one_vector_and_replicates_its_down_projections() -> None:
    found = facts({**DEEPSEEK, "index_head_dim": 128, "index_n_heads": 64})
    assert found.caches == (Cache("mla", 61, 1, 576, 0, extra_bytes=132),)
    kept = {(g.name, g.sharding) for g in found.weights}
    assert {("attention", "none"), ("experts", "expert"), ("shared_experts", "tensor"), ("draft", "tensor")} <= kept
    assert not any(g.sharding == "key_value" for g in found.weights)
    assert next(g.layers for g in found.weights if g.name == "experts") == 58
    assert found.active_parameters == pytest.approx(37e9, rel=0.02)  # as published


def test_delta_nets_keep_a_state_of_their_convolution_and_their_heads() -> None:
    full, state = facts(NEXT).caches
    assert full == Cache("full", 12, 2, 256, 256)
    assert state.layers == 36
    assert state.state_bytes == 3 * (2 * 16 * 128 + 32 * 128) * 2 + 32 * 128 * 128 * 2
    wider = facts({**NEXT, "mamba_ssm_dtype": "float32"}).caches[1]
    assert wider.state_bytes - state.state_bytes == 32 * 128 * 128 * 2


@pytest.mark.parametrize(
    ("changes", "caches"),
    [
        ({}, [("full", 32, 0)]),
        ({"sliding_window": 4096}, [("sliding", 32, 4096)]),  # Mistral 0.1
        ({"sliding_window": 4096, "use_sliding_window": False}, [("full", 32, 0)]),
        ({"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 28},
         [("full", 28, 0), ("sliding", 4, 4096)]),
        ({"sliding_window": 131072}, [("full", 32, 0)]),  # no shorter than the context
        ({"sliding_window": 1024, "sliding_window_pattern": 4}, [("full", 8, 0), ("sliding", 24, 1024)]),
        ({"sliding_window": 1024, "sliding_window_pattern": "LLLG"}, [("full", 8, 0), ("sliding", 24, 1024)]),
        ({"sliding_window": 1024, "model_type": "gemma3_text"}, [("full", 5, 0), ("sliding", 27, 1024)]),
        ({"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 16},
         [("full", 16, 0), ("sliding", 16, 128)]),
        ({"layer_types": ["sliding_attention", "full_attention"] * 16}, [("full", 32, 0)]),  # no window is said
        ({"attention_chunk_size": 8192}, [("full", 8, 0), ("chunked", 24, 8192)]),
        ({"attention_chunk_size": 8192, "no_rope_layers": [1, 0] * 16}, [("full", 16, 0), ("chunked", 16, 8192)]),
        ({"cross_attention_layers": [3, 8, 13]}, [("full", 29, 0), ("cross", 3, 0)]),
        ({"num_kv_shared_layers": 10}, [("full", 22, 0)]),
    ],
)  # fmt: skip
def test_each_layer_keeps_what_its_kind_keeps(changes: dict[str, Any], caches: list[tuple[str, int, int]]) -> None:
    assert [(c.kind, c.layers, c.window_tokens) for c in llama(**changes).caches] == caches


def test_layers_that_attend_fully_may_have_heads_of_their_own() -> None:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    changes = {"num_global_key_value_heads": 2, "global_head_dim": 512, "head_dim": 256, "num_hidden_layers": 6}
    full, sliding = llama(**changes, layer_types=kinds, sliding_window=1024).caches
    assert (full.heads, full.key_size, sliding.heads, sliding.key_size) == (2, 512, 8, 256)


def test_a_language_model_inside_of_another_is_found_with_its_tower() -> None:
    vision = {"hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304, "patch_size": 14}
    found = facts({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
                   "text_config": {**LLAMA, "tie_word_embeddings": None}, "tie_word_embeddings": True,
                   "vision_config": vision, "video_token_id": 7})  # fmt: skip
    assert found.inputs == ("text", "image", "video")
    assert (found.layers, found.tied_embeddings, found.architecture) == (32, True, "llama")
    assert next(g.parameters for g in found.weights if g.name == "vision") == pytest.approx(0.42e9, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "context", "words"),
    [
        ({}, 131072, ""),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072, "llama3 x8"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}, "max_position_embeddings": 4096}, 16384, "linear x4"),
        ({"rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
          "max_position_embeddings": 163840}, 163840, "yarn x40"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
          "max_position_embeddings": 32768}, 131072, "yarn x4"),
        ({"rope_scaling": {"type": "longrope"}}, 131072, "longrope"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2}}, "model_type": "gemma3_text"},
         131072, "linear x2"),
        ({"max_position_embeddings": None}, 0, ""),
        ({"max_position_embeddings": None, "seq_length": 8192}, 8192, ""),
    ],
)  # fmt: skip
def test_the_context_is_what_engines_derive(changes: dict[str, Any], context: int, words: str) -> None:
    found = llama(**changes)
    assert (found.context_tokens, found.rope_scaling) == (context, words)


PACKED = {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True, "strategy": "group"}
NVFP4 = {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group"}


@pytest.mark.parametrize(
    ("declared", "said", "weight_bytes"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, ("awq", 4, 128), 0.5 + 2.5 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, ("gptq", 8, 0), 1),
        ({"quant_method": "fp8"}, ("fp8", 8, 0), 1),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("fp8", 8, 128), 1 + 4 / 128**2),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("bitsandbytes", 4, 64), 0.5 + 4 / 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("bitsandbytes", 8, 0), 1),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": PACKED}}, "ignore": ["lm_head"]},
         ("compressed-tensors", 4, 32), 0.5 + 2 / 32),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": NVFP4}}, "ignore": ["lm_head"]},
         ("compressed-tensors", 4, 16), 0.5 + 1 / 16),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ("modelopt", 4, 16), 0.5 + 1 / 16),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, ("modelopt", 8, 0), 1),
        ({"quant_algo": "FP8"}, ("modelopt", 8, 0), 1),
    ],
)  # fmt: skip
def test_quantized_weights_take_their_bits_and_scales(
    declared: dict[str, Any], said: tuple[str, float, int], weight_bytes: float
) -> None:
    found = llama(quantization_config=declared)
    assert found.quantized
    assert (found.quantized.method, found.quantized.bits, found.quantized.group_size) == said
    groups = {g.name: g for g in found.weights}
    assert groups["mlp"].bytes == pytest.approx(groups["mlp"].parameters * weight_bytes, abs=1)
    for plain in ("embeddings", "head", "norms"):
        assert groups[plain].bytes == 2 * groups[plain].parameters


@pytest.mark.parametrize(
    "ignored",
    [
        {"modules_to_not_convert": ["self_attn"]},
        {"modules_to_not_convert": ["model.layers.*.self_attn"]},
        {"ignore": ["re:.*self_attn.*"]},
        {"ignore": ["re:.*(q|k|v|o)_proj$"]},
        {"ignore": [f"model.layers.{i}.self_attn.{p}_proj" for i in range(32) for p in "qkvo"]},
        {"dynamic": {"-:.*attn.*": {}}},
    ],
)
def test_what_is_left_out_of_quantization_keeps_its_bytes(ignored: dict[str, Any]) -> None:
    groups = {g.name: g for g in llama(quantization_config={"quant_method": "fp8", **ignored}).weights}
    assert groups["attention"].bytes == 2 * groups["attention"].parameters
    assert groups["key_value"].bytes == 2 * groups["key_value"].parameters
    assert groups["mlp"].bytes == groups["mlp"].parameters


def test_a_word_of_an_ignore_list_does_not_match_inside_of_another() -> None:
    # MiniMax leaves `gate`, the router, as it was; `gate_proj` is quantized.
    groups = {
        g.name: g
        for g in llama(quantization_config={"quant_method": "fp8", "modules_to_not_convert": ["gate"]}).weights
    }
    assert groups["mlp"].bytes == groups["mlp"].parameters


def test_a_hostile_ignore_list_takes_no_time() -> None:
    started = time.perf_counter()
    for ignored in (["*a" * 149] * 50_000, [f"re:({'a|' * 40}b)" * 3 + str(i) for i in range(20_000)],
                    ["re:(a+)+$" * 20] * 20_000, [f"*{i}*" for i in range(50_000)]):  # fmt: skip
        assert llama(quantization_config={"quant_method": "fp8", "ignore": ignored}).quantized
    assert time.perf_counter() - started < 60  # a hang, not a slow machine


def test_patterns_that_are_spelled_out_without_end_are_refused() -> None:
    ignored = [f"re:m{n}.({'|'.join(f'{i}' for i in range(64))})" for n in range(1000)]
    with pytest.raises(ModelportError, match="list of modules not quantized is more than 10,000 names"):
        llama(quantization_config={"quant_method": "fp8", "ignore": ignored})


def test_a_long_plain_list_of_what_is_not_quantized_is_taken_whole() -> None:
    ignored = [f"model.layers.{n % 32}.self_attn.{kind}_proj" for n in range(20_000) for kind in "qo"]
    half = llama(quantization_config={"quant_method": "fp8", "ignore": ignored})
    groups = {group.name: group for group in half.weights}
    assert groups["attention"].bytes == 2 * groups["attention"].parameters
    assert groups["mlp"].bytes == groups["mlp"].parameters


@pytest.mark.parametrize("value", [5, "1", {"a": 1}, True])
def test_layers_of_the_wrong_type_are_a_sentence(value: object) -> None:
    with pytest.raises(ModelportError, match=r"linear_attn_config.full_attn_layers is .*, not a list"):
        llama(linear_attn_config={"full_attn_layers": value})


def test_more_experts_per_token_than_there_are_is_a_sentence() -> None:
    with pytest.raises(ModelportError, match="num_experts_per_tok is 900 of 8 experts"):
        llama(num_local_experts=8, num_experts_per_tok=900)


WRONG: tuple[object, ...] = (
    5,
    -1,
    2.5,
    "x",
    "",
    True,
    [],
    [1],
    ["x"],
    [[1]],
    {},
    {"a": 1},
    {"full_attention": 5},
    [{}],
)


@pytest.mark.parametrize("model", ["deepseek-ai/DeepSeek-R1", "google/gemma-3-27b-it", "openai/gpt-oss-20b"])
def test_a_value_of_the_wrong_type_is_a_sentence_or_an_answer(model: str) -> None:
    config = config_of_row(MODELS[model])
    keys = {*config, *NEXT, "layer_types", "rope_scaling", "quantization_config", "linear_attn_config", "moe_layer_freq",
            "text_config", "vision_config", "architectures", "sliding_window_pattern", "per_layer_config", "attn_config",
            "ffn_config", "mlp_layer_types", "moe_layers", "layers_block_type", "hybrid_override_pattern",
            "attn_layer_period", "expert_layer_period", "mamba_dt_rank", "audio_config", "dtype"}  # fmt: skip
    for key in sorted(keys):
        for value in WRONG:
            try:
                facts({**config, key: value})
            except ModelportError as error:
                assert error.message.endswith(".")


def test_mxfp4_is_for_experts_only() -> None:
    found = facts(config_of_row(MODELS["openai/gpt-oss-20b"]))
    groups = {g.name: g for g in found.weights if g.sharding != "none"}
    assert groups["experts"].bytes == pytest.approx(groups["experts"].parameters * 4.25 / 8, rel=1e-6)
    assert groups["attention"].bytes == 2 * groups["attention"].parameters
    assert found.active_parameters == pytest.approx(3.6e9, rel=0.01)  # as published


def test_the_files_total_scales_what_was_computed() -> None:
    half = facts(LLAMA, total_bytes=llama().weight_bytes // 2)
    assert half.precision == "total" and half.weight_bytes == pytest.approx(llama().weight_bytes / 2, abs=10)


def test_a_width_that_is_not_said_is_what_remains_of_the_total() -> None:
    whole = llama()
    found = facts({**LLAMA, "intermediate_size": None}, total_bytes=whole.weight_bytes)
    assert {g.name: g.bytes for g in found.weights}["mlp"] == {g.name: g.bytes for g in whole.weights}["mlp"]


@pytest.mark.parametrize(
    "key", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size"]
)
def test_a_config_that_says_too_little_names_what_is_missing(key: str) -> None:
    with pytest.raises(ModelportError, match=f"does not say {key}"):
        llama(**{key: None})


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**6}, {"hidden_size": -1}, {"hidden_size": "4096"}, {"hidden_size": True},
        {"vocab_size": 1.5}, {"layer_types": ["full_attention"]}, {"layer_types": ["magic"] * 32},
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_a_sentence_that_names_its_key(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelportError, match=next(iter(changes))):
        llama(**changes)


def test_a_cache_that_configs_do_not_give_is_not_guessed() -> None:
    with pytest.raises(ModelportError, match="compressed sparse attention"):
        llama(model_type="deepseek_v4")


@pytest.mark.parametrize(
    ("classes", "kind", "task"),
    [
        (["LlamaForCausalLM"], "llama", "generate"),
        (["Qwen2ForSequenceClassification"], "qwen2", "embed"),
        (["LlamaEmbeddingModel"], "llama", "embed"),
        (["BertModel"], "bert", "embed"),
        ([], "llama", "generate"),
    ],
)
def test_the_task_is_that_of_the_class(classes: list[str], kind: str, task: str) -> None:
    found = llama(architectures=classes, model_type=kind)
    assert found.task == task and (not found.caches) == (kind == "bert")


@pytest.mark.parametrize(
    ("name", "group", "sharding"),
    [
        ("model.embed_tokens.weight", "embeddings", "tensor"),
        ("lm_head.weight", "head", "tensor"),
        ("model.norm.weight", "norms", "none"),
        ("model.layers.3.self_attn.q_norm.weight", "norms", "none"),
        ("model.layers.3.self_attn.q_proj.weight", "attention", "tensor"),
        ("model.layers.3.self_attn.k_proj.qweight", "key_value", "key_value"),
        ("model.language_model.layers.3.self_attn.v_proj.weight", "key_value", "key_value"),
        ("model.layers.3.self_attn.q_a_proj.weight", "latent", "none"),
        ("model.layers.3.self_attn.q_b_proj.weight", "attention", "tensor"),
        ("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "latent", "none"),
        ("model.layers.3.self_attn.kv_b_proj.weight_scale_inv", "attention", "tensor"),
        ("model.layers.3.self_attn.indexer.wq_b.weight", "latent", "none"),
        ("model.layers.3.mlp.gate_proj.weight", "mlp", "tensor"),
        ("model.layers.3.mlp.gate.weight", "router", "none"),
        ("model.layers.3.mlp.gate.e_score_correction_bias", "router", "none"),
        ("model.layers.3.mlp.shared_expert_gate.weight", "router", "none"),
        ("model.layers.3.mlp.shared_expert.up_proj.weight", "shared_experts", "tensor"),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", "shared_experts", "tensor"),
        ("model.layers.3.mlp.experts.17.gate_proj.weight", "experts", "expert"),
        ("model.layers.3.mlp.experts.gate_up_proj_blocks", "experts", "expert"),
        ("model.layers.3.block_sparse_moe.experts.0.w1.weight", "experts", "expert"),
        ("model.layers.3.linear_attn.in_proj_qkvz.weight", "state", "tensor"),
        ("backbone.layers.3.mixer.in_proj.weight", "state", "tensor"),
        ("backbone.layers.3.mixer.k_proj.weight", "key_value", "key_value"),
        ("model.visual.blocks.0.attn.qkv.weight", "vision", "tensor"),
        ("vision_tower.vision_model.encoder.layers.0.layer_norm1.weight", "vision", "tensor"),
        ("audio_tower.layers.0.self_attn.k_proj.weight", "audio", "none"),
        ("mtp.layers.0.mlp.experts.1.up_proj.weight", "draft", "tensor"),
        ("blk.0.attn_k.weight", "key_value", "key_value"),
        ("blk.0.ffn_gate_exps.weight", "experts", "expert"),
        ("blk.0.ffn_gate_inp.weight", "router", "none"),
        ("blk.0.ffn_up_shexp.weight", "shared_experts", "tensor"),
        ("output_norm.weight", "norms", "none"),
        ("output.weight", "head", "tensor"),
    ],
)
def test_tensors_are_grouped_by_the_names_that_checkpoints_use(name: str, group: str, sharding: str) -> None:
    assert group_of(name) == (group, sharding)


def test_groups_of_tensors_are_those_that_are_computed() -> None:
    def tensor(name: str, *shape: int) -> Tensor:
        size = 2
        for length in shape:
            size *= length
        return Tensor(name, "BF16", shape, size)

    small = {**LLAMA, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
             "num_key_value_heads": 1, "vocab_size": 100}  # fmt: skip
    one = "model.layers.0."
    tensors = [
        tensor("model.embed_tokens.weight", 100, 64), tensor("lm_head.weight", 100, 64), tensor("model.norm.weight", 64),
        tensor(one + "self_attn.qkv_proj.weight", 96, 64), tensor(one + "self_attn.o_proj.weight", 64, 64),
        tensor(one + "mlp.gate_up_proj.weight", 256, 64), tensor(one + "mlp.down_proj.weight", 64, 128),
        tensor(one + "input_layernorm.weight", 64), tensor(one + "post_attention_layernorm.weight", 64),
    ]  # fmt: skip
    computed, read = facts(small), facts(small, tensors=tensors)
    assert sorted(computed.weights, key=str) == sorted(read.weights, key=str)
    assert read.precision == "tensors" and read.active_parameters == computed.active_parameters
    # What lies in layers beyond those of the model predicts further tokens.
    more = facts(small, tensors=[*tensors, tensor("model.layers.1.eh_proj.weight", 64, 128)])
    assert next(g.parameters for g in more.weights if g.name == "draft") == 64 * 128


def test_packed_tensors_count_the_weights_they_stand_for() -> None:
    config = {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    prefix = "model.layers.0.mlp.down_proj."
    tensors = [
        Tensor(prefix + "qweight", "I32", (1792, 4096), 1792 * 4096 * 4),
        Tensor(prefix + "qzeros", "I32", (112, 512), 112 * 512 * 4),
        Tensor(prefix + "scales", "F16", (112, 4096), 112 * 4096 * 2),
        Tensor(prefix + "g_idx", "I32", (14336,), 14336 * 4),
    ]
    found = facts(config, tensors=tensors)
    assert found.parameters == 14336 * 4096
    assert found.weight_bytes == sum(tensor.size_bytes for tensor in tensors)
    assert found.quantization == "gptq 4 bit"


def test_a_row_that_lacks_sizes_is_refused_by_name() -> None:
    for name, lacks in (("baidu/ERNIE-4.5-21B-A3B-PT", "num_hidden_layers"), ("google/gemma-4-12B-it", "layer_types")):
        with pytest.raises(ModelportError, match=lacks):
            config_of_row(MODELS[name])


def test_an_architecture_whose_sizes_were_never_checked_says_so() -> None:
    plain = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    odd = facts_of_config("m", {**plain, "intermediate_size": 128, "model_type": "frobnicator"})
    assert "frobnicator" in odd.note and "plain transformer" in odd.note
    assert not facts_of_config("m", {**plain, "intermediate_size": 128, "model_type": "llama"}).note
