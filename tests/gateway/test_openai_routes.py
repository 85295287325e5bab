"""The official Python SDK against the gateway's other routes: responses, reranking, sound, pictures, moderations."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fakes.answering import Answer, Answering, streamed, whole
from tests.gateway.sdk import PNG, serve, wav
from tests.gateway.world import World

USED = {
    "input_tokens": 12, "output_tokens": 5, "total_tokens": 17,
    "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
HEARD = {"text": "hello there", "usage": {"type": "duration", "seconds": 2}}


@pytest.fixture
def sdk(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=world.admin, base_url=world.url + "/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def behind(world: World) -> Iterator[Answering]:
    engine = Answering()
    serve(world, "many", engine)
    yield engine
    engine.stop()


@pytest.fixture
def told(behind: Answering) -> Answering:
    behind.answers.clear()
    behind.asked.clear()
    return behind


def test_responses_whole_and_streamed(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    said = {"type": "output_text", "text": "Paris", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [said]}
    response = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "tools": [],
        "output": [message], "usage": USED, "parallel_tool_calls": True, "tool_choice": "auto",
    }  # fmt: skip
    told.answers["/v1/responses"] = whole(response)
    raw = sdk.responses.with_raw_response.create(model="many", input="Where?", max_output_tokens=9)
    assert raw.parse().output_text == "Paris" and told.asked[-1].body["max_output_tokens"] == 9
    line = world.line(raw.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["cached_tokens"], line["reasoning_tokens"]) == (
        12, 5, 4, 2,
    )  # fmt: skip
    delta = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
             "delta": "Paris", "logprobs": []}  # fmt: skip
    told.answers["/v1/responses"] = streamed(
        {"type": "response.created", "sequence_number": 0, "response": {**response, "output": [], "usage": None}},
        {**delta, "sequence_number": 1},
        {"type": "response.completed", "sequence_number": 2, "response": response},
        named=True,
        done=False,
    )
    events = list(sdk.responses.create(model="many", input="Where?", stream=True, extra_headers={"x-request-id": "r9"}))
    assert [event.type for event in events] == ["response.created", delta["type"], "response.completed"]
    assert events[-1].response.usage.output_tokens == 5  # type: ignore[union-attr]
    assert world.line("r9")["output_tokens"] == 5 and "stream_options" not in told.asked[-1].body


def test_responses_take_no_address_of_a_picture_and_nothing_that_goes_on_behind_the_answer(
    sdk: openai.OpenAI, told: Answering
) -> None:
    picture: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/x.png"}]}]
    with pytest.raises(openai.BadRequestError, match="data: URL of base64"):
        sdk.responses.create(model="many", input=picture)
    with pytest.raises(openai.BadRequestError, match="'background'"):
        sdk.responses.create(model="many", input="hi", background=True)
    assert not told.asked


def test_reranking(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    """The SDK has no method for it, but a way to any path."""
    ranked = {"id": "r", "model": "m", "usage": {"total_tokens": 31},
              "results": [{"index": 1, "relevance_score": 0.9}]}  # fmt: skip
    for path in ("/v1/rerank", "/rerank"):
        told.answers[path] = whole(ranked)
        body = {"model": "many", "query": "capital", "documents": ["Rome", "Paris"], "top_n": 1}
        named: Any = {"headers": {"x-request-id": f"ranked{path.count('/')}"}}
        found: Any = sdk.with_options(base_url=world.url).post(path, body=body, cast_to=object, options=named)
        assert found["results"][0]["index"] == 1 and told.asked[-1].body == body
        document = {"content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
        with pytest.raises(openai.BadRequestError, match="data: URL of base64"):
            sdk.with_options(base_url=world.url).post(path, body={**body, "documents": document}, cast_to=object)
        line = world.line(f"ranked{path.count('/')}")
        assert (line["route"], line["input_tokens"], line["estimated"]) == (path, 31, False)


@pytest.mark.parametrize("name", ["transcriptions", "translations"])
def test_a_recording_becomes_text_in_every_format(world: World, sdk: openai.OpenAI, told: Answering, name: str) -> None:
    path, way = f"/v1/audio/{name}", getattr(sdk.audio, name)
    file = ("hello.wav", wav(2.0), "audio/wav")
    told.answers[path] = whole(HEARD)
    raw = way.with_raw_response.create(model="many", file=file, prompt="Grüße", temperature=0.5)
    assert raw.parse().text == "hello there"
    asked = told.asked[-1]
    assert wav(2.0) in asked.raw and "Grüße".encode() in asked.raw and b'filename="hello.wav"' in asked.raw
    assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
    line = world.line(raw.headers["x-request-id"])
    assert (line["audio_ms"], line["service"], line["estimated"]) == (2000, "many", False)
    segment = {"id": 0, "start": 0.0, "end": 1.9, "text": "hello", "avg_logprob": -0.1, "compression_ratio": 1.0,
               "no_speech_prob": 0.0, "seek": 0, "temperature": 0.0, "tokens": [1]}  # fmt: skip
    told.answers[path] = whole({"text": "hello", "language": "en", "duration": 1.9, "segments": [segment]})
    verbose = way.with_raw_response.create(model="many", file=file, response_format="verbose_json")
    assert verbose.parse().segments[0].end == 1.9 and verbose.parse().duration == 1.9
    assert world.line(verbose.headers["x-request-id"])["audio_ms"] == 1900
    told.answers[path] = Answer((b"hello there\n",), kind="text/plain; charset=utf-8")
    text = way.with_raw_response.create(model="many", file=file, response_format="text")
    assert text.parse() == "hello there\n" and text.headers["content-type"].startswith("text/plain")
    assert 2000 <= world.line(text.headers["x-request-id"])["audio_ms"] <= 2010  # by its bytes, the header among them


def test_a_streamed_transcription(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}
    told.answers["/v1/audio/transcriptions"] = streamed(
        {"type": "transcript.text.delta", "delta": "hello "},
        {"type": "transcript.text.delta", "delta": "there"},
        {"type": "transcript.text.done", "text": "hello there", "usage": usage},
    )
    stream = sdk.audio.transcriptions.create(
        model="many", file=("a.wav", wav(0.5)), stream=True, extra_headers={"x-request-id": "heard"}
    )
    events = list(stream)
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert events[-1].usage.output_tokens == 3  # type: ignore[union-attr]
    line = world.line("heard")
    assert line["stream"] and (line["input_tokens"], line["output_tokens"]) == (14, 3)


def test_a_form_that_cannot_be_right_is_refused_with_a_sentence(sdk: openai.OpenAI, told: Answering) -> None:
    with pytest.raises(openai.BadRequestError, match="'chat_template' is not taken") as refused:
        sdk.audio.transcriptions.create(model="many", file=("a.wav", wav(0.1)), extra_body={"chat_template": "x"})
    assert refused.value.param == "chat_template" and refused.value.request_id
    with pytest.raises(openai.NotFoundError, match="no model 'manyy'"):
        sdk.audio.transcriptions.create(model="manyy", file=("a.wav", wav(0.1)))
    with pytest.raises(openai.BadRequestError, match="multipart/form-data"):
        sdk.post("/audio/transcriptions", body={"model": "many", "file": "x"}, cast_to=object)
    assert not told.asked


def test_text_is_spoken_as_bytes_whole_and_as_they_come(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    sound = wav(3.0) + bytes(range(256))
    told.answers["/v1/audio/speech"] = Answer((sound,), kind="audio/wav")
    made = sdk.audio.speech.create(model="many", voice="alloy", input="Grüße 👋", response_format="wav")
    assert made.read() == sound and made.response.headers["content-type"] == "audio/wav"
    line = world.line(made.response.headers["x-request-id"])
    assert (line["characters"], line["output_tokens"], line["estimated"]) == (7, 0, False)
    parts = tuple(sound[at : at + 5000] for at in range(0, len(sound), 5000))
    told.answers["/v1/audio/speech"] = Answer(parts, kind="audio/pcm", stream=True)
    with sdk.audio.speech.with_streaming_response.create(model="many", voice="alloy", input="hello") as live:
        assert b"".join(live.iter_bytes()) == sound and live.headers["content-type"] == "audio/pcm"


def test_speech_as_events_keeps_the_usage_that_openai_sends_with_it(
    world: World, sdk: openai.OpenAI, told: Answering
) -> None:
    usage = {"input_tokens": 4, "output_tokens": 9, "total_tokens": 13}
    told.answers["/v1/audio/speech"] = streamed(
        {"type": "speech.audio.delta", "audio": "AAAA"}, {"type": "speech.audio.done", "usage": usage}, done=False
    )
    with sdk.audio.speech.with_streaming_response.create(
        model="many", voice="alloy", input="hello", stream_format="sse", extra_body={"stream": True}
    ) as live:
        events = [json.loads(line[6:]) for line in live.iter_lines() if line.startswith("data: ")]
    assert events[-1] == {"type": "speech.audio.done", "usage": usage}


def test_pictures_are_made_and_counted(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    usage = {"input_tokens": 5, "output_tokens": 90, "total_tokens": 95, "input_tokens_details": {
        "text_tokens": 5, "image_tokens": 0}}  # fmt: skip
    told.answers["/v1/images/generations"] = whole({"created": 1, "data": [{"b64_json": PNG}] * 2, "usage": usage})
    raw = sdk.images.with_raw_response.generate(model="many", prompt="a pixel", n=2, size="256x256")
    assert [image.b64_json for image in raw.parse().data or ()] == [PNG] * 2
    line = world.line(raw.headers["x-request-id"])
    assert (line["images"], line["input_tokens"], line["output_tokens"]) == (2, 5, 90)
    last = {"type": "image_generation.completed", "b64_json": PNG, "created_at": 1, "background": "auto",
            "output_format": "png", "quality": "low", "size": "256x256", "usage": usage}  # fmt: skip
    told.answers["/v1/images/generations"] = streamed(
        {**last, "type": "image_generation.partial_image", "partial_image_index": 0}, last, named=True, done=False
    )
    events = list(sdk.images.generate(model="many", prompt="a pixel", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]


def test_moderations_take_text_and_pictures_as_data(sdk: openai.OpenAI, told: Answering) -> None:
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    told.answers["/v1/moderations"] = whole({"id": "modr-1", "model": "m", "results": [result]})
    assert not sdk.moderations.create(model="many", input=["a", "b"]).results[0].flagged

    def picture(url: str) -> Any:
        return [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": url}}]

    sdk.moderations.create(model="many", input=picture(f"data:image/png;base64,{PNG}"))
    with pytest.raises(openai.BadRequestError, match="data: URL of base64"):
        sdk.moderations.create(model="many", input=picture("https://example.com/x.png"))
    assert len(told.asked) == 2


def test_the_generic_proxy_looks_into_bodies_too(world: World, sdk: openai.OpenAI, told: Answering) -> None:
    """vLLM's /tokenize takes a chat: it would fetch what that names, and run the template that it brings."""
    told.answers["/tokenize"] = whole({"count": 3, "tokens": [1, 2, 3]})
    proxy = sdk.with_options(base_url=f"{world.url}/services/many")
    assert proxy.post("/tokenize", body={"prompt": "a b c"}, cast_to=object) == {"count": 3, "tokens": [1, 2, 3]}
    content = [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]
    with pytest.raises(openai.BadRequestError, match="data: URL of base64"):
        proxy.post("/tokenize", body={"messages": [{"role": "user", "content": content}]}, cast_to=object)
    with pytest.raises(openai.BadRequestError, match="'chat_template'"):
        proxy.post("/tokenize", body={"messages": [], "chat_template": "{{ 1 }}"}, cast_to=object)
    assert len(told.asked) == 1


def test_a_route_that_the_service_has_not_is_404(sdk: openai.OpenAI, world: World) -> None:
    engine = Answering()
    serve(world, "words-only", engine, ("POST /v1/embeddings",))
    with pytest.raises(openai.NotFoundError, match="no such route"):
        sdk.responses.create(model="words-only", input="hi")
    with pytest.raises(openai.NotFoundError, match="no such route"):
        sdk.audio.transcriptions.create(model="words-only", file=("a.wav", wav(0.1)))
    assert not engine.asked
    engine.stop()
