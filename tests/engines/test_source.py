"""From where a model comes, told by its path, and what to run where an engine cannot fetch it."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelport.catalog import resolve
from modelport.domain.facts import ModelFacts
from modelport.engines.source import draft, kind, to_download
from modelport.errors import ModelportError
from tests.catalog.write_gguf import llama

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def local(tmp_path: Path) -> ModelFacts:
    return resolve(str(llama(tmp_path / "m.gguf")))


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("org/name", "hub"),
        ("org/name/m.gguf", "hub"),
        ("org/name/BF16/m-00001-of-00002.GGUF", "hub"),
        ("gpt2/m.gguf", "hub"),
        ("/models/m.gguf", "local"),
        ("./org/name/m.gguf", "local"),
        ("s3://bucket/m.gguf", "cloud"),
    ],
)
def test_a_path_says_where_the_model_is(path: str, where: str) -> None:
    assert kind(path) == where


def test_what_exists_here_is_local_however_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    llama(tmp_path / "org" / "name" / "m.gguf")
    monkeypatch.chdir(tmp_path)
    assert kind("org/name") == kind("org/name/m.gguf") == "local"


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("org/name/m-Q4_K_M.gguf", f"hf download org/name m-Q4_K_M.gguf --revision {COMMIT}"),
        ("org/name/BF16/a b.gguf", f"hf download org/name 'BF16/a b.gguf' --revision {COMMIT}"),
        (
            "org/name/BF16/m-00001-of-00002.gguf",
            f"hf download org/name --include 'BF16/m-*-of-00002.gguf' --revision {COMMIT}",
        ),
        ("gpt2/m.gguf", f"hf download gpt2 m.gguf --revision {COMMIT}"),
    ],
)
def test_a_file_of_the_hub_is_told_how_to_be_downloaded(local: ModelFacts, path: str, command: str) -> None:
    said = to_download(replace(local, source="org/name:Q4", path=path, revision=COMMIT))
    assert said == f"'org/name:Q4' must be downloaded first: run `{command}`, and name the file that it prints."


def test_a_file_of_a_cloud_is_told_to_be_copied_and_one_of_this_machine_nothing(local: ModelFacts) -> None:
    assert "copy s3://bucket/m.gguf to this machine" in to_download(replace(local, path="s3://bucket/m.gguf"))
    assert not to_download(local)


def test_a_file_of_the_hub_is_no_draft() -> None:
    with pytest.raises(ModelportError, match="neither a Hub id"):
        draft("org/name/m.gguf")
