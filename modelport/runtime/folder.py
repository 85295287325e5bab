"""Folder: a directory of this machine or of a cloud, read and written in the same way by names relative to it."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from modelport import storage
from modelport.errors import INTERNAL, MODEL_NOT_FOUND, NOT_FOUND, TOO_LARGE, ModelportError


class Folder(Protocol):
    """All raise ModelportError."""

    def names(self) -> set[str]:
        """Every file below it, with `/` between its parts; none where there is no such folder yet."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes: ...

    def write(self, name: str, data: bytes) -> None:
        """Whole, or not at all."""
        ...

    def remove(self, name: str) -> None: ...

    def below(self, other: "Folder") -> str:
        """How names of the other begin that lie in this one; empty where it does not lie below."""
        ...


def folder(place: str, env: Mapping[str, str]) -> Folder:
    """A directory, or a cloud URI with `env`'s credentials."""
    return Cloud(place.rstrip("/"), env) if storage.is_cloud(place) else Directory(Path(place).absolute())


class Directory:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> set[str]:
        found: set[str] = set()
        inside = os.path.realpath(self.path)
        for place, _, files in os.walk(self.path):
            for file in files:
                whole = os.path.join(place, file)
                # Only plain files: to open a pipe would wait for ever.
                if os.path.isfile(whole) and os.path.realpath(whole).startswith(inside + os.sep):
                    found.add(os.path.relpath(whole, self.path).replace(os.sep, "/"))
        return found

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            with open(self.path / name, "rb") as file:
                data = file.read(max_bytes + 1)
        except OSError:
            raise ModelportError("It cannot be read.", NOT_FOUND) from None
        if len(data) > max_bytes:
            raise ModelportError(f"It has more than {max_bytes >> 20} MiB.", TOO_LARGE)
        return data

    def write(self, name: str, data: bytes) -> None:
        place = self.path / name
        part = place.with_name(f".{place.name}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            os.replace(part, place)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise ModelportError(f"Results cannot be written: {error.strerror}.", INTERNAL) from None

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self.path / name).unlink()

    def below(self, other: Folder) -> str:
        if not isinstance(other, Directory) or not self.path.is_relative_to(other.path) or self.path == other.path:
            return ""
        return self.path.relative_to(other.path).as_posix() + "/"


class Cloud:
    """Written whole by the store itself."""

    def __init__(self, uri: str, env: Mapping[str, str]) -> None:
        self.uri, self.env = uri, env

    def names(self) -> set[str]:
        try:
            return {file.path for file in storage.files(self.uri, self.env)}
        except ModelportError as error:
            if error.kind is not MODEL_NOT_FOUND:
                raise
            storage.reach(self.uri, self.env)  # raises where it is the bucket that is not there
            return set()

    def read(self, name: str, max_bytes: int) -> bytes:
        return storage.read(f"{self.uri}/{name}", self.env, max_bytes)

    def write(self, name: str, data: bytes) -> None:
        storage.write(f"{self.uri}/{name}", self.env, data)

    def remove(self, name: str) -> None:
        import obstore

        with contextlib.suppress(Exception):  # what is left over says nothing wrong: beside it lies the answer
            obstore.delete(storage.store(self.uri, self.env), name)

    def below(self, other: Folder) -> str:
        if not isinstance(other, Cloud) or not self.uri.startswith(other.uri + "/"):
            return ""
        return self.uri.removeprefix(other.uri + "/") + "/"
