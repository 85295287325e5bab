"""Which GGUF file or files among many names are the model that is meant."""

import re
from collections.abc import Collection

from modelport.errors import MODEL_NOT_FOUND, ModelportError, nearest

MOST_NAMED = 6
# llama.cpp names the parts of a split model so (llama_split_path in src/llama.cpp).
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
_NO_MODEL = re.compile(r"(^|[/._-])(mmproj|imatrix)", re.IGNORECASE)
# A name's last word before its parts and ending, by which llama.cpp and Ollama call a quantization.
_TAG = re.compile(r"(?:^|[./_-])((?:UD-)?(?:I?Q\d|TQ\d|BF16|F16|F32|FP16|MXFP4|NVFP4)\w*)\.gguf", re.IGNORECASE)


def choose_gguf(source: str, names: Collection[str], file: str = "", tag: str = "") -> tuple[str, ...]:
    """The files of one model, in order: `file` and its other parts, the one with the quantization `tag`, or the only
    one. Raises ModelportError that names those there are when the choice is not clear or a part is missing."""
    models: dict[str, list[str]] = {}
    for name in sorted(name for name in names if name.lower().endswith(".gguf")):
        part = _PART.fullmatch(name)
        whole = f"{part['stem']}.gguf" if part else name
        models.setdefault(f"{whole} {part['count']}" if part else whole, []).append(name)
    if file:
        chosen = [parts for parts in models.values() if file in parts]
        if not chosen:
            known = [name for parts in models.values() for name in parts]
            raise ModelportError(
                f"{source!r}: there is no file {file!r}.{nearest(file, known) or _named(known)}",
                MODEL_NOT_FOUND,
                param="model",
            )
        return _whole(source, chosen[0])
    candidates = {whole.split(" ")[0]: parts for whole, parts in models.items() if not _NO_MODEL.search(whole)}
    tags = {whole: found[1] if (found := _TAG.search(whole)) else "" for whole in candidates}
    if tag:
        fitting = {w: parts for w, parts in candidates.items() if tags[w].lower() == tag.lower()}
        if not fitting:
            known = sorted({word for word in tags.values() if word})
            raise ModelportError(
                f"{source!r}: no GGUF file is of the quantization {tag!r}.{_named(known)}",
                MODEL_NOT_FOUND,
                param="model",
            )
        candidates = fitting
    if len(candidates) != 1:
        raise ModelportError(
            f"{source!r} holds {len(candidates)} GGUF models; choose one by its file or quantization, like "
            f"org/name:Q4_K_M.{_named(sorted(candidates))}"
            if candidates
            else f"{source!r} holds no GGUF model.",
            param="model",
        )
    return _whole(source, next(iter(candidates.values())))


def _whole(source: str, parts: list[str]) -> tuple[str, ...]:
    part = _PART.fullmatch(parts[0])
    if part and len(parts) != int(part["count"]):
        raise ModelportError(
            f"{source!r}: of the {int(part['count'])} parts of {part['stem']!r} only {len(parts)} are there.",
            param="model",
        )
    return tuple(parts)


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return f" There is {shown}." if names else ""
