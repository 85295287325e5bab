"""What engines take for settings that nobody gave, as their sources say."""

import pytest

from modelport.domain.plan import Split
from modelport.planner.calibration import NEWEST, parse_version, table
from modelport.planner.defaults import defaults
from modelport.planner.gpus import GPUS


@pytest.mark.parametrize(
    ("engine", "version", "gpu", "tensor", "fraction", "tokens", "requests"),
    [
        ("vllm", "0.12.0", "H100", 1, 0.9, 8192, 1024),
        ("vllm", "0.12.0", "A100-80GB", 1, 0.9, 2048, 256),  # named in arg_utils.py, whatever its memory
        ("vllm", "0.8.5", "A100-80GB", 1, 0.9, 8192, 1024),  # before it was
        ("vllm", "0.12.0", "L4", 1, 0.9, 2048, 256),
        ("vllm", "0.32.0", "H100", 1, 0.92, 8192, 1024),
        ("vllm", "0.32.0", "B200", 1, 0.92, 16384, 1024),
        ("vllm", "0.32.0", "GB10", 1, 0.92, 2048, 256),
        ("sglang", "0.4.3", "H100", 1, 0.88, 8192, 1024),
        ("sglang", "0.4.3", "H100", 8, 0.81, 8192, 1024),
        ("sglang", "0.1.17", "A10G", 4, 0.82, 2048, 1024),
    ],
)
def test_defaults_are_the_engines_own(
    engine: str, version: str, gpu: str, tensor: int, fraction: float, tokens: int, requests: int
) -> None:
    found = defaults(engine, parse_version(engine, version), GPUS[gpu], Split(tensor), 8192)
    assert (found.memory_fraction, found.batched_tokens, found.requests) == (fraction, tokens, requests)


def test_the_first_vllm_read_a_prompt_in_one_step() -> None:
    assert defaults("vllm", (0, 5, 4), GPUS["H100"], Split(), 20_000).batched_tokens == 20_000
    assert defaults("vllm", (0, 5, 4), GPUS["H100"], Split(), 131_072).batched_tokens == 512


@pytest.mark.parametrize("text", ["0.12.0", "0.13.0rc2.dev112+g763963aa7.d20251213", "v0.12", "~0.4.1)", "0.8.x"])
def test_versions_are_read_out_of_whatever_engines_call_themselves(text: str) -> None:
    assert parse_version("vllm", text)[0] == 0 and len(parse_version("vllm", text)) >= 2


def test_no_version_is_the_newest_known() -> None:
    assert parse_version("sglang", "") == NEWEST["sglang"]


def test_every_row_of_the_calibration_is_an_interval_around_its_guess() -> None:
    assert len(table()) > 50
    for row in table():
        assert row.other_low_gib <= row.other_gib <= row.other_high_gib and row.other_gib >= 0, row
        assert row.since < row.until and row.tensor_from <= row.tensor_to
