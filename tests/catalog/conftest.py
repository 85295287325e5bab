"""A fake Hub, and an environment that knows of no other and has nothing in its cache."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from tests.fakes.hub import Running, running_hub

SETTINGS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_OIDC_RESOURCE")


@pytest.fixture(scope="module")
def fake_hub() -> Iterator[Running]:
    with running_hub() as running:
        yield running


@pytest.fixture
def hub(fake_hub: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_ENDPOINT", fake_hub.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fake_hub.switch(down="0")
    fake_hub.reset()
    return fake_hub
