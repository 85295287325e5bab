"""What planning refuses and what it lets pass, on this machine and on others."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelport.control import planning
from modelport.domain.plan import Change, Span
from modelport.domain.spec import Spec
from modelport.errors import ModelportError
from modelport.store.starts import Learned
from tests.catalog.write_gguf import llama


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return Spec(model=str(llama(tmp_path / "m.gguf")), engine="llamacpp", accelerators=None)


@pytest.fixture
def prepared(spec: Spec) -> planning.Prepared:
    pytest.importorskip("xllamacpp")
    return planning.prepare(spec)


def test_too_close_to_say_may_start_and_says_so(prepared: planning.Prepared) -> None:
    close = replace(prepared, plan=replace(prepared.plan, verdict="too_close"))
    assert planning.must_fit(close) is close
    assert "too close to say" in close.plan.sentence()


def test_what_does_not_fit_is_refused_with_why_and_what_would(prepared: planning.Prepared) -> None:
    plan = replace(prepared.plan, verdict="does_not_fit", reasons=("It lacks 3 GiB.",), changes=(Change("Take two."),))
    with pytest.raises(ModelportError, match=r"It does not fit: .* It lacks 3 GiB\. Take two\.") as caught:
        planning.must_fit(replace(prepared, plan=plan))
    assert caught.value.kind.code == "does_not_fit"


def test_what_this_machine_taught_is_in_its_plans_and_said(spec: Spec) -> None:
    before = planning.preview(spec)
    after = planning.preview(spec, Learned({"llamacpp": 2.0}, {(spec.model, "llamacpp"): Span(1, 2, 3)}))
    assert after.parts["program"] == pytest.approx(2 * before.parts["program"], rel=0.01)
    assert after.parts["weights"] == before.parts["weights"]
    assert after.ready_s == Span(1, 2, 3)
    assert any("is multiplied by 2.00" in reason for reason in after.reasons)


def test_what_this_machine_taught_is_not_for_others(spec: Spec) -> None:
    far = spec.model_copy(update={"accelerators": "H100:1"})
    taught = Learned({"llamacpp": 2.0}, {(spec.model, "llamacpp"): Span(1, 2, 3)})
    assert planning.preview(far, taught).parts == planning.preview(far).parts


def test_the_user_s_own_prices_are_used(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = spec.model_copy(update={"accelerators": "H100:1"})
    assert planning.offers(far)
    (tmp_path / "modelport").mkdir()
    (tmp_path / "modelport" / "prices.yaml").write_text("prices: nonsense")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ModelportError, match=r"prices\.yaml"):
        planning.offers(far)
