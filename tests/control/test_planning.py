"""What planning refuses and what it lets pass, on this machine and on others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelport.control import planning
from modelport.control.known import Known
from modelport.domain.plan import Change, Span
from modelport.domain.spec import Spec, Speculative
from modelport.errors import ModelportError
from modelport.store.starts import Learned
from tests.catalog.write_gguf import llama
from tests.catalog.write_safetensors import llama_directory


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
    after = planning.preview(spec, Known(Learned({"llamacpp": 2.0}, {(spec.model, "llamacpp"): Span(1, 2, 3)})))
    assert after.parts["program"] == pytest.approx(2 * before.parts["program"], rel=0.01)
    assert after.parts["weights"] == before.parts["weights"]
    assert after.ready_s == Span(1, 2, 3)
    assert any("is multiplied by 2.00" in reason for reason in after.reasons)


def test_what_this_machine_taught_is_not_for_others(spec: Spec) -> None:
    far = spec.model_copy(update={"accelerators": "H100:1"})
    taught = Known(Learned({"llamacpp": 2.0}, {(spec.model, "llamacpp"): Span(1, 2, 3)}))
    assert planning.preview(far, taught).parts == planning.preview(far).parts


def config(directory: Path, **more: object) -> str:
    """A config.json of Qwen2.5-7B's shape."""
    shape = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "torch_dtype": "bfloat16",
        "vocab_size": 152064,
    }
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(shape | more))
    return str(directory / "config.json")


def test_a_dtype_that_the_gpu_lacks_is_a_plan_that_does_not_fit_and_says_why(tmp_path: Path) -> None:
    spec = Spec(model=config(tmp_path / "m"), engine="vllm", accelerators="T4:4", dtype="bfloat16")
    view = planning.preview(spec)
    assert view.verdict == "does_not_fit" and "T4 does not compute in bfloat16" in view.reasons[0]
    assert any(change.sentence.startswith("Leave dtype out") for change in view.changes)
    unasked = planning.preview(spec.model_copy(update={"dtype": None}))
    assert unasked.verdict == "fits" and "vllm uses float16 there" in unasked.reasons[0]


def test_quantization_that_the_gpu_lacks_stays_an_error_with_what_works(tmp_path: Path) -> None:
    with pytest.raises(ModelportError) as caught:
        planning.preview(Spec(model=config(tmp_path / "m"), engine="sglang", accelerators="A10:1", quantization="fp8"))
    assert caught.value.param == "quantization" and "int8wo" in caught.value.message


def test_offers_count_the_draft_model_and_fail_with_it(tmp_path: Path) -> None:
    target = Spec(model=config(tmp_path / "m"), engine="vllm", context=8192)
    draft = str(llama_directory(tmp_path / "d"))
    drafted = target.model_copy(update={"speculative": Speculative(method="draft", model=draft)})
    first, second = ({view.device: view for view in planning.offers(spec)} for spec in (target, drafted))
    both = first.keys() & second.keys()
    same = [name for name in both if first[name].split == second[name].split]
    assert same and all(second[name].parts["weights"] > first[name].parts["weights"] for name in same)
    gone = Speculative(method="draft", model=str(tmp_path / "none"))
    with pytest.raises(ModelportError, match="The draft model: "):
        planning.offers(target.model_copy(update={"speculative": gone}))


def test_the_user_s_own_prices_are_used(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = spec.model_copy(update={"accelerators": "H100:1"})
    assert planning.offers(far)
    (tmp_path / "modelport").mkdir()
    (tmp_path / "modelport" / "prices.yaml").write_text("prices: nonsense")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ModelportError, match=r"prices\.yaml"):
        planning.offers(far)
