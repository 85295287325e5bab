"""The endpoint contract's own test vectors, its results beside ours (bench/data/contract_003.json, with the reasons)."""

import json
from dataclasses import replace
from typing import Any

import pytest

from modelport.domain.spec import Spec
from modelport.planner import accelerators, devices_of
from modelport.planner.room import room_of
from modelport.planner.served import Question
from tests.harness import ROOT
from tests.planner.models import Shape, simple_estimate, simple_need

DATA = json.loads((ROOT / "bench/data/contract_003.json").read_text())
CASES = [(vector, engine) for vector in DATA["vectors"] for engine in vector["ours"]]
DEGREES = ("tensor", "pipeline", "data", "expert")
VERSIONS = {"sglang": "0.5.6", "vllm": ""}
each_vector = pytest.mark.parametrize(
    ("vector", "engine"), CASES, ids=[f"{v['model']}-{v['accelerators']}-{v['quantization']}-{e}" for v, e in CASES]
)


def asked(vector: dict[str, Any], engine: str) -> Question:
    facts = Shape(vector["model"], **DATA["models"][vector["model"]]).facts()
    spec = Spec(model=vector["model"], quantization=vector["quantization"] or None)
    room = room_of(devices_of(accelerators(vector["accelerators"])), engine, spec)
    return Question(facts, spec, engine, room, VERSIONS[engine])


def answer(question: Question) -> dict[str, Any]:
    chosen = question.choose()
    return {"fits": chosen.verdict == "fits"} | {name: getattr(chosen.split, name) for name in DEGREES}


def both(vector: dict[str, Any], engine: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """By the plain figures, which can be checked by hand, and as calibrated; printed where they differ."""
    question = asked(vector, engine)
    plain = answer(replace(question, estimator=simple_estimate, cache_need=simple_need))
    calibrated = answer(question)
    if plain != calibrated:
        print(f"{vector['model']} on {vector['accelerators']} {vector['quantization']} by {engine}:")
        print(f"  by the plain figures {plain}\n  as calibrated        {calibrated}")
    return plain, calibrated


@each_vector
def test_ours_and_the_calibrated_are_what_stands_beside_the_contracts(vector: dict[str, Any], engine: str) -> None:
    plain = vector["ours"][engine]
    assert both(vector, engine) == (plain, vector.get("calibrated", {}).get(engine, plain))


@each_vector
def test_no_split_of_ours_cuts_heads(vector: dict[str, Any], engine: str) -> None:
    shape = DATA["models"][vector["model"]]
    for found in both(vector, engine):
        assert shape["heads"] % found["tensor"] == 0
        assert shape["kv"] % found["tensor"] == 0 or found["tensor"] % shape["kv"] == 0


def test_the_calibrated_stands_beside_ours_only_where_it_differs_and_is_named() -> None:
    for vector in DATA["vectors"]:
        for engine, found in vector.get("calibrated", {}).items():
            assert found != vector["ours"][engine] and "calibrated" in vector["why"]


def test_where_ours_differs_a_reason_stands_beside_it() -> None:
    assert len(DATA["vectors"]) == 12
    for vector in DATA["vectors"]:
        theirs, ours = {"pipeline": 1, **vector["theirs"]}, vector["ours"]["sglang"]
        same = all(theirs.get(name) == value for name, value in ours.items())
        assert same or not vector["why"].startswith("The same"), vector["why"]
        assert vector["why"].endswith(".")


def test_two_of_the_contracts_splits_cut_key_value_heads() -> None:
    cutting = [
        vector["model"]
        for vector in DATA["vectors"]
        if (tensor := vector["theirs"].get("tensor"))
        and DATA["models"][vector["model"]]["kv"] % tensor
        and tensor % DATA["models"][vector["model"]]["kv"]
    ]
    assert cutting == ["28-heads", "14-heads"]
