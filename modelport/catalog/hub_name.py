"""HubName: which repository of the Hub, which of its revisions, and which of its files a source names."""

import re
from dataclasses import dataclass

from modelport.errors import ModelportError

DEFAULT_REVISION = "main"
SCHEMES = ("hf_model://", "hf://")
# huggingface_hub's validate_repo_id: letters, digits, '-', '_' and '.', at most 96, no '--', no '..'.
_WORD = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(
    rf"(?P<repository>{_WORD}(?:/{_WORD})?)(?:/(?P<file>[^@:]+\.gguf))?(?::(?P<tag>[A-Za-z0-9_.-]{{1,64}}))?",
    re.IGNORECASE,
)
_REVISION = re.compile(
    r"(?P<revision>refs/(?:pr|convert)/[\w.-]+|\w[\w.-]{0,127})(?:/(?P<file>[^@:]+\.gguf))?", re.ASCII
)
_NOT_MODELS = ("datasets/", "spaces/", "buckets/")
_FILES = (".gguf", ".safetensors", ".json", ".bin", ".pth", ".pt", ".yaml")
"""What a mistyped path to a file here ends with, and a repository's name never does."""


@dataclass(frozen=True, slots=True)
class HubName:
    """`org/name`, and what narrows it down. Empty is "not said": the default branch, the only model."""

    repository: str
    revision: str = ""
    file: str = ""
    """One GGUF file of it; the first part of a split one stands for all."""
    tag: str = ""
    """A GGUF file by its quantization, as llama.cpp and Ollama users write it: `Q4_K_M`."""

    def __str__(self) -> str:
        file, tag = f"/{self.file}" if self.file else "", f":{self.tag}" if self.tag else ""
        return self.repository + (f"@{self.revision}" if self.revision else "") + file + tag


def hub_name(source: str) -> HubName | None:
    """What `source` names on the Hub; None where it has not the form of it.

    `org/name`, `org/name@revision`, `org/name/file.gguf`, `org/name:Q4_K_M` and these behind `hf://` or `hf_model://`,
    where the old names without an organisation (`gpt2`) are possible too. Raises ModelportError for what says that it
    is of the Hub and cannot be.
    """
    scheme = next((s for s in SCHEMES if source.lower().startswith(s)), "")
    body = source[len(scheme) :].rstrip("/") if scheme else source
    if scheme and body.startswith(_NOT_MODELS):
        raise ModelportError(f"{source!r} is no model repository; only models can be served.", param="model")
    left, at, right = body.partition("@")
    right, colon, tag = right.partition(":")
    name, revision = _NAME.fullmatch(left + colon + tag), _REVISION.fullmatch(right)
    repository = name["repository"] if name else ""
    valid = bool(repository) and not re.search(r"--|\.\.|[.-](?:/|$)", repository) and bool(revision) == bool(at)
    if not scheme and (not valid or "/" not in repository or repository.lower().endswith(_FILES)):
        return None
    if not name or not valid:
        raise ModelportError(
            f"{source!r} names no repository of the Hub: write {scheme}org/name, {scheme}org/name@revision or "
            f"{scheme}org/name/file.gguf.",
            param="model",
        )
    file = name["file"] or (revision["file"] if revision else None) or ""
    if any(part in ("", ".", "..") for part in file.split("/")) and file:
        raise ModelportError(f"{source!r} names a file that cannot be: {file!r}.", param="model")
    return HubName(repository, revision["revision"] if revision else "", file, name["tag"] or "")
