"""Settings: flags over environment over file over defaults, and every value's origin."""

from pathlib import Path

import pytest

from modelport.errors import ModelportError
from modelport.settings import TAKEN_PORTS, Settings, load


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_each_source_wins_over_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modelport.yaml").write_text("port: 1001\nhost: 0.0.0.0\nlease: 5m\n")
    monkeypatch.setenv("MODELPORT_PORT", "1002")
    monkeypatch.setenv("MODELPORT_LEASE", "7m")
    settings, origins = load({"port": 1003, "host": None})
    assert (settings.port, settings.lease, settings.host) == (1003, 420.0, "0.0.0.0")
    assert origins["port"] == "flag"
    assert origins["lease"] == "MODELPORT_LEASE"
    assert origins["host"] == "modelport.yaml"
    assert origins["engine_ports"] == "default"
    assert settings.state_dir == tmp_path / "state" / "modelport"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1", "unknown key 'prot'. Did you mean 'port'"),
        ("port: many", "port is 'many'"),
        ("lease: soon", "is not a duration"),
        ("[1, 2]", "cannot be read as YAML settings"),
        ("a: [", "cannot be read as YAML settings"),
    ],
)
def test_a_wrong_file_is_a_sentence_with_the_file_in_it(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "modelport.yaml").write_text(text)
    with pytest.raises(ModelportError) as caught:
        load({})
    assert words in caught.value.message and "modelport.yaml" in caught.value.message


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelportError, match=r"nowhere\.yaml does not exist"):
        load({}, tmp_path / "nowhere.yaml")


def test_a_variable_that_is_no_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPORT_PROT", "9000")
    with pytest.raises(ModelportError, match="MODELPORT_PROT, which is not a setting. Did you mean 'MODELPORT_PORT'"):
        load({})


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPORT_PORT", "99999")
    with pytest.raises(ModelportError, match="MODELPORT_PORT.*port is '99999'"):
        load({})


def test_a_socket_path_that_is_too_long_names_the_setting_that_helps(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / ("x" * 120))
    with pytest.raises(ModelportError, match="more than the 100 a unix socket can have.*runtime_dir"):
        settings.socket  # noqa: B018
    shared = Path("/run/mp")
    one, other = (Settings(state_dir=tmp_path / name, runtime_dir=shared).socket for name in ("x" * 120, "y"))
    assert one.parent == other.parent == shared
    assert one != other, "two installations may share a runtime directory"


def test_automatic_ports_leave_the_presets_alone() -> None:
    for port in (8080, 8100, 8199, 8700):
        assert any(port in preset for preset in TAKEN_PORTS)
