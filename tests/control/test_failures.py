"""Engines that fail: restarts with back-off, plain-words reasons, and an end to trying."""

import os
import signal

import pytest

from modelport.control.failure import explain
from modelport.domain.instance import Exit
from tests.harness import Serving, until


@pytest.mark.parametrize(
    ("end", "words", "permanent"),
    [
        (Exit(code=1, tail=("ggml: failed to allocate CPU buffer of size 99",)), "out of memory", False),
        (Exit(code=1, tail=("terminate called: std::bad_alloc", "")), "out of memory", False),
        (Exit(code=1, tail=("couldn't bind HTTP server socket, hostname: 127.0.0.1",)), "port was in use", False),
        (Exit(code=1, tail=("error loading model: unknown model architecture: 'foo'",)), "architecture", True),
        (
            Exit(code=1, tail=("tensor 'blk.0' data is not within the file bounds, model is corrupted",)),
            "damaged",
            True,
        ),
        (Exit(code=127), "not found", True),
        (Exit(signal=9), "signal 9", False),
        (Exit(signal=9, cause="shim died"), "watches it was killed", False),
        (Exit(code=3, tail=("first", "the last words", " ")), "exit code 3; its last line was: the last words", False),
        (Exit(), "no exit code", False),
    ],
)
def test_an_exit_is_explained_in_plain_words(end: Exit, words: str, permanent: bool) -> None:
    reason = explain(end)
    assert words in reason.text
    assert reason.permanent is permanent


def test_an_engine_that_cannot_load_its_model_is_not_tried_again(shared: Serving) -> None:
    shared.start("wrong", "--fail 'unknown model architecture: foo'")
    view = shared.reach("wrong", "failed", 15)
    assert "does not know the model's architecture" in view.reason
    assert len(view.instances) == 1
    assert "exit code 3" in view.instances[0].exit
    assert shared.engines().keys().isdisjoint({view.instances[0].id})
    answer = shared.ask("wrong")
    assert answer.status_code == 503 and "modelport status wrong" in answer.json()["error"]["message"]


def test_a_failed_service_starts_again_when_it_is_restarted(shared: Serving) -> None:
    shared.start("mended", "--fail 'unknown model architecture: foo'")
    shared.reach("mended", "failed", 15)
    shared.switches("mended", "")
    shared.client.restart("mended")
    assert shared.ready("mended").reason == ""


def test_a_crash_is_answered_with_a_restart_and_its_reason_is_kept(shared: Serving) -> None:
    shared.start("crashing")
    first = shared.ready("crashing").instances[0]
    assert first.pid
    os.kill(first.pid, signal.SIGSEGV)
    second = until(
        lambda: [i for i in shared.client.status("crashing").instances if i.state == "ready" and i.id != first.id]
    )
    assert second[0].pid != first.pid
    ended = next(i for i in shared.client.status("crashing").instances if i.id == first.id)
    assert ended.exit == "signal 11 (SIGSEGV)"
    assert shared.ask("crashing").status_code == 200


def test_an_engine_that_always_fails_is_given_up_with_its_last_words(shared: Serving) -> None:
    shared.start("hopeless", "--fail 'no such luck'")
    until(lambda: len(shared.client.status("hopeless").instances) >= 3, 15, "it is tried again, with pauses")
    assert shared.client.status("hopeless").state == "starting"
    view = shared.reach("hopeless", "failed", 40)
    assert "no such luck" in view.reason
    assert "no such luck" in "\n".join(shared.client.logs("hopeless", 10, follow=False))
