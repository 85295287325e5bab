"""Tiny models with random weights, saved as their publishers would: `python -m tests.runtime.tiny DIRECTORY`.

Weights are drawn wide, so that the answer depends on everything that reaches the model.
"""

import sys
from pathlib import Path

import av
import numpy as np
import torch
import transformers as t
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

MARKS = [
    "<|end|>",
    "<|pad|>",
    "<|im_start|>",
    "<image>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
]
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}<|im_start|>assistant"
ITEMS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}IMAGE{% elif c.type == 'video' %}VIDEO{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}<|end|>\n{% endfor %}<|im_start|>assistant"
)
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('words of its own') }}{% endif %}" + CHAT
TEXT = {
    "vocab_size": 256 + len(MARKS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "eos_token_id": 256,
    "bos_token_id": None, "pad_token_id": 257,
}  # fmt: skip


def tokenizer(template: str | None = CHAT) -> t.PreTrainedTokenizerFast:
    """One token a byte, so that most characters beyond ASCII are several."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = t.PreTrainedTokenizerFast(
        tokenizer_object=own, eos_token=MARKS[0], pad_token=MARKS[1], additional_special_tokens=MARKS[2:]
    )
    assert len(made) == TEXT["vocab_size"]
    made.chat_template = template
    return made


def llama(directory: Path) -> None:
    torch.manual_seed(1)
    model = t.LlamaForCausalLM(t.LlamaConfig(**TEXT, max_position_embeddings=512))
    for name, template in (("llama", CHAT), ("plain", None), ("strict", STRICT)):
        model.save_pretrained(directory / name)
        tokenizer(template).save_pretrained(directory / name)
    model.config.max_position_embeddings = 1 << 20
    model.save_pretrained(directory / "long")
    tokenizer().save_pretrained(directory / "long")
    pickled = directory / "pickled"
    pickled.mkdir()
    model.config.save_pretrained(pickled)
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    both = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for name, weight in both.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)
    both.save_pretrained(directory / "adapter")
    wide = t.LlamaForCausalLM(t.LlamaConfig(**{**TEXT, "hidden_size": 64}))
    get_peft_model(wide, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).save_pretrained(
        directory / "other-adapter"
    )


def llava(directory: Path) -> None:
    torch.manual_seed(2)
    eye = t.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8,
        initializer_range=0.3, initializer_factor=8.0,
    )  # fmt: skip
    config = t.LlavaConfig(
        vision_config=eye, text_config=t.LlamaConfig(**TEXT, max_position_embeddings=1024), image_token_index=259,
        vision_feature_layer=-1, vision_feature_select_strategy="default",
    )  # fmt: skip
    t.LlavaForConditionalGeneration(config).save_pretrained(directory / "llava")
    seen = t.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    t.LlavaProcessor(
        seen, tokenizer(), patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=ITEMS.replace("IMAGE", "<image>"),
    ).save_pretrained(directory / "llava")  # fmt: skip


def qwen(directory: Path) -> None:
    torch.manual_seed(3)
    config = t.Qwen2VLConfig(
        text_config={
            **TEXT, "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 4, "hidden_size": 32, "mlp_ratio": 2, "patch_size": 14},
        image_token_id=260, video_token_id=261, vision_start_token_id=262, vision_end_token_id=263,
    )  # fmt: skip
    model = t.Qwen2VLForConditionalGeneration(config)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(directory / "qwen")
    template = ITEMS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    template = template.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    t.Qwen2VLProcessor(
        t.Qwen2VLImageProcessor(size=size), tokenizer(), t.Qwen2VLVideoProcessor(size=size), chat_template=template
    ).save_pretrained(directory / "qwen")


def videos(directory: Path) -> None:
    """Each of one second's colours, 10 frames a second, 64 by 48 pixels."""
    red, blue = (220, 20, 20), (20, 20, 220)
    (directory / "videos").mkdir()
    for name, colours, codec in (
        ("red-blue.mp4", [red, blue], "libx264"),
        ("blue-red.mp4", [blue, red], "libx264"),
        ("red-blue.webm", [red, blue], "libvpx"),
        ("red-blue.avi", [red, blue], "mpeg4"),
        ("long.mp4", [red, blue] * 30, "libx264"),
    ):
        with av.open(str(directory / "videos" / name), "w") as out:
            stream = out.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for colour in colours:
                for _ in range(10):
                    picture = np.full((48, 64, 3), colour, dtype=np.uint8)
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())


if __name__ == "__main__":
    made = Path(sys.argv[1])
    made.mkdir(parents=True)
    for make in (llama, llava, qwen, videos):
        make(made)
