"""The planner keeps its word against what engines printed on real GPUs (bench/data): the published bars, as a test."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def ran(script: str, *flags: object) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench" / script), "--json", *(str(flag) for flag in flags)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def scored() -> dict[str, Any]:
    return ran("planner.py")


def test_free_cache_is_told_within_five_percent_in_the_median(scored: dict[str, Any]) -> None:
    assert scored["free_kv_tokens"]["rows"] > 90
    assert scored["free_kv_tokens"]["median"] <= 0.05
    assert scored["free_kv_share_of_gpu"]["p90"] <= 0.04


def test_nothing_is_said_to_fit_that_did_not(scored: dict[str, Any]) -> None:
    assert scored["verdict_rows"] > 100
    assert scored["false_fits"] == []


def test_intervals_hold_nine_of_ten_and_few_answers_are_too_close(scored: dict[str, Any]) -> None:
    assert scored["coverage"] >= 0.9
    assert scored["too_close"] <= 0.15


def test_rules_of_thumb_do_worse_on_the_same_rows(scored: dict[str, Any]) -> None:
    for name, errors in scored["peers"].items():
        assert errors["median"] > 2 * scored["free_kv_tokens"]["median"], name


def test_published_recipes_are_agreed_with() -> None:
    found = ran("recipes.py")
    assert found["decided"] > 70 and found["agreed"] / found["decided"] > 0.95, found["disagreed"]


def test_the_calibration_in_the_package_is_the_one_that_the_script_makes(tmp_path: Path) -> None:
    made = tmp_path / "calibration.json"
    subprocess.run(
        [sys.executable, str(ROOT / "bench" / "calibrate.py"), "--out", str(made)],
        check=True,
        capture_output=True,
        timeout=100,
    )
    assert json.loads(made.read_text()) == json.loads((ROOT / "modelport/planner/calibration.json").read_text())


def test_rows_that_cannot_be_planned_are_named_with_the_reason(tmp_path: Path) -> None:
    row = json.loads((ROOT / "bench/data/cases.jsonl").read_text().splitlines()[0])
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(json.dumps({**row, **change}) for change in ({"id": "x", "model_id": "no/such"}, {})))
    found = ran("planner.py", "--cases", cases)
    assert found["planned"] == 1 and ["x"] in found["not_planned"].values()
