"""Which container image serves an architecture."""

import json
from pathlib import Path

import pytest

from modelport.errors import ModelportError
from modelport.tao import images

TAGS = {
    "cosmos-rl": "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-rl",
    "cosmos-predict2.5": "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-predict",
    "tao-dataservices": "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-data-services",
}
KEYS = {
    "cosmos-rl": "COSMOS_RL",
    "cosmos-predict2.5": "COSMOS_PREDICT2_5",
    "tao-dataservices": "TAO_DATASERVICES",
}


def versions(directory: Path, **names: str) -> Path:
    path = directory / "versions.yaml"
    lines = "\n".join(f"    {name}: {uri}" for name, uri in names.items())
    path.write_text(f"images:\n  tao_toolkit:\n{lines}\nwheels:\n  some: thing==1\n")
    return path


def sidecar(directory: Path, arch: str, image: object = "", model_path: object = "") -> Path:
    text = {"api_params": {"image": image}, "spec_params": {"inference": {"model_path": model_path}}}
    (directory / f"{arch}.config.json").write_text(json.dumps(text))
    return directory


@pytest.mark.parametrize("arch", TAGS)
def test_each_architecture_has_the_image_of_the_release(arch: str) -> None:
    found = images.resolve(arch)
    assert (found.uri, found.key) == (TAGS[arch], KEYS[arch])


def test_the_place_that_the_release_lacks_falls_back_to_the_one_it_has(tmp_path: Path) -> None:
    """7.0.0 maps cosmos-predict2.5 to cosmos_predict_2_5, which its versions.yaml does not have."""
    own = versions(tmp_path, cosmos_predict="registry.test/predict:1")
    assert images.resolve("cosmos-predict2.5", versions=own).uri == "registry.test/predict:1"
    both = versions(tmp_path, cosmos_predict="registry.test/predict:1", cosmos_predict_2_5="registry.test/predict:2")
    assert images.resolve("cosmos-predict2.5", versions=both).uri == "registry.test/predict:2"


def test_the_environment_comes_before_the_mapping_as_an_image_or_as_a_place(tmp_path: Path) -> None:
    found = images.resolve("cosmos-rl", environ={"IMAGE_COSMOS_RL": "registry.test/mine@sha256:" + "0" * 64})
    assert found.uri.startswith("registry.test/mine@sha256") and found.origin == "IMAGE_COSMOS_RL"
    own = versions(tmp_path, vila="registry.test/vila:3")
    place = {"IMAGE_COSMOS_RL": "tao_toolkit.vila"}
    assert images.resolve("cosmos-rl", versions=own, environ=place).uri == "registry.test/vila:3"
    assert images.resolve("cosmos-rl", environ={"IMAGE_TAO_DATASERVICES": "x/y:1"}).uri == TAGS["cosmos-rl"]
    assert images.resolve("cosmos-rl", environ={"IMAGE_COSMOS_RL": "  "}).uri == TAGS["cosmos-rl"]


def test_an_image_that_is_named_wins_over_everything() -> None:
    found = images.resolve("cosmos-rl", image="registry.test/me:9", environ={"IMAGE_COSMOS_RL": "x/y:1"})
    assert (found.uri, found.key, found.origin) == ("registry.test/me:9", "", "--image")


def test_a_sidecar_names_the_key_and_whether_a_path_is_a_directory(tmp_path: Path) -> None:
    sidecar(tmp_path, "cosmos-rl", "TAO_DATASERVICES", "some_folder_of_it")
    found = images.resolve("COSMOS-RL", sidecars=tmp_path)
    assert found.uri == TAGS["tao-dataservices"] and found.folder
    assert not images.resolve("cosmos-rl").folder
    assert images.resolve("cosmos-predict2.5").folder and images.resolve("tao-dataservices").folder


@pytest.mark.parametrize("image", ["", None, 7])
def test_without_a_sidecar_or_with_an_empty_key_it_is_cosmos_rl(tmp_path: Path, image: object) -> None:
    assert images.resolve("cosmos-predict2.5", sidecars=tmp_path).key == "COSMOS_RL"
    sidecar(tmp_path, "cosmos-predict2.5", image)
    assert images.resolve("cosmos-predict2.5", sidecars=tmp_path).uri == TAGS["cosmos-rl"]
    assert images.resolve("something-new").key == "COSMOS_RL"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("images: [", "is not YAML"),
        ("- a", "must be a mapping"),
        ("wheels: {}", "has no `images:`"),
        ("images: {tao_toolkit: x}", "images.tao_toolkit must be a mapping"),
        ("images: {tao_toolkit: {pyt: 'x/y:1'}}", "has no images.tao_toolkit.cosmos_rl; it has tao_toolkit.pyt"),
        ("images: {tao_toolkit: {cosmos_rl: 'x/y:1; rm -rf /'}}", "which is no container image"),
        ("images: {tao_toolkit: {cosmos_rl: '--privileged'}}", "which is no container image"),
    ],
)
def test_a_versions_file_that_does_not_say_it_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "versions.yaml"
    path.write_text(text)
    with pytest.raises(ModelportError, match=sentence.replace("(", r"\(")):
        images.resolve("cosmos-rl", versions=path)


def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelportError, match="cannot be read: No such file"):
        images.resolve("cosmos-rl", versions=tmp_path / "none.yaml")
    (tmp_path / "cosmos-rl.config.json").write_text("{")
    with pytest.raises(ModelportError, match="is not JSON"):
        images.resolve("cosmos-rl", sidecars=tmp_path)
    sidecar(tmp_path, "cosmos-rl", "COSMOS RL")
    with pytest.raises(ModelportError, match="a key is of A-Z"):
        images.resolve("cosmos-rl", sidecars=tmp_path)
    sidecar(tmp_path, "cosmos-rl", "COSMOS_RLL")
    with pytest.raises(ModelportError, match="Did you mean 'COSMOS_RL'"):
        images.resolve("cosmos-rl", sidecars=tmp_path)
