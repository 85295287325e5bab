"""Projector: the file beside a GGUF model by which it sees, and what that adds to the model's facts.

llama.cpp keeps a model's vision tower and projector in a GGUF file of its own, which publishers name `mmproj-…`; keys
and limits are those of its tools/mtmd/clip.cpp.
"""

import re
from dataclasses import replace
from pathlib import Path

from modelport.catalog.gguf import GgufHeader, Value, read_header
from modelport.domain.facts import ModelFacts, Projector, Weights
from modelport.errors import ModelportError

FORMS = ("f16", "bf16", "q8_0", "f32")
"""Of several that differ in this alone, the first is taken: no slower and no less exact on any machine."""
MOST_TOKENS = {
    **dict.fromkeys(("qwen2vl_merger", "qwen2.5vl_merger", "qwen2.5o", "qwen3vl_merger", "glm4v"), (4096, 2)),
    **dict.fromkeys(("pixtral", "lightonocr"), (1024, 1)),
    **dict.fromkeys(("kimivl", "lfm2"), (1024, 2)),
}
"""By projector: the most tokens of one picture (set_limit_image_tokens), and the patches along a side of each. Others
scale every picture, or each tile of one, to the file's own size."""
MOST_NUMBER = 1 << 20
MOST_FILES = 8

_NAME = re.compile(r"(?:^|[._-])mmproj(?:[._-]|\.gguf$)", re.IGNORECASE)


def is_projector(name: str) -> bool:
    """Whether a GGUF file is one by its name."""
    return name.lower().endswith(".gguf") and bool(_NAME.search(name))


def with_projector(facts: ModelFacts, directory: Path) -> ModelFacts:
    """The facts of a model, with those of the projector that lies beside it in `directory`, where there is one.

    One of another model (its `projection_dim` is not the model's width) and one that does not see are left aside, with
    a sentence in the facts' note. Raises ModelportError for a damaged one; OSError passes through.
    """
    names = sorted((entry.name for entry in directory.iterdir() if is_projector(entry.name)), key=_rank)
    if not names or facts.task != "generate":
        return facts
    headers = {name: read_header(directory / name) for name in names[:MOST_FILES]}
    reasons = {name: _unusable(header, facts) for name, header in headers.items()}
    name = next((name for name, why in reasons.items() if not why), "")
    if not name:
        said = (f"{name} is left aside: {why}." for name, why in reasons.items())
        return replace(facts, note=" ".join(filter(None, (facts.note, *said))))
    path, header = directory / name, headers[name]
    parameters = sum(tensor.weights for tensor in header.tensors)
    size = sum(tensor.size_bytes for tensor in header.tensors)
    return replace(
        facts,
        parameters=facts.parameters + parameters,
        weight_bytes=facts.weight_bytes + size,
        weights=(*facts.weights, Weights("vision", parameters, size, 0, "none")),
        inputs=tuple(dict.fromkeys((*facts.inputs, "image"))),
        projector=_projector(path, header),
    )


def _rank(name: str) -> tuple[int, str]:
    forms = [bool(re.search(rf"(?<![a-z0-9]){form}(?![a-z0-9])", name.lower())) for form in FORMS]
    return forms.index(True) if any(forms) else len(FORMS), name


def _unusable(header: GgufHeader, facts: ModelFacts) -> str:
    """Why a projector is not for this model; empty where it is."""
    if header.metadata.get("clip.has_vision_encoder") is not True:
        return "it turns no pictures into tokens"
    width = header.metadata.get("clip.vision.projection_dim")
    if type(width) is int and width != facts.embedding_size:
        return f"it is for a model of width {width:,}, and this one has {facts.embedding_size:,}"
    return ""


def _projector(path: Path, header: GgufHeader) -> Projector:
    """What it says of itself. Raises ModelportError for numbers that cannot be."""

    def number(key: str) -> int:
        value: Value | None = header.metadata.get(f"clip.vision.{key}")
        if type(value) is not int or not 0 < value <= MOST_NUMBER:
            raise ModelportError(
                f"{str(path)!r} cannot be used: its clip.vision.{key} is {value!r:.80}.", param="model"
            )
        return value

    kind = header.metadata.get("clip.projector_type", header.metadata.get("clip.vision.projector_type", ""))
    tokens, merged = MOST_TOKENS.get(str(kind), (0, 1))
    return Projector(
        str(path),
        patches=tokens * merged**2 or max(1, number("image_size") // number("patch_size")) ** 2,
        embedding_size=number("embedding_length"),
        feed_forward_size=number("feed_forward_length"),
        heads=number("attention.head_count"),
    )
