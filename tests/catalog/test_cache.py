"""What was looked up once: kept by its commit, checked while the Hub answers, and enough while it does not."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest

from modelport.catalog import resolve
from modelport.catalog.cached import facts_directory
from modelport.domain.facts import ModelFacts
from modelport.errors import ModelportError
from tests.fakes.checkpoint import checkpoint
from tests.fakes.hub import GOOD_TOKEN, MODELS, OTHER_TOKEN, SMALL, Running, running_hub

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


def without_note(facts: ModelFacts) -> ModelFacts:
    return replace(facts, note="")


def test_the_second_time_only_the_commit_is_asked_for_and_offline_nothing(
    hub: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [resolve(model) for model in MODELS]
    hub.reset()
    assert [resolve(model) for model in MODELS] == first
    served = hub.served()
    assert served["requests"] == len(MODELS) and served["bytes"] < 200 * len(MODELS)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.reset()
    assert [without_note(resolve(model)) for model in MODELS] == [without_note(facts) for facts in first]
    assert hub.served()["requests"] == 0


def test_a_branch_that_moved_is_read_again(hub: Running) -> None:
    before = resolve(MODEL)
    hub.switch(move=MODEL)
    after = resolve(MODEL)
    assert after.revision != before.revision and after.weights == before.weights


def test_a_commit_is_never_asked_for_twice(hub: Running) -> None:
    source = f"{MODEL}@{resolve(MODEL).revision}"
    resolve(source)
    hub.reset()
    assert resolve(source).source == source
    assert hub.served()["requests"] == 0


def test_what_was_read_holds_while_the_hub_answers_with_errors(hub: Running) -> None:
    before = resolve(MODEL)
    hub.switch(down="1")
    assert without_note(resolve(MODEL)) == before
    with pytest.raises(ModelportError, match="status 503"):
        resolve("Qwen/Qwen3-8B")


def test_what_was_read_holds_when_the_hub_is_gone(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as other:
        monkeypatch.setenv("HF_ENDPOINT", other.url)
        before = resolve(MODEL)
    assert without_note(resolve(MODEL)) == before
    with pytest.raises(ModelportError, match="cannot be reached"):
        resolve("Qwen/Qwen3-8B")


def test_each_endpoint_has_facts_of_its_own(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(MODEL)
    hub.reset()
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("127.0.0.1", "localhost"))
    resolve(MODEL)
    assert hub.served()["requests"] > 1


def test_a_model_never_looked_up_says_so_offline(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    with pytest.raises(ModelportError, match="was never looked up on this machine and HF_HUB_OFFLINE forbids"):
        resolve(MODEL)
    assert hub.served()["requests"] == 0


def test_what_huggingface_hub_has_downloaded_is_found_offline(
    hub: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, home = "0123456789abcdef0123456789abcdef01234567", tmp_path / "models--acme--here"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    for name, file in checkpoint(SMALL).items():
        if file.size < 1 << 20:
            (snapshot / name).write_bytes(file.read(0, file.size))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    facts = resolve("acme/here")
    assert (facts.path, facts.revision, facts.layers, facts.download_bytes) == ("acme/here", commit, 2, 0)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelportError, match="was never looked up"):
        resolve("acme/here")


def test_what_was_read_does_not_hold_once_the_hub_refuses(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    resolve("acme/private")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelportError, match="or it is private"):
        resolve("acme/private")


def test_an_adapter_and_its_base_are_kept_too(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve("acme/adapter")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert without_note(resolve("acme/adapter")) == before and before.adapter


def test_the_cache_is_its_owners_and_holds_no_secret(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    resolve("acme/private")
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("://", "://user:hunter2@"))
    resolve("acme/both")
    files = list(facts_directory().iterdir())
    assert len(files) == 4 and facts_directory().stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert not any(word in file.read_text() for file in files for word in (GOOD_TOKEN, "hunter2"))


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"key": [], "revision": 3}', "half", "type", "key"]
)
def test_a_damaged_cache_is_read_past_and_written_anew(hub: Running, damage: bytes | str) -> None:
    before = resolve(MODEL)
    for file in facts_directory().iterdir():
        whole = file.read_bytes()
        content = json.loads(whole)
        if damage == "type" and content["facts"]:
            content["facts"]["layers"] = "many"
        if damage == "key":
            content["key"] = ["another"]
        file.write_bytes(
            damage
            if isinstance(damage, bytes)
            else whole[: len(whole) // 2]
            if damage == "half"
            else json.dumps(content).encode()
        )
    hub.reset()
    assert resolve(MODEL) == before
    assert hub.served()["requests"] > 1
    hub.reset()
    assert resolve(MODEL) == before
    assert hub.served()["requests"] == 1


@pytest.mark.parametrize("place", ["a file", "not writable", "full", "no home"])
def test_a_cache_that_cannot_be_written_fails_nothing(
    hub: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    cache = tmp_path / "cache"
    if place == "a file":
        cache.write_text("here")
    elif place == "not writable":
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/modelport")
    elif place == "full":
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full on this system")
        facts_directory().mkdir(parents=True)
        monkeypatch.setattr("modelport.catalog.cached.tempfile.mkstemp", _onto_a_full_disk(facts_directory()))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/proc/none")
    assert resolve(MODEL).layers == resolve(MODEL).layers == 24


def _onto_a_full_disk(directory: Path):
    def mkstemp(**_: object) -> tuple[int, str]:
        aside = directory / ".full"
        aside.touch()
        return os.open("/dev/full", os.O_WRONLY), str(aside)

    return mkstemp


def test_nothing_is_left_beside_the_facts(hub: Running) -> None:
    resolve(MODEL)
    assert not [file for file in facts_directory().iterdir() if file.name.startswith(".")]
    shutil.rmtree(facts_directory())
    assert resolve(MODEL).layers == 24


def test_facts_of_a_hub_that_is_down_say_of_what_day_they_are(hub: Running) -> None:
    assert not resolve(MODEL).note
    for file in facts_directory().iterdir():
        os.utime(file, (1_700_000_000, 1_700_000_000))
    hub.switch(down="1")
    assert "as last seen on 2023-11-1" in resolve(MODEL).note
    hub.switch(down="0")
    assert not resolve(MODEL).note
    hub.switch(down="1")
    assert "as last seen on 2023" not in resolve(MODEL).note  # it was confirmed since


def test_a_gated_model_says_what_a_start_takes(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    fresh, kept = resolve("acme/gated"), resolve("acme/gated")
    assert fresh == kept and kept.gated and kept.note == "It is gated: a start needs HF_TOKEN with access to it."
    hub.switch(down="1")
    note = resolve("acme/gated").note
    assert "as last seen on" in note and "It is gated" in note


@pytest.mark.parametrize("token", ["", OTHER_TOKEN])
def test_a_gated_model_read_earlier_is_refused_to_who_has_no_access(
    hub: Running, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    commit = resolve("acme/gated").revision
    monkeypatch.setenv("HF_TOKEN", token)
    for source in ("acme/gated", f"acme/gated@{commit}"):
        with pytest.raises(ModelportError, match="is gated: accept its licence"):
            resolve(source)


def test_a_pipe_in_the_cache_is_not_waited_for(hub: Running) -> None:
    resolve(MODEL)
    for file in facts_directory().iterdir():
        file.unlink()
        os.mkfifo(file)
    assert resolve(MODEL).layers == 24


def test_a_relative_place_for_caches_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")  # the XDG base directory specification: such a value is invalid
    assert facts_directory() == tmp_path / ".cache" / "modelport" / "facts"
