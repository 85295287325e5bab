"""Secret: what a setting refers to as `env:NAME` or `file:/path`, so that the setting itself can be shown."""

import os
from pathlib import Path

from modelport.errors import ModelportError

LONGEST_BYTES = 64 << 10


def secret(setting: str, reference: str) -> str:
    """The text behind a reference, without the white space around it.

    Raises ModelportError where there is none. The reference is never repeated as it stands: it may be a secret that was
    put where only its place belongs.
    """
    scheme, _, place = reference.partition(":")
    if scheme == "env" and place.isidentifier():
        found, where = os.environ.get(place, ""), f"the environment variable {place}"
    elif scheme == "file" and place.startswith("/"):
        found, where = _read(setting, Path(place)), f"the file {place}"
    else:
        raise ModelportError(
            f"{setting} must say where the secret is, not hold it: env:NAME or file:/path (an absolute one)."
        )
    if not found.strip():
        raise ModelportError(f"{setting} refers to {where}, which is not set or empty.")
    return found.strip()


def _read(setting: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_BYTES).decode()
    except OSError as error:
        raise ModelportError(f"{setting} refers to {path}, which cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ModelportError(f"{setting} refers to {path}, which is no text (UTF-8).") from None
