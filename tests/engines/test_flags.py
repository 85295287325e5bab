"""Each engine's table of options against the lists read out of its published packages (bench/engine_flags.py)."""

import json
from importlib import import_module
from typing import Any

import pytest

from modelport.engines.flags import Range, number
from tests.harness import ROOT

DATA: dict[str, Any] = json.loads((ROOT / "bench/data/engine_flags.json").read_text())
TGI: dict[str, Any] = json.loads((ROOT / "bench/data/engine_flags_tgi.json").read_text())
FLAGS: dict[str, dict[str, list[str]]] = {**DATA["flags"], **TGI["flags"]}
ENGINES = {name: import_module(f"modelport.engines.{name}") for name in FLAGS}


def versions(engine: str) -> list[str]:
    oldest = number(ENGINES[engine].OLDEST)
    return [version for version in FLAGS[engine] if number(version) >= oldest]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_option_is_in_exactly_the_versions_that_the_table_says(engine: str) -> None:
    wrong = [
        f"{flag} {version}"
        for flag, versions_of_it in ENGINES[engine].FLAGS.items()
        for version in versions(engine)
        if versions_of_it.holds(version) != (flag in FLAGS[engine][version])
    ]
    assert not wrong


@pytest.mark.parametrize("engine", ENGINES)
def test_the_oldest_and_the_newest_are_what_was_looked_at(engine: str) -> None:
    assert ENGINES[engine].OLDEST in FLAGS[engine]
    assert number(ENGINES[engine].NEWEST) == max(map(number, FLAGS[engine]))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_quantization_is_a_choice_of_the_versions_that_have_it(engine: str) -> None:
    rows = [row for row in ENGINES[engine].QUANTIZERS.values() if row.argv[0] == "--quantization"]
    assert rows
    for row in rows:
        for version in versions(engine):
            choices = DATA["values"][engine][version]["--quantization"]
            assert row.versions.holds(version) == (row.argv[1] in choices), (row, version)


def test_every_speculative_method_of_vllm_is_a_choice_of_the_versions_that_have_it() -> None:
    for method, since in ENGINES["vllm"].METHODS.values():
        for version in versions("vllm"):
            known = method in DATA["values"]["vllm"][version]["speculative method"]
            assert known or not since.holds(version), (method, version)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_refused_exists_and_hides_no_other_option(engine: str) -> None:
    """A refused option is refused by its beginnings too: none of those may be an option that somebody could want."""
    module, newest = ENGINES[engine], FLAGS[engine][ENGINES[engine].NEWEST]
    ever = {flag for version in versions(engine) for flag in FLAGS[engine][version]} | {
        "--model",
        "--served-model-name",
    }
    long = [flag for flag in module.REFUSED if flag.startswith("--")]
    assert not [flag for flag in long if flag not in ever]
    hidden = {other for other in newest for flag in long if flag != other and flag.startswith(other)} - set(long)
    assert not hidden


OUTWARD = {"host", "port", "ssl", "uds", "grpc", "middleware"}
INWARD = (
    "disaggregation-",
    "remote-instance-",
    "hicache-",
    "encoder-",
    "engine-info-",
    "gated-launch-",
    "data-parallel-",
)
"""Of options that only take effect in setups of several machines or processes, which we do not start."""


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_option_about_keys_and_addresses_is_refused(engine: str) -> None:
    module = ENGINES[engine]
    about = [
        flag
        for flag in FLAGS[engine][module.NEWEST]
        if (OUTWARD & set(flag.split("-")) or "api-key" in flag) and not flag.removeprefix("--").startswith(INWARD)
    ]
    assert len(about) > 8
    assert not set(about) - set(module.REFUSED) - {"--master-port", "--grpc-response-timeout-secs"}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_option_that_splits_a_model_or_spans_machines_is_refused(engine: str) -> None:
    module = ENGINES[engine]
    about = [
        flag
        for flag in FLAGS[engine][module.NEWEST]
        if flag.startswith(("--data-parallel-", "--nnodes", "--node-rank")) or flag.endswith("-parallel-size")
    ]
    assert len(about) > 8
    assert not set(about) - set(module.REFUSED)


def test_versions_compare_as_numbers() -> None:
    assert Range(since="0.9.2").holds("0.10.0") and not Range(since="0.10.0").holds("0.9.2")
    assert Range(until="0.5.16").holds("0.5.9") and not Range(until="0.5.16").holds("0.5.23")
    assert Range(since="0.13.0").holds("0.13.0rc2.dev112+g763963aa7") and Range().holds("")
