"""Which service a request is for: never guessed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ModelportError
from modelport.tao import arch as archs
from modelport.tao import registry, routing
from tests.tao.views import service

RL, DATA, DATA2 = service(1, "cosmos-rl"), service(2), service(3)


def refused(*arguments: Any) -> str:
    with pytest.raises(ModelportError) as error:
        routing.target(*arguments)
    return error.value.message


def test_a_job_id_that_is_named_is_used_and_must_run() -> None:
    assert routing.target([RL, DATA, DATA2], DATA.id) is DATA
    assert routing.target([RL, DATA, DATA2], "job-1") is RL
    message = refused([RL, DATA], DATA2.id)
    assert message.startswith(f"No running inference service found for job_id={DATA2.id}") and RL.id in message
    ended = service(4, state="failed")
    assert "none is running" in refused([ended], ended.id)


def test_an_architecture_is_enough_where_one_service_has_it() -> None:
    assert routing.target([RL, DATA, DATA2], "", "cosmos-rl") is RL
    assert routing.target([RL, DATA, DATA2], "", "COSMOS-RL") is RL
    assert "found for arch=cosmos-predict2.5" in refused([RL], "", "cosmos-predict2.5")
    assert "there is cosmos-rl" in refused([RL], "", "cosmos")


def test_several_of_an_architecture_are_listed_and_none_is_picked() -> None:
    message = refused([RL, DATA2, DATA], "", "tao-dataservices")
    lines = message.splitlines()
    assert lines[0] == "2 services could be meant; say which by its job id:" and len(lines) == 3
    assert DATA.id in lines[1] and DATA2.id in lines[2] and "started_at=2026-05-28T20:28:40+00:00" in lines[1]


def test_without_a_word_only_the_sole_service_is_used_and_never_the_latest() -> None:
    assert routing.target([DATA]) is DATA
    message = refused([RL, DATA])
    assert all(f"job_id={one.id} arch={registry.arch(one)} url=http://localhost" in message for one in (RL, DATA))
    assert refused([]) == "No running inference service found; start one with `modelport tao start`."
    assert "No running" in refused([service(1, skill=False)])


def test_an_id_and_an_architecture_that_disagree_are_refused() -> None:
    assert f"job_id={RL.id} is of the architecture cosmos-rl, not tao-dataservices" in refused(
        [RL], RL.id, "tao-dataservices"
    )


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(archs.ARCHS)), st.sampled_from(["ready", "failed", "starting"])), max_size=6
    ),
    st.sampled_from(["", *archs.ARCHS]),
)
def test_whatever_runs_a_target_is_the_only_candidate(running: list[tuple[str, str]], wanted: str) -> None:
    views = [service(n, arch, state=state) for n, (arch, state) in enumerate(running, 1)]
    fitting = [v for v in views if v.state != "failed" and wanted in ("", registry.arch(v))]
    try:
        assert [routing.target(views, "", wanted)] == fitting
    except ModelportError as error:
        assert len(fitting) != 1 and all(view.id in error.message for view in fitting)


def body(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], **more}


@pytest.mark.parametrize("field", ["guidance", "num_steps", "seed", "negative_prompt", "inference_type"])
def test_what_only_cosmos_predict_understands_goes_nowhere_else(field: str) -> None:
    routing.cross_check(service(1, "cosmos-predict2.5"), body(**{field: 1}))
    with pytest.raises(ModelportError, match=f"The body has {field}, which cosmos-predict2.5 understands"):
        routing.cross_check(DATA, body(**{field: 1}))


def test_cosmos_rl_is_not_asked_without_media() -> None:
    routing.cross_check(DATA, body())
    with pytest.raises(ModelportError, match="cosmos-rl needs an image or a video in every request"):
        routing.cross_check(RL, body())
    item = {"type": "image_url", "image_url": {"url": "https://host/a.png"}}
    routing.cross_check(RL, {"messages": [{"role": "user", "content": [item]}]})
    second = [{"role": "user", "content": "Hi"}, {"role": "user", "content": [item]}]
    with pytest.raises(ModelportError, match="needs an image"):  # only the first user message is read
        routing.cross_check(RL, {"messages": second})
