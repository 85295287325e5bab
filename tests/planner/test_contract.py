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


@each_vector
def test_ours_is_what_stands_beside_the_contracts(vector: dict[str, Any], engine: str) -> None:
    plain = replace(asked(vector, engine), estimator=simple_estimate, cache_need=simple_need)
    assert answer(plain) == vector["ours"][engine]


@each_vector
def test_calibrated_memory_says_the_same_unless_it_is_tight(vector: dict[str, Any], engine: str) -> None:
    found = answer(asked(vector, engine))
    shape = DATA["models"][vector["model"]]
    assert shape["heads"] % found["tensor"] == 0
    assert shape["kv"] % found["tensor"] == 0 or found["tensor"] % shape["kv"] == 0
    assert vector.get("tight") or found == vector["ours"][engine]


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
