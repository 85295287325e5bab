"""Image: which container serves an architecture: its key, IMAGE_<KEY> of the environment, then versions.yaml.

The order and the fallbacks are those of NVIDIA's TAO skill (service.yaml, `resolve image`); packaged facts are in
images.yaml, in whose place a user's own versions.yaml can stand.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from modelport.errors import ModelportError, nearest

MAX_BYTES = 1 << 20
_DOTTED = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)+")
_KEY = re.compile(r"[A-Z0-9_]{1,64}")
_URI = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@#+-]{0,1000}")


@dataclass(frozen=True, slots=True)
class Image:
    """A container image, and how it was come by."""

    uri: str
    key: str
    """Empty where the user named the image itself."""
    origin: str
    """What said so: `--image`, `IMAGE_…`, or a place in versions.yaml."""
    folder: bool
    """Whether the container takes the model path for a directory."""


def resolve(
    arch: str,
    *,
    image: str = "",
    versions: Path | None = None,
    sidecars: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Image:
    """The image for an architecture. `image` wins over everything; `versions` is a versions.yaml (`images: group: name:
    URI`) in place of the packaged one; `sidecars` a directory with `{arch}.config.json` files. Raises ModelportError
    for a file that cannot be read and for a place that versions.yaml lacks."""
    packaged = _packaged()
    said = packaged["architectures"].get(arch.lower(), {}) if sidecars is None else _sidecar(arch, sidecars)
    folder = "folder" in said.get("model_path", "")
    if image:
        return Image(_checked(image, "--image"), "", "--image", folder)
    key = said.get("image") or packaged["fallback"]
    if override := (environ or {}).get(f"IMAGE_{key}", "").strip():
        value, origin = override, f"IMAGE_{key}"
    elif key in packaged["mapping"]:
        value = origin = packaged["mapping"][key]
    else:
        raise ModelportError(
            f"No image is known for the key {key[:80]!r}; there is {', '.join(packaged['mapping'])}. Set IMAGE_{key} "
            f"or give --image.{nearest(key, packaged['mapping'])}"
        )
    if _DOTTED.fullmatch(value):
        manifest = packaged["images"] if versions is None else _versions(versions)
        return Image(_looked_up(value, manifest, versions), key, origin, folder)
    return Image(_checked(value, origin), key, origin, folder)


def _looked_up(place: str, manifest: Mapping[str, str], versions: Path | None) -> str:
    for name in (place, _packaged()["stand_ins"].get(place, place)):
        if name in manifest:
            return _checked(manifest[name], name)
    where = str(versions) if versions else "The packaged list of images"
    raise ModelportError(f"{where} has no images.{place}; it has {', '.join(manifest) or 'none'}.")


def _checked(uri: str, origin: str) -> str:
    if not _URI.fullmatch(uri.strip()):
        raise ModelportError(f"{origin} gives {uri[:80]!r}, which is no container image; it is like registry/name:tag.")
    return uri.strip()


@cache
def _packaged() -> dict[str, Any]:
    data = _yaml((files("modelport.tao") / "images.yaml").read_text(), "images.yaml")
    return {**data, "images": _flat(data["images"], "images.yaml")}


def _versions(path: Path) -> dict[str, str]:
    data = _yaml(_read(path), str(path))
    if not isinstance(data.get("images"), dict):
        raise ModelportError(f"{path} has no `images:`; a versions.yaml has groups of images below it.")
    return _flat(data["images"], str(path))


def _flat(groups: Mapping[str, Any], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for group, names in groups.items():
        if not isinstance(names, dict):
            raise ModelportError(f"{where}: images.{group} must be a mapping of names to images.")
        found |= {f"{group}.{name}": str(uri) for name, uri in cast(dict[str, Any], names).items() if uri}
    return found


def _sidecar(arch: str, directory: Path) -> dict[str, str]:
    """`image` and `model_path` of an architecture's own file; empty where there is none."""
    if not directory.is_dir():
        raise ModelportError(f"{directory} is no directory: sidecars lie in one, as ARCH.config.json.")
    path = directory / f"{arch.lower()}.config.json"
    if not path.exists():
        return {}
    try:
        data = json.loads(_read(path))
    except (ValueError, RecursionError):
        raise ModelportError(f"{path} is not JSON.") from None
    key = _text(data, "api_params", "image")
    if key and not _KEY.fullmatch(key):
        raise ModelportError(f"{path}: api_params.image is {key[:80]!r}; a key is of A-Z, 0-9 and _, like COSMOS_RL.")
    return {"image": key, "model_path": _text(data, "spec_params", "inference", "model_path")}


def _text(data: Any, *path: str) -> str:
    for part in path:
        data = cast(dict[str, Any], data).get(part) if isinstance(data, dict) else None
    return data if isinstance(data, str) else ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ModelportError(f"{path} has more than 1 MiB; it is not what it should be.")
        return data.decode()
    except OSError as error:
        raise ModelportError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ModelportError(f"{path} is not text.") from None


def _yaml(text: str, where: str) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ModelportError(f"{where} is not YAML.") from None
    if not isinstance(data, dict):
        raise ModelportError(f"{where} must be a mapping.")
    return cast(dict[str, Any], data)
