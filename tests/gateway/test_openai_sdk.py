"""The official Python SDK against the gateway, as users have it."""

from collections.abc import Iterator

import openai
import pytest

from tests.gateway.world import Engine, World

MESSAGES: list = [{"role": "user", "content": "hello"}]


@pytest.fixture
def sdk(world: World, engine: Engine) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=world.admin, base_url=world.url + "/v1", max_retries=0) as client:
        yield client


def test_chat_streams_embeddings_and_models(sdk: openai.OpenAI) -> None:
    assert sdk.chat.completions.create(model="tiny", messages=MESSAGES).usage.completion_tokens == 8
    chunks = list(sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks).startswith("tok0 tok1")
    assert "tiny" in [m.id for m in sdk.models.list()]
    assert sdk.embeddings.create(model="tiny", input=["a"], encoding_format="float").data[0].embedding == [
        0.25,
        -0.5,
        1.0,
    ]


def test_usage_of_a_stream_that_asks_for_it(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    assert list(stream)[-1].usage.completion_tokens == 8


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, openai.BadRequestError), (429, openai.RateLimitError), (503, openai.InternalServerError)],
)
def test_errors_of_the_engine_are_the_sdks_own(sdk: openai.OpenAI, status: int, expected: type) -> None:
    with pytest.raises(expected) as caught:
        sdk.chat.completions.create(model="tiny", messages=MESSAGES, extra_body={"stub": {"status": status}})
    assert caught.value.status_code == status and caught.value.request_id


def test_errors_of_ours_are_the_sdks_own(world: World, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="tinyy", messages=MESSAGES)
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="mp-wrong").models.list()
    narrow = world.key(models=("other",))
    world.settle()
    with pytest.raises(openai.PermissionDeniedError):
        sdk.with_options(api_key=narrow).chat.completions.create(model="tiny", messages=MESSAGES)


def test_a_stream_that_breaks_raises_instead_of_ending_quietly(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True, extra_body={"stub": {"cut": "middle"}}
    )
    with pytest.raises(openai.APIError):
        list(stream)
