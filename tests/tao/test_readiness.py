"""Waiting until a service is ready, and what its health route means in both of its shapes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.domain.answers import Facts
from modelport.domain.answers import readiness as answered
from modelport.domain.progress import Progress, Stage
from modelport.domain.service import ServiceView
from modelport.errors import NOT_FOUND, ModelportError
from modelport.tao import readiness
from modelport.tao.readiness import Look, Verdict
from tests.tao.views import service

JSON = st.recursive(st.none() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i))


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, {"status": "ready"}, "ready"),
        # As NVIDIA's server says it.
        (503, {"status": "not_ready", "reason": "server_initializing", "message": "m"}, "wait"),
        (503, {"status": "not_ready", "reason": "model_loading"}, "wait"),
        (503, {"status": "not_ready", "reason": "model_not_loaded"}, "wait"),
        (503, {"status": "not_ready", "reason": "initialization_failed"}, "failed"),
        (503, {"status": "not_ready", "reason": "model_load_failed"}, "failed"),
        # As its skill looks for it.
        (202, {"error": {"type": "server_initializing"}}, "wait"),
        (202, {"error": {"type": "model_loading"}}, "wait"),
        (503, {"error": {"type": "model_not_ready"}}, "wait"),
        (503, {"error": {"type": "initialization_error", "message": "x"}}, "failed"),
        (503, {"error": {"type": "model_load_error"}}, "failed"),
        # As our gateway says it of any service.
        (503, {"error": {"type": "service_unavailable", "code": "not_ready"}}, "wait"),
        (503, {"error": {"type": "service_unavailable", "code": "service_failed"}}, "failed"),
        (401, {"error": {"type": "authentication_error"}}, "failed"),
        (404, {"detail": "no"}, "unknown"),
        (503, "busy", "unknown"),
        (500, {"error": {"type": "model_load_error"}}, "unknown"),
    ],
)
def test_each_answer_has_one_meaning(status: int, body: object, verdict: str) -> None:
    assert readiness.read(status, body).verdict == verdict


@pytest.mark.parametrize(
    ("progress", "verdict"),
    [
        (Progress(Stage.INITIALIZING), "wait"),
        (Progress(Stage.DOWNLOADING), "wait"),
        (Progress(Stage.LOADING), "wait"),
        (Progress(Stage.READY), "ready"),
        (Progress(Stage.ERROR, error="gone", failed_in="initialization"), "failed"),
        (Progress(Stage.ERROR, error="corrupt", failed_in="load"), "failed"),
    ],
)
def test_our_own_runtimes_answers_are_understood(progress: Progress, verdict: str) -> None:
    found = readiness.read(*answered(Facts("j"), progress, 0.0))
    assert found.verdict == verdict
    assert verdict == "ready" or found.message == progress.sentence


@given(st.sampled_from([200, 202, 400, 401, 404, 500, 503]), JSON)
def test_whatever_is_answered_it_has_a_meaning(status: int, body: object) -> None:
    assert readiness.read(status, body).verdict in set(Verdict)


@dataclass
class Scene:
    """A service whose states and health answers follow a script, and a clock that moves only when it is slept on."""

    views: Iterator[ServiceView]
    looks: Iterator[Look]
    now: float = 0.0
    asked: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def probe(self) -> Look:
        self.asked.append(self.now)
        return next(self.looks)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, **more: Any) -> ServiceView:
        return readiness.wait(
            "j", lambda: next(self.views), self.probe, say=self.said.append, clock=lambda: self.now, sleep=self.sleep, **more
        )  # fmt: skip


def forever(*items: Any) -> Iterator[Any]:
    yield from items[:-1]
    while True:
        yield items[-1]


STARTING, READY = service(1, state="starting"), service(1)
WAIT, DONE, SILENT = Look(Verdict.WAIT, "Model is loading"), Look(Verdict.READY), Look(Verdict.UNKNOWN)


def test_the_health_route_is_asked_every_ten_seconds() -> None:
    scene = Scene(forever(STARTING), forever(WAIT, WAIT, WAIT, DONE))
    assert scene.wait() is STARTING
    assert scene.asked == [0.0, 10.0, 20.0, 30.0]
    assert scene.said == ["Model is loading"]


def test_it_is_asked_at_once_when_control_takes_the_service_for_ready() -> None:
    scene = Scene(forever(STARTING, STARTING, READY), forever(WAIT, DONE))
    assert scene.wait() is READY
    assert scene.now == 1.0


def test_an_engine_without_a_health_route_is_ready_when_control_says_so() -> None:
    scene = Scene(forever(STARTING, READY), forever(SILENT))
    assert scene.wait() is READY


def test_silence_while_it_starts_is_waited_out() -> None:
    scene = Scene(forever(STARTING), forever(SILENT, SILENT, WAIT, DONE))
    assert scene.wait() is STARTING


def test_a_load_that_failed_ends_the_waiting_with_its_reason() -> None:
    scene = Scene(forever(STARTING), forever(WAIT, Look(Verdict.FAILED, "Model failed to load: corrupt")))
    with pytest.raises(
        ModelportError, match="job_id=j cannot be used: Model failed to load: corrupt. `modelport tao logs j`"
    ):
        scene.wait()
    assert scene.now <= 10.0


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        (service(1, state="failed", reason="The model needs more memory than there is."), "needs more memory"),
        (service(1, state="stopped", desired="stopped", reason="idle"), "cannot be used: idle"),
        (service(1, state="stopping", desired="stopped"), "it is stopping"),
    ],
)
def test_a_service_that_died_is_noticed_though_nobody_answers_for_it(view: ServiceView, sentence: str) -> None:
    scene = Scene(forever(STARTING, view), forever(SILENT))
    with pytest.raises(ModelportError, match=sentence):
        scene.wait()
    assert scene.now <= 1.0


def test_a_service_that_was_removed_meanwhile_is_said_to_be_stopped() -> None:
    def gone() -> ServiceView:
        raise ModelportError("no such service", NOT_FOUND)

    with pytest.raises(ModelportError, match="cannot be used: it was stopped"):
        readiness.wait("j", gone, lambda: SILENT)


def test_after_ten_minutes_it_is_given_up_with_what_was_last_heard() -> None:
    scene = Scene(forever(STARTING), forever(WAIT))
    with pytest.raises(ModelportError, match=r"not ready within 600 s \(Model is loading\); it goes on"):
        scene.wait()
    assert 600 < scene.now < 602
