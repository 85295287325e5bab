"""The environment's variables: each default, each value that cannot be, and the Spec they make."""

from typing import Any

import pytest

from modelport.endpoint.inputs import INPUTS, spec_from
from modelport.errors import ModelportError

MODEL = {"TARGET_MODEL": "meta-llama/Llama-3.1-8B"}


def refused(**environ: str) -> str:
    with pytest.raises(ModelportError) as caught:
        spec_from({**MODEL, **environ})
    return caught.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "meta-llama/Llama-3.1-8B"),
        ("accelerators", None),
        ("engine", "sglang"),
        ("name", "llama-3-1-8b"),
        ("context", None),
        ("dtype", None),
        ("quantization", None),
        ("memory_fraction", 0.85),
        ("speculative", None),
        ("idle_timeout", 0),
    ],
)
def test_each_default_is_the_job_s(field: str, value: Any) -> None:
    assert getattr(spec_from(MODEL).spec, field) == value


def test_the_defaults_that_are_no_model_s() -> None:
    wanted = spec_from(MODEL)
    assert (wanted.host, wanted.port, wanted.health_timeout_s) == ("0.0.0.0", 8000, 2400)


def test_everything_given_is_in_the_spec() -> None:
    wanted = spec_from(
        {
            "TARGET_MODEL": " org/m ",
            "ACCELERATORS": "H100: 4",
            "ENGINE": "vLLM",
            "SERVED_MODEL_NAME": "Mine",
            "PORT": "8123",
            "MAX_MODEL_LEN": "4096",
            "DTYPE": "BFloat16",
            "QUANTIZATION": "FP8",
            "MEM_FRACTION": "1",
            "HEALTH_TIMEOUT": "90",
            "HF_TOKEN": "hf_secret",
            "SPEC_ENABLED": "TRUE",
            "SPEC_DRAFT_MODEL": "org/draft",
            "SPEC_METHOD": "EAGLE3",
            "SPEC_NUM_TOKENS": "5",
            "HOST": "127.0.0.1",
        }
    )
    spec = wanted.spec
    assert (spec.model, spec.accelerators, spec.engine, spec.name) == ("org/m", "H100:4", "vllm", "mine")
    assert (spec.context, spec.dtype, spec.quantization, spec.memory_fraction) == (4096, "bfloat16", "fp8", 1.0)
    assert spec.speculative and spec.speculative.model_dump() == {"method": "eagle3", "model": "org/draft", "tokens": 5}
    assert (wanted.host, wanted.port, wanted.health_timeout_s) == ("127.0.0.1", 8123, 90)
    assert "hf_secret" not in repr(wanted), "a token is nowhere in what is printed or stored"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ACCELERATORS", "H100", "ACCELERATORS is 'H100', but accelerators are NAME:COUNT, like A100:8."),
        ("ACCELERATORS", "H100:many", "the number of GPUs must be a whole number, not 'many'"),
        ("ACCELERATORS", "H100:0", "the number of GPUs must be at least 1, not 0"),
        ("ACCELERATORS", ":4", "accelerators are NAME:COUNT"),
        ("PORT", "http", "PORT is 'http', but it must be a whole number from 0 to 65,535."),
        ("PORT", "70000", "whole number from 0 to 65,535"),
        ("PORT", "-1", "whole number from 0 to 65,535"),
        ("MAX_MODEL_LEN", "4k", "MAX_MODEL_LEN is '4k', but it must be a whole number from 64"),
        ("MAX_MODEL_LEN", "0", "MAX_MODEL_LEN is '0'"),
        ("DTYPE", "int8", "DTYPE is 'int8', but it can be auto, bfloat16, float16 or float32."),
        ("MEM_FRACTION", "1.5", "MEM_FRACTION is '1.5', but it must be a share of the GPU's memory: above 0"),
        ("MEM_FRACTION", "0", "MEM_FRACTION is '0'"),
        ("MEM_FRACTION", "nan", "MEM_FRACTION is 'nan'"),
        ("MEM_FRACTION", "most", "MEM_FRACTION is 'most'"),
        ("HEALTH_TIMEOUT", "0", "HEALTH_TIMEOUT is '0', but it must be seconds: above 0"),
        ("HEALTH_TIMEOUT", "inf", "HEALTH_TIMEOUT is 'inf'"),
        ("HEALTH_TIMEOUT", "soon", "HEALTH_TIMEOUT is 'soon'"),
        ("TARGET_MODEL", " ", "TARGET_MODEL is required"),
        ("TARGET_MODEL", "a\nb", "TARGET_MODEL is 'a\\nb', but a model is named by"),
    ],
)
def test_each_bad_value_is_one_sentence_that_names_its_variable(variable: str, value: str, words: str) -> None:
    said = refused(**{variable: value})
    assert words in said
    assert said.startswith(variable) and "\n" not in said


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SPEC_DRAFT_MODEL", "", "SPEC_ENABLED=true but SPEC_DRAFT_MODEL is empty"),
        ("SPEC_METHOD", "medusa", "SPEC_METHOD is 'medusa', but it can be eagle, eagle3, ngram"),
        ("SPEC_NUM_TOKENS", "0", "SPEC_NUM_TOKENS is '0', but it must be a whole number from 1 to 32."),
        ("SPEC_NUM_TOKENS", "three", "SPEC_NUM_TOKENS is 'three'"),
    ],
)
def test_speculation_is_checked_when_it_is_on_and_not_read_when_it_is_off(
    variable: str, value: str, words: str
) -> None:
    given = {"SPEC_DRAFT_MODEL": "org/draft", variable: value}
    assert words in refused(SPEC_ENABLED="true", **given)
    assert spec_from({**MODEL, **given}).spec.speculative is None


@pytest.mark.parametrize(("method", "known_as"), [("NGRAM", "ngram"), ("NEXTN", "mtp"), ("mtp", "mtp")])
def test_ways_to_draft_that_need_no_draft_model(method: str, known_as: str) -> None:
    spec = spec_from({**MODEL, "SPEC_ENABLED": "true", "SPEC_METHOD": method}).spec
    assert spec.speculative and spec.speculative.method == known_as


def test_what_is_read_in_a_way_one_might_not_expect_is_said() -> None:
    notes = " ".join(spec_from({**MODEL, "SERVED_MODEL_NAME": "My_Model", "SPEC_ENABLED": "yes"}).notes)
    assert "called my-model; clients may use My_Model too" in notes
    assert "SPEC_ENABLED is 'yes', not true" in notes
    assert "ACCELERATORS is not set" in notes and "HF_TOKEN is not set" in notes
    quiet = {"TARGET_MODEL": "org/m", "ACCELERATORS": "L4:1", "HUGGING_FACE_HUB_TOKEN": "hf_x", "SPEC_ENABLED": "False"}
    assert spec_from(quiet).notes == ()


def test_every_input_says_what_it_is_for_and_none_stands_twice() -> None:
    names = [input.name for input in INPUTS]
    assert len(set(names)) == len(names) == 16
    assert all(input.what for input in INPUTS)
