"""What a MODEL on the command line becomes before control sees it, which runs in another directory."""

from pathlib import Path

import pytest

from modelport.cli.services import located


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.gguf").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "model",
    ["org/name/file.gguf", "hf://org/name/file.gguf", "s3://bucket/m.gguf", "org/name@v1/m.gguf", "org/name", "smollm2",
     "nothing.gguf", ""],
)  # fmt: skip
def test_names_of_what_lies_elsewhere_stay_as_they_are(model: str) -> None:
    assert located(model) == model


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models", "models"),
        ("models/m.gguf", "models/m.gguf"),
        ("./nothing.gguf", "nothing.gguf"),
        ("~/nothing.gguf", "nothing.gguf"),
    ],
)
def test_what_is_here_or_written_as_a_path_becomes_absolute(here: Path, model: str, path: str) -> None:
    assert located(model) == str(here / path)
    assert located("/models/m.gguf") == "/models/m.gguf"
