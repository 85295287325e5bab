"""A GGUF file as a directory of safetensors that `modelport host` serves through transformers.

    python convert_gguf.py MODEL.gguf DIRECTORY [--dtype float32|bfloat16|float16]

Needs torch, transformers, accelerate and gguf. What a quantized file lost stays lost: the directory has the same
numbers, written out in full.
"""

import argparse
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(file: Path, directory: Path, dtype: str) -> None:
    wanted = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(**wanted)
    model = AutoModelForCausalLM.from_pretrained(**wanted, dtype=getattr(torch, dtype))
    model.hf_quantizer = None  # it is written out in full
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    if (end := GGUFReader(file).get_field("tokenizer.ggml.eos_token_id")) is not None:
        # transformers takes a default of its own, with which answers would not end.
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(int(end.contents()))
        model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A GGUF file as a directory of safetensors.")
    parser.add_argument("file", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    given = parser.parse_args()
    convert(given.file, given.directory, given.dtype)
