"""What a client with a key gets from /v1."""

import json
import time

import pytest

from tests.gateway.world import Engine, World, chat, until

EMBED = {"model": "tiny", "input": ["a", "b"]}


def events(text: str) -> list[dict]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def test_a_chat_completion_passes_through_and_is_metered(world: World, engine: Engine) -> None:
    answer = world.http.post("/v1/chat/completions", json=chat("tiny"), headers={"x-request-id": "mine-chat-1"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"].startswith("tok0 tok1")
    assert answer.headers["x-request-id"] == "mine-chat-1"
    assert "server" not in answer.headers
    line = world.line("mine-chat-1")
    assert (line["service"], line["route"], line["status"]) == ("tiny", "/v1/chat/completions", 200)
    assert (line["output_tokens"], line["cached_tokens"]) == (8, line["input_tokens"] // 2)
    assert line["instance_id"].startswith("i-") and line["total_s"] > 0


def test_the_log_and_the_store_hold_neither_bodies_nor_keys(world: World, engine: Engine) -> None:
    world.http.post("/v1/chat/completions", json=chat("tiny", user="unmistakable"), headers={"x-request-id": "dry"})
    assert "key" not in world.line("dry") and world.line("dry")["key_id"].startswith("key-")
    path = world.directory / "logs" / "requests.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "unmistakable" not in path.read_text() and world.admin not in path.read_text()
    assert engine.key not in world.log.read_text() and world.admin not in world.log.read_text()


def test_a_request_id_that_is_not_one_is_replaced_by_ours(world: World, engine: Engine) -> None:
    for given in ("a b", "x" * 65, "ä", "<script>"):
        answer = world.http.get("/healthz", headers={"x-request-id": given.encode()})
        assert answer.headers["x-request-id"].startswith("req-")


def test_one_client_id_used_twice_is_still_metered_twice(world: World, engine: Engine) -> None:
    own = world.service("twice", world.engine())
    for _ in range(2):
        world.http.post("/v1/chat/completions", json=chat("twice"), headers={"x-request-id": "same"})
    assert until(lambda: (row := world.usage(own.name)) and row.requests == 2)


def test_usage_is_asked_for_and_hidden_from_a_client_that_did_not(world: World, engine: Engine) -> None:
    body = chat("tiny", stream=True)
    answer = world.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "hidden"})
    assert json.loads(engine.seen()["body"])["stream_options"] == {"include_usage": True}
    assert all(event["choices"] for event in events(answer.text))
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert world.line("hidden")["output_tokens"] == 8


def test_usage_is_shown_to_a_client_that_asked(world: World, engine: Engine) -> None:
    body = chat("tiny", stream=True, stream_options={"include_usage": True})
    answer = world.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "shown"})
    assert [e["usage"]["completion_tokens"] for e in events(answer.text) if not e["choices"]] == [8]
    assert world.line("shown")["stream"] is True and world.line("shown")["output_tokens"] == 8


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None, "x": [1]}])
def test_usage_options_that_do_not_ask_are_rewritten_in_place(world: World, engine: Engine, options: object) -> None:
    world.http.post("/v1/chat/completions", json=chat("tiny", stream=True, stream_options=options, n=1))
    sent = json.loads(engine.seen()["body"])
    assert sent["stream_options"]["include_usage"] is True and sent["n"] == 1


def test_the_rest_of_the_body_goes_on_byte_for_byte(world: World, engine: Engine) -> None:
    raw = '{ "model" : "tiny",\n\t"messages":[{"role":"user","content":"z\\u00e9 é \\"model\\": 1"}], "temperature": 1.50}'
    headers = {"content-type": "application/json", "cookie": "a=b", "x-api-key": "mp-x", "x-secret": "1"}
    assert world.http.post("/v1/chat/completions", content=raw, headers=headers).status_code == 200
    assert engine.seen()["body"] == raw
    sent = engine.seen()["headers"]
    assert sent["authorization"] == f"Bearer {engine.key}"
    assert not {"cookie", "x-api-key", "x-secret"} & set(sent)


def test_completions_and_embeddings_are_metered_too(world: World, engine: Engine) -> None:
    done = world.http.post("/v1/completions", json={"model": "tiny", "prompt": "a b c"}, headers={"x-request-id": "c1"})
    assert done.json()["choices"][0]["text"].startswith("tok0")
    vectors = world.http.post("/v1/embeddings", json=EMBED, headers={"x-request-id": "e1"})
    assert len(vectors.json()["data"]) == 2
    assert world.line("c1")["input_tokens"] == 3
    assert world.line("e1")["input_tokens"] == 2 and world.line("e1")["output_tokens"] == 0


def test_models_lists_what_the_key_may_use(world: World, engine: Engine) -> None:
    world.service("listed-not", world.engine())
    narrow = world.client(world.key(models=("tiny",)))
    world.settle()
    listed = narrow.get("/v1/models").json()
    assert listed["object"] == "list" and [m["id"] for m in listed["data"]] == ["tiny"]
    assert narrow.get("/v1/models/tiny").json()["object"] == "model"
    assert narrow.get("/v1/models/listed-not").status_code == 403
    assert narrow.get("/v1/models/nothing").status_code == 404


def test_a_large_answer_arrives_whole(world: World, engine: Engine) -> None:
    body = chat("tiny", stub={"tokens": 60_000})
    answer = world.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "large"})
    assert answer.json()["choices"][0]["message"]["content"].endswith("tok59999 ")
    assert world.line("large")["output_tokens"] == 60_000


def test_tokens_arrive_as_the_engine_makes_them(world: World, engine: Engine) -> None:
    body = chat("tiny", stream=True, stub={"tokens": 5, "token_s": 0.1})
    start = time.monotonic()
    with world.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        arrivals = [time.monotonic() - start for line in answer.iter_lines() if '"tok' in line]
    assert len(arrivals) == 5 and arrivals[-1] - arrivals[0] > 0.25


def test_metrics_are_for_admins_and_count(world: World, engine: Engine) -> None:
    world.http.post("/v1/chat/completions", json=chat("tiny"))
    text = world.http.get("/metrics").text
    assert 'modelport_requests_total{route="/v1/chat/completions",service="tiny",status="200"}' in text
    assert 'modelport_generation_tokens_total{service="tiny"}' in text
    assert 'modelport_in_flight{service="tiny"} 0.0' in text
    model = 'gen_ai_operation_name="chat",gen_ai_provider_name="modelport",gen_ai_request_model="tiny"'
    assert f'gen_ai_server_request_duration_seconds_count{{error_type="",{model}}}' in text
