"""Language models through transformers, by tiny models with random weights, in the Python that has torch."""

import json
import shutil
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.torch_env import Model, made

pytestmark = pytest.mark.timeout(600)  # the first test on a machine makes the models

GREEDY = {"temperature": 0, "max_new_tokens": 12}


@cache
def model(name: str = "llama", **options: Any) -> Model:
    return Model(made(name), **options)


def copied(tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(made(name), tmp_path / name))


# --- what is asked for


def test_an_answer_says_what_the_contract_says() -> None:
    answer = model().ask(prompt="Hello", **GREEDY)
    assert answer["results"] == {
        "response": answer["text"],
        "model_type": "llm",
        "is_vlm": False,
        "input_tokens": answer["input_tokens"],
        "output_tokens": 12,
        "total_images": 0,
        "total_videos": 0,
    }
    assert answer["finish_reason"] == "length"
    assert model().facts["routes"] == ["chat", "inference"]


def test_text_is_another_word_for_prompt_and_the_template_is_applied() -> None:
    answer = model().ask(text="Hello", **GREEDY)
    assert answer["text"] == model().ask(prompt="Hello", **GREEDY)["text"]
    assert answer["text"] == model().chat([{"role": "user", "content": "Hello"}], **GREEDY)["text"]
    marked = "<|im_start|>user\nHello<|end|>\n<|im_start|>assistant"
    plain = Model(made("plain"))
    assert answer["text"] == plain.ask(prompt=marked, **GREEDY)["text"]


def test_the_whole_conversation_reaches_the_model() -> None:
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": [{"type": "text", "text": "Three?"}]},
    ]
    texts = {model().chat(turns, **GREEDY)["text"]}
    for index in range(len(turns)):
        changed = [{**turn, "content": "Else"} if place == index else turn for place, turn in enumerate(turns)]
        texts.add(model().chat(changed, **GREEDY)["text"])
    assert len(texts) == 5
    assert model().chat(turns[1:], system_prompt="Be kind.", **GREEDY)["text"] in texts


def test_a_seed_makes_an_answer_again_and_no_seed_another() -> None:
    asked = {"prompt": "Hello", "max_new_tokens": 12, "temperature": 1.0}
    first = model().ask(**asked, seed=7)["text"]
    assert first == model().ask(**asked, seed=7)["text"]
    assert len({first, model().ask(**asked, seed=8)["text"], model().ask(**asked)["text"]}) == 3
    assert model().ask(**{**asked, "do_sample": False})["text"] == model().ask(prompt="Hello", **GREEDY)["text"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "`prompt` (or `text`) is required"),
        ({"prompt": ""}, "required"),
        ({"prompt": ["x"]}, "must be text"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be a whole number from 1 to 32,768, not 0."),
        ({"max_new_tokens": 32_769}, "not 32769"),
        ({"max_new_tokens": 1.5}, "whole number"),
        ({"max_new_tokens": True}, "not True"),
        ({"temperature": 2.1}, "`temperature` must be a number from 0 to 2, not 2.1."),
        ({"temperature": "hot"}, "not 'hot'"),
        ({"temperature": float("nan")}, "not nan"),
        ({"top_p": -0.1}, "from 0 to 1"),
        ({"top_k": 0}, "from 1 to 1,000"),
        ({"min_p": 2}, "from 0 to 1"),
        ({"repetition_penalty": 0}, "from 0.1 to 10"),
        ({"do_sample": "yes"}, "true or false"),
        ({"do_sample": True, "temperature": 0}, "never samples"),
        ({"n": 2}, "`n` is not supported"),
        ({"presence_penalty": 0.5}, "`presence_penalty` is not supported"),
        ({"frequency_penalty": -1}, "not supported"),
        ({"tools": [{"type": "function"}]}, "not supported"),
        ({"stop": [""]}, "`stop` must be"),
        ({"stop": 5}, "`stop` must be"),
        ({"system_prompt": 5}, "`system_prompt` must be text"),
    ],
)
def test_what_is_wrong_or_not_done_is_said_and_never_clamped(body: dict[str, Any], words: str) -> None:
    answer = model().ask(**(body if not body or "prompt" in body else {"prompt": "Hello", **body}))
    assert words in answer["refused"]
    assert answer["status"] == 400


def test_values_that_ask_for_nothing_and_unknown_keys_are_let_pass() -> None:
    neutral = {"n": 1, "presence_penalty": 0.0, "frequency_penalty": 0, "top_p": None, "stop": None, "conv_mode": "x"}
    assert model().ask(prompt="Hello", **GREEDY, **neutral)["text"] == model().ask(prompt="Hello", **GREEDY)["text"]


def test_a_prompt_and_an_answer_must_have_place_in_the_context() -> None:
    refused = model().ask(prompt="x" * 600)["refused"]
    assert "618 tokens" in refused and "512" in refused
    refused = model().ask(prompt="x" * 300, max_new_tokens=300)["refused"]
    assert "`max_new_tokens` is 300" in refused and "194 are left" in refused
    assert 0 < model().ask(prompt="x" * 480, temperature=0)["output_tokens"] <= 14


def test_a_model_without_a_template_takes_one_message_and_a_strict_one_says_what_it_refuses() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert "no chat template" in Model(made("plain")).chat(turns)["refused"]
    refused = Model(made("strict")).chat([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
    assert refused["status"] == 400 and "chat template does not take" in refused["refused"]
    assert "of its own" not in refused["refused"]


def test_roles_and_contents_that_are_none_are_refused() -> None:
    assert "one of system" in model().chat([{"role": "tool", "content": "a"}])["refused"]
    assert "must be text" in model().chat([{"role": "user", "content": [{"type": "input_audio"}]}])["refused"]
    assert "must be the user's" in model().chat([{"role": "assistant", "content": "a"}])["refused"]
    assert "reads text only" in model().ask(("image", b"x"), prompt="a")["refused"]


# --- how it is answered


def test_streamed_pieces_are_the_answer() -> None:
    answer = model().ask(prompt="Hello", temperature=0, max_new_tokens=60)
    assert "".join(answer["pieces"]) == answer["text"]
    assert len(answer["pieces"]) > 5


def test_a_stop_string_ends_the_answer_before_it() -> None:
    whole = model().ask(prompt="Hello", temperature=0, max_new_tokens=60)
    text = whole["text"]
    stop = text[6:9]
    answer = model().ask(prompt="Hello", temperature=0, max_new_tokens=60, stop=[stop, "never"])
    assert answer["text"] == text[: text.index(stop)] == "".join(answer["pieces"])
    assert answer["finish_reason"] == "stop"
    assert answer["output_tokens"] < whole["output_tokens"]


def test_nothing_more_is_made_once_nobody_waits() -> None:
    answer = model().ask(prompt="Hello", temperature=0, max_new_tokens=400, stop_after=2)
    assert len(answer["pieces"]) <= 3
    assert answer["output_tokens"] < 100


def test_an_answer_that_the_model_ends_has_the_reason_stop(tmp_path: Path) -> None:
    first = model().ask(prompt="Hello", temperature=0, max_new_tokens=30)
    directory = copied(tmp_path, "llama")
    ascii_byte = next(character for character in first["text"][3:] if character.isascii() and character.isprintable())
    tokens = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    for name in ("config.json", "generation_config.json"):
        config = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps({**config, "eos_token_id": [256, tokens[ascii_byte]]}))
    answer = Model(directory).ask(prompt="Hello", temperature=0, max_new_tokens=30)
    assert answer["finish_reason"] == "stop"
    assert answer["text"] == first["text"][: first["text"].index(ascii_byte)]


def test_a_batch_answers_as_each_alone_would() -> None:
    bodies = [
        {"prompt": "x" * length, "temperature": 0, "max_new_tokens": tokens, "stop": "Z"}
        for length, tokens in ((1, 8), (30, 20), (200, 3), (7, 40))
    ]
    bodies += [{"prompt": "Hi", "temperature": 0, "max_new_tokens": 9, "repetition_penalty": 1.3}]
    bodies += [{"prompt": "Hi", "temperature": 1.1, "max_new_tokens": 9, "seed": 5}]
    bodies += [{"prompt": "Hi", "temperature": 3}]
    alone = [model().ask(**body) for body in bodies]
    together = model().together(*bodies)
    assert together == alone
    assert "temperature" in together[-1]["refused"]
    assert model().facts["most"] > 1


def test_too_little_memory_refuses_one_request_and_not_the_next() -> None:
    long = model("long")
    sizes = {"prompt": "x" * 400_000, "temperature": 0, "max_new_tokens": 2}
    refused, short = long.together(sizes, {"prompt": "Hi", "temperature": 1, "seed": 1, "max_new_tokens": 2},
                                   more_bytes=24 << 20)  # fmt: skip
    assert refused["status"] == 503
    assert "not enough memory" in refused["refused"] and "400,018 tokens" in refused["refused"]
    assert short["output_tokens"] == 2
    assert long.ask(prompt="Hi", **GREEDY)["output_tokens"] == 12


# --- how it is loaded


def test_an_adapter_is_merged_or_attached_with_the_same_answer_and_else_not_used(tmp_path: Path) -> None:
    base = {"enable_lora": True, "base_model_path": str(made("llama"))}
    merged = Model(made("adapter"), **base).ask(prompt="Hello", **GREEDY)["text"]
    attached = Model(made("adapter"), **base, lora_mode="attach").ask(prompt="Hello", **GREEDY)["text"]
    bare = model().ask(prompt="Hello", **GREEDY)["text"]
    assert merged == attached != bare
    both = copied(tmp_path, "llama")
    for file in made("adapter").iterdir():
        if file.name.startswith("adapter_"):
            shutil.copy(file, both)
    assert Model(both).ask(prompt="Hello", **GREEDY)["text"] == bare


def test_an_adapter_needs_its_base() -> None:
    assert "`enable_lora` to true" in str(Model(made("adapter")).refused)
    assert "needs `base_model_path`" in str(Model(made("adapter"), enable_lora=True).refused)
    other = Model(made("other-adapter"), enable_lora=True, base_model_path=str(made("llama")))
    assert other.refused == "The LoRA adapter does not fit the model in `base_model_path`."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"torch_dtyp": "auto"}, "Did you mean 'torch_dtype'?"),
        ({"torch_dtype": "int8"}, "one of auto, float16"),
        ({"trust_remote_code": True}, "can only be false"),
        ({"custom_pipeline_loader": "x"}, "is refused"),
        ({"custom_inference_fn_encoded": True}, "is refused"),
        ({"hf_token": "x"}, "HF_TOKEN"),
        ({"device_map": "cuda"}, "no GPU"),
        ({"device_map": "balanced"}, "one of auto, cpu, cuda"),
        ({"max_memory": "much"}, "`max_memory` is a size"),
        ({"enable_lora": "true"}, "true or false"),
        ({"lora_mode": "stack"}, "merge, attach"),
    ],
)
def test_an_option_that_is_wrong_or_refused_is_said(options: dict[str, Any], words: str) -> None:
    assert words in str(Model(made("llama"), **options).refused)


def test_options_of_tao_s_are_taken() -> None:
    taken = model("llama", torch_dtype="bf16", device_map="cpu", trust_remote_code=False, hf_model="org/name")
    assert taken.ask(prompt="Hello", **GREEDY)["output_tokens"] == 12


def test_pickles_are_refused_with_what_to_do() -> None:
    refused = str(Model(made("pickled")).refused)
    assert "pytorch_model.bin" in refused and "save_pretrained" in refused


def test_damaged_files_and_unknown_architectures_each_have_their_sentence(tmp_path: Path) -> None:
    def changed(name: str, **config: Any) -> Path:
        directory = Path(shutil.copytree(made("llama"), tmp_path / name))
        known = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**known, **config}))
        return directory

    cut = changed("cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "damaged or cut off" in str(Model(cut).refused)
    lacking = Model(changed("lacking", num_hidden_layers=3))
    assert "lack" in str(lacking.refused) and "model.layers.2" in str(lacking.refused)
    assert "other shapes" in str(Model(changed("shapes", intermediate_size=96)).refused)
    odd = changed("odd", model_type="never", auto_map={"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"})
    assert "brings along" in str(Model(odd).refused)
    assert "does not know" in str(Model(changed("unknown", model_type="never")).refused)
    assert "does not make text" in str(Model(changed("masked", architectures=["BertForMaskedLM"])).refused)
    (changed("broken") / "config.json").write_text("{")
    assert "config.json cannot be read" in str(Model(tmp_path / "broken").refused)
    assert "no config.json" in str(Model(made("videos")).refused)


def test_a_model_larger_than_memory_says_so_and_may_be_tried_again(tmp_path: Path) -> None:
    directory = copied(tmp_path, "llama")
    tokens, width = 1 << 33, 32
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "vocab_size": tokens, "tie_word_embeddings": True}))
    with (directory / "model.safetensors").open("r+b") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
        for name in ("lm_head.weight", "model.embed_tokens.weight"):
            header[f"unused.{name}"] = header.pop(name)
        header["model.embed_tokens.weight"] = {
            "dtype": "BF16", "shape": [tokens, width], "data_offsets": [len(data), len(data) + tokens * width * 2]
        }  # fmt: skip
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file.seek(0)
        file.write(struct.pack("<Q", len(text)) + text + data)
        file.truncate(8 + len(text) + len(data) + tokens * width * 2)
    huge = Model(directory, torch_dtype="float32")
    assert "not enough memory" in str(huge.refused)
    assert huge.again
