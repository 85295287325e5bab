"""Spec: one object from YAML, flags and REST, and a sentence for everything that is wrong with one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.spec import NAME, Spec, name_from, parse_file, parse_spec
from modelport.errors import ModelportError


def refusal(data: object) -> str:
    with pytest.raises(ModelportError) as caught:
        parse_spec(data)
    assert caught.value.kind.status == 400
    return caught.value.message


def test_a_model_alone_is_a_spec_with_a_name_made_of_it() -> None:
    assert parse_spec({"model": "/models/Qwen2.5_7B-Instruct.Q4_K_M.gguf"}).name == "qwen2-5-7b-instruct-q4-k-m"


def test_an_unknown_key_is_an_error_that_names_the_nearest_one() -> None:
    assert refusal({"model": "smollm2", "replica": 2}) == (
        "the spec has the unknown key 'replica'. Did you mean 'replicas'?"
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "lacks the key 'model'"),
        ([], "must be a mapping"),
        ("smollm2", "must be a mapping"),
        ({"model": ""}, "model is ''"),
        ({"model": "a\nb"}, "control characters"),
        ({"model": 7}, "model is 7"),
        ({"model": "a", "name": "Big Name"}, "name is 'Big Name'"),
        ({"model": "a", "name": "../etc"}, "name is '../etc'"),
        ({"model": "a", "replicas": 0}, "replicas is 0"),
        ({"model": "a", "port": 70000}, "port is 70000"),
        ({"model": "a", "port": "http"}, "port is 'http'"),
        ({"model": "a", "idle_timeout": "3 parsecs"}, "is not a duration"),
        ({"model": "a", "idle_timeout": -1}, "is not a duration"),
        ({"model": "a", "auth": "none"}, "set port: too"),
        ({"model": "a", "task": "sing"}, "task is 'sing'"),
    ],
)
def test_each_wrong_value_is_named(data: object, words: str) -> None:
    assert words in refusal(data)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("3s", 3), ("1.5h", 5400), ("30m", 1800), ("250ms", 0.25), (7, 7), ("0", 0), ("2d", 172800)],
)
def test_durations_are_written_as_people_do(written: object, seconds: float) -> None:
    assert parse_spec({"model": "a", "idle_timeout": written}).idle_timeout == seconds


@given(st.text(max_size=300))
def test_every_model_gives_a_legal_name(model: str) -> None:
    assert NAME.fullmatch(name_from(model))


def test_only_fields_that_need_a_new_engine_change_the_engine_hash() -> None:
    spec = Spec(model="smollm2")
    for same in ({"replicas": 3}, {"idle_timeout": 5.0}, {"port": 9000}, {"wake_waiters": 1}):
        assert spec.model_copy(update=same).engine_hash() == spec.engine_hash()
    for other in ({"context": 512}, {"parallel": 2}, {"model": "x"}, {"engine": "llamacpp"}, {"task": "embed"}):
        assert spec.model_copy(update=other).engine_hash() != spec.engine_hash()


def test_a_spec_survives_being_written_as_json() -> None:
    spec = Spec(model="smollm2", idle_timeout="3s", port="auto")
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


def test_one_file_holds_several_services_or_one() -> None:
    several = parse_file(
        {"services": {"chat": {"model": "smollm2"}, "words": {"model": "smollm2", "task": "embed"}}}, "f"
    )
    assert [spec.name for spec in several] == ["chat", "words"]
    assert [spec.name for spec in parse_file({"services": [{"model": "smollm2"}]}, "f")] == ["smollm2"]
    assert parse_file({"model": "smollm2"}, "f")[0].name == "smollm2"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "holds no services"),
        ({"services": {}}, "holds no services"),
        ({"services": 3}, "must be a mapping of names to specs"),
        ({"services": {"a": None}}, "service 'a' must be a mapping"),
        ({"services": {"a": {"model": "x", "name": "b"}}}, "calls itself 'b'"),
        ({"services": [{"model": "x"}, {"model": "x"}]}, "names the service 'x' twice"),
        (
            {"services": {"a": {"model": "x", "contxt": 1}}},
            "service 'a' has the unknown key 'contxt'. Did you mean 'context'",
        ),
        ({"services": {"a": {"model": "x"}}, "version": 1}, "unknown key 'version'"),
    ],
)
def test_each_wrong_file_is_refused_with_its_reason(data: object, words: str) -> None:
    with pytest.raises(ModelportError) as caught:
        parse_file(data, "services.yaml")
    assert words in caught.value.message and "services.yaml" in caught.value.message
