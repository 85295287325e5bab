"""Source: where a model server takes its model from: this disk, an archive, the Hub."""

import json
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hub import GOOD_TOKEN, OTHER_TOKEN, Exchange, FakeHub
from tests.harness import until
from tests.runtime.server import Server, toy


class WithTree(Exchange):
    """The fake Hub, with the listing that snapshot_download asks for."""

    def do_GET(self) -> None:
        found = re.match(r"/api/models/([^/]+/[^/]+)/tree/([0-9a-f]+)", self.path)
        if not found:
            return super().do_GET()
        if repo := self.allowed(found[1], found[2]):
            files = repo.files.items()
            entries = [{"type": "file", "path": name, "size": file.size, "oid": "0" * 40} for name, file in files]
            self.answer(200, json.dumps(entries).encode())


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    served = FakeHub(0)
    served.RequestHandlerClass = WithTree
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()


def failed(server: Server) -> str:
    return until(lambda: server.get("/api/v1/status").json()["initialization_error"], what=server.log)


def test_a_hub_model_is_downloaded_into_the_usual_cache_without_its_pickles(hub: str, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_TOKEN": GOOD_TOKEN}
    with Server("--model", "hf_model://acme/gated@v1", "--task", "detect", **env) as server:
        assert "No handler serves this model for the task 'detect'" in failed(server)
        assert "downloading: Download the model's files" in server.log
        assert GOOD_TOKEN not in server.log
    found = {path.name for path in tmp_path.rglob("snapshots/*/*")}
    assert {"config.json", "model.safetensors"} <= found
    with Server("--model", "acme/pytorch", **env) as server:
        failed(server)
    assert not list(tmp_path.rglob("*.bin"))


@pytest.mark.parametrize(
    ("model", "token", "sentence"),
    [
        ("acme/gated", OTHER_TOKEN, "acme/gated is gated: accept its licence on the Hub, and set HF_TOKEN"),
        ("acme/private", OTHER_TOKEN, "The Hub has no model 'acme/private', or HF_TOKEN may not see it."),
        ("acme/gated@none", GOOD_TOKEN, "acme/gated has no revision 'none'."),
        ("hf_model://nobody", GOOD_TOKEN, "no such file or directory, and no Hub id (org/name) either."),
        ("hf_model://../..", GOOD_TOKEN, "no such file or directory, and no Hub id (org/name) either."),
        ("a b/c", GOOD_TOKEN, "is no Hub id."),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: str, tmp_path: Path, model: str, token: str, sentence: str) -> None:
    env = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_TOKEN": token}
    with Server("--model", model, **env) as server:
        assert sentence in failed(server)


def test_an_archive_is_unpacked_once_and_served(tmp_path: Path) -> None:
    toy(tmp_path / "m")
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "m", "m")
    for _ in range(2):
        with Server("--model", archive, XDG_CACHE_HOME=str(tmp_path / "cache")) as server:
            assert server.ready().infer(prompt="x").status_code == 200


def test_a_damaged_archive_says_so_and_names_no_directory(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"\x1f\x8b and no more")
    with Server("--model", tmp_path / "model.tar.gz", XDG_CACHE_HOME=str(tmp_path / "cache")) as server:
        said = failed(server)
        assert "archive" in said
        assert str(tmp_path) not in said


def test_the_base_of_an_adapter_is_brought_here_too(hub: str, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hub")}
    with Server("--model", toy(tmp_path / "m"), "--option", "base_model_path=acme/part", **env) as server:
        assert "'base_model_path' is no option of a toy." in failed(server)
    assert list(tmp_path.rglob("snapshots/*/config.json"))
