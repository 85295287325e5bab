"""Storage: how many bytes a config says a weight takes, scales included, group by group.

Formats are those that vLLM loads (vllm/model_executor/layers/quantization) and transformers writes
(`quantization_config`); NVFP4 and mixed checkpoints are modelopt's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, cast

from modelport.catalog.families import DTYPE_BYTES
from modelport.catalog.fields import Fields
from modelport.domain.facts import Quantization

# Modules as checkpoints name them, for each group: what an ignore list is held against.
MODULES: dict[str, tuple[str, ...]] = {
    "attention": ("model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.o_proj"),
    "key_value": ("model.layers.{}.self_attn.k_proj",),
    "latent": ("model.layers.{}.self_attn.kv_a_proj_with_mqa",),
    "mlp": ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.down_proj"),
    "shared_experts": ("model.layers.{}.mlp.shared_experts.gate_proj", "model.layers.{}.mlp.shared_expert.gate_proj"),
    "experts": ("model.layers.{}.mlp.experts.0.gate_proj",),
    "state": ("model.layers.{}.linear_attn.in_proj_qkv", "model.layers.{}.mamba.in_proj"),
    "head": ("lm_head",),
    "draft": ("mtp.layers.0.mlp.experts.0.gate_proj", "model.layers.mtp.mlp.gate_proj"),
}
ALTERNATIVES = 64  # most ways that one pattern of an ignore list is spelled out
MOST_IGNORED = 100_000
MOST_SPELLED = 10_000  # names that all patterns of a list together are spelled out to
MOST_GLOBS = 500
GLOB = frozenset("*?[")
SAMPLES = 16  # layers that an ignore list is tried on

# method → (bits, weights per scale, bytes per scale and zero point) where the config need not say them
METHODS: dict[str, tuple[float, int, float]] = {
    "awq": (4, 128, 2.5),  # a float16 scale and a 4 bit zero point
    "awq_marlin": (4, 128, 2.5),
    "gptq": (4, 128, 2.5),
    "gptq_marlin": (4, 128, 2.5),
    "auto-round": (4, 128, 2.5),
    "auto_round": (4, 128, 2.5),
    "fp8": (8, 0, 0),
    "fbgemm_fp8": (8, 0, 0),
    "modelopt": (8, 0, 0),
    "compressed-tensors": (8, 0, 0),
    "bitsandbytes": (4, 64, 4),  # a float32 scale per block of 64
    "mxfp4": (4, 32, 1),  # one e8m0 exponent per 32
    "experts_int8": (8, 0, 0),
    "torchao": (8, 0, 0),
    "quanto": (8, 0, 0),
    "hqq": (4, 64, 4),
    "eetq": (8, 0, 0),
    "quark": (8, 0, 0),
    "aqlm": (2, 0, 0),
    "spqr": (3, 0, 0),
    "bitnet": (2, 0, 0),
    "higgs": (4, 256, 2),
    "vptq": (2, 0, 0),
    "intel-neural": (4, 128, 2.5),
}
# Methods that touch some groups only. vLLM makes Jamba's dense layers mixtures of one expert: experts_int8 takes both.
PARTIAL = {"mxfp4": frozenset({"experts"}), "experts_int8": frozenset({"experts", "mlp"})}
# modelopt's mixed precision, as NVIDIA publishes Nemotron 3: experts in NVFP4, other quantized layers in FP8, attention
# as it was. An estimate: the exact list is per checkpoint.
MIXED = {"state": 1.0, "shared_experts": 1.0, "mlp": 1.0, "attention": 2.0, "key_value": 2.0, "draft": 2.0}


# Files that say it where config.json does not, and the method that they mean (vLLM's get_quant_config reads the same).
SEPARATE = {"hf_quant_config.json": "modelopt", "quantize_config.json": "gptq", "quant_config.json": "awq"}


@dataclass(frozen=True, slots=True)
class Ignored:
    """Modules that are left as they were. `in` asks for one of them, or one inside of one: whole words between dots."""

    plain: frozenset[str]
    globs: tuple[re.Pattern[str], ...]

    def __contains__(self, name: str) -> bool:
        words = name.split(".")
        runs = (".".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
        return any(run in self.plain for run in runs) or any(glob.match(f".{name}.") for glob in self.globs)


@dataclass(frozen=True, slots=True)
class Storage:
    """How weights are stored: `dtype_bytes` each where nothing is quantized."""

    dtype_bytes: int
    quantization: Quantization | None = None
    weight_bytes: float = 0.0
    """Of one quantized weight with its share of scales."""
    ignored: Ignored | None = None
    only: frozenset[str] = field(default_factory=frozenset[str])
    """Groups that are quantized at all; empty is every group of linear layers."""
    head: bool = False
    mixed: Mapping[str, float] = field(default_factory=dict[str, float])
    """Bytes per weight of groups that are quantized otherwise."""

    def bytes_of(self, group: str, parameters: int, layers: int) -> int:
        """Bytes of `parameters` weights of a group that is spread over the model's `layers`."""
        share = self._share(group, layers)
        return round(parameters * (share * self.mixed.get(group, self.weight_bytes) + (1 - share) * self.dtype_bytes))

    def _share(self, group: str, layers: int) -> float:
        """How much of a group is quantized."""
        if not self.quantization or group not in MODULES or (self.only and group not in self.only):
            return 0.0
        if group == "head" and not self.head:
            return 0.0
        step = max(1, layers // SAMPLES)
        names = [form.format(i) for form in MODULES[group] for i in range(0, max(1, layers), step)]
        skipped = sum(name in self.ignored for name in names) if self.ignored else 0
        return 1 - skipped / len(names)


def storage_of(fields: Fields) -> Storage:
    """What `quantization_config` (or `compression_config`, or modelopt's own file merged in as such) declares."""
    dtype_bytes = DTYPE_BYTES.get(fields.text("torch_dtype", "dtype").removeprefix("torch."), 2)
    declared = fields.part("quantization_config", "compression_config")
    method = declared.get("quant_method")
    if not declared or (not isinstance(method, str) and "quant_algo" not in declared):
        return Storage(dtype_bytes)
    method = (method if isinstance(method, str) else "modelopt").lower()
    bits, group, scale = METHODS.get(method, (8, 0, 0))
    said = next((declared[k] for k in ("bits", "w_bit", "num_bits", "weight_bits", "nbits") if declared.get(k)), 0)
    bits = float(said) if isinstance(said, int | float) and 0 < said <= 32 else bits
    group = _group_size(declared, group)
    if method == "bitsandbytes":
        bits, group, scale = (8, 0, 0) if declared.get("load_in_8bit") else (4, 64, 4)
        if declared.get("bnb_4bit_use_double_quant"):
            scale = 1 + 4 / 256  # scales are quantized to a byte, 256 of them share one
    if method == "fp8" and isinstance(block := declared.get("weight_block_size"), list):
        blocks = [b for b in cast(list[Any], block) if type(b) is int and b > 0]
        if len(blocks) == 2:
            group, scale = blocks[1], 4 / blocks[0]  # a float32 for each block of rows x columns
    if method in ("modelopt", "modelopt_fp4", "modelopt_mixed", "nvfp4"):
        bits, group, scale = _modelopt(str(declared.get("quant_algo") or declared.get("kv_cache_quant_algo") or ""))
    if scheme := _weights_scheme(declared):
        bits, group, scale = _compressed(scheme, group)
    ignored = _ignored(fields, declared)
    # compressed-tensors' `Linear` takes in the head too, unless the ignore list names it.
    quantization = Quantization(method=method, bits=bits, group_size=group)
    return Storage(
        dtype_bytes,
        quantization,
        bits / 8 + (scale / group if group else 0),
        ignored,
        PARTIAL.get(method, frozenset()),
        bool(declared.get("lm_head")) or (bool(_weights_scheme(declared)) and "lm_head" not in ignored),
        MIXED if "MIXED" in str(declared.get("quant_algo")).upper() else {},
    )


def in_words(quantization: Quantization | None, dtype: str) -> str:
    """`awq 4 bit`, `fp8`, or the type of the weights."""
    if quantization is None:
        return dtype or "bfloat16"
    if quantization.method in ("fp8", "mxfp4", "nvfp4"):
        return quantization.method
    return f"{quantization.method} {quantization.bits:g} bit"


def _weights_scheme(declared: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `weights` part of the group with the fewest bits: of mixed checkpoints that is what holds the experts."""
    groups = declared.get("config_groups")
    found: list[Mapping[str, Any]] = []
    if isinstance(groups, Mapping):
        for group in cast(Mapping[str, Any], groups).values():
            if isinstance(group, Mapping) and isinstance(
                inner := cast(Mapping[str, Any], group).get("weights"), Mapping
            ):
                found.append(cast(Mapping[str, Any], inner))
    return min(found, key=lambda scheme: _number(scheme, "num_bits") or 16, default={})


def _compressed(scheme: Mapping[str, Any], group: int) -> tuple[float, int, float]:
    bits = _number(scheme, "num_bits") or 8
    group = _number(scheme, "group_size") if scheme.get("group_size") else group
    if scheme.get("strategy") in ("channel", "tensor", "token"):
        return bits, 0, 0
    if bits == 4 and scheme.get("type") == "float":
        return 4, group or 16, 1  # NVFP4: an FP8 scale per 16
    if scheme.get("strategy") == "block":
        return bits, 128, 2 / 128  # a bfloat16 per block of 128 x 128
    return bits, group, 2 if scheme.get("symmetric", True) else 2.5


def _modelopt(algorithm: str) -> tuple[float, int, float]:
    """Bits, group and scale bytes of modelopt's `quant_algo`; mixed ones hold their experts in NVFP4."""
    name = algorithm.upper()
    if "NVFP4" in name or "MIXED" in name or name == "W4A16_NVFP4":
        return 4, 16, 1
    if name.startswith("W4A16") or name.startswith("W4A8") or "INT4" in name:
        return 4, 128, 2
    if "MXFP8" in name:
        return 8, 32, 1
    return 8, 0, 0


def _group_size(declared: Mapping[str, Any], default: int) -> int:
    for key in ("group_size", "q_group_size", "weight_group_size"):
        value = declared.get(key)
        if type(value) is int:
            return max(0, min(value, 1 << 20))  # -1: one scale per output channel
    return default


def _ignored(fields: Fields, declared: Mapping[str, Any]) -> Ignored:
    """The modules that are not quantized. Raises ModelportError for more patterns than any real list has."""
    found: dict[str, None] = {}
    patterns: set[str] = set()
    spelled = 0

    def add(pattern: str) -> None:
        nonlocal spelled
        if pattern in patterns:
            return
        patterns.add(pattern)
        names = _globs(pattern)
        if pattern.startswith("re:"):
            spelled += len(names)
            if spelled > MOST_SPELLED:
                raise fields.broken("list of modules not quantized", f"more than {MOST_SPELLED:,} names in patterns")
        found.update(dict.fromkeys(names))

    for key in ("ignore", "ignored_layers", "modules_to_not_convert", "llm_int8_skip_modules", "exclude_modules",
                "exclude", "modules_not_to_convert"):  # fmt: skip
        value = declared.get(key)
        items = cast(list[Any], value) if isinstance(value, list) else []
        for item in items[:MOST_IGNORED]:
            if isinstance(item, str) and 0 < len(item) <= 300:
                add(item)
    dynamic = declared.get("dynamic")  # GPTQModel: a key of `-:` and a regular expression names what is left out
    for key in list(cast(Mapping[str, Any], dynamic))[:MOST_IGNORED] if isinstance(dynamic, Mapping) else ():
        if key.startswith("-:") and len(key) <= 300:
            add("re:" + key[2:])
    plain = frozenset(item.strip(".") for item in found if not GLOB & set(item))
    globs = [item for item in found if GLOB & set(item)][:MOST_GLOBS]
    return Ignored(plain, tuple(re.compile(translate(f"*.{item.strip('.')}.*")) for item in globs))


def _globs(pattern: str) -> Sequence[str]:
    """An entry of an ignore list as globs. Regular expressions of others are not run: a config could make them hang."""
    if not pattern.startswith("re:"):
        return [pattern]
    text = pattern[3:].removeprefix("^").removesuffix("$")
    for was, to in (("\\.", "."), (".*", "*"), ("\\d+", "*"), ("[0-9]+", "*"), (".+", "*")):
        text = text.replace(was, to)
    return _spelled_out(text)


def _spelled_out(text: str) -> list[str]:
    """`a(b|c)d` as `abd` and `acd`; nothing when it is more than that."""
    found = [""]
    while text:
        before, bracket, rest = text.partition("(")
        found = [item + before for item in found]
        if not bracket:
            break
        inside, closed, text = rest.partition(")")
        words = inside.removeprefix("?:").split("|")
        if not closed or "(" in inside or len(found) * len(words) > ALTERNATIVES:
            return []
        found = [item + word for item in found for word in words]
    return found


def _number(part: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = part.get(name)
        if type(value) is int:
            return max(0, min(value, 1 << 20))
    return 0
