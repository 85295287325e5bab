"""S9: fields of a body that reach past the request: refused by name, unless the service's owner allows them."""

import pytest

from modelport.gateway.scan import FORBIDDEN
from tests.gateway.world import Engine, World, chat


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_field_that_reaches_past_the_request_is_refused(world: World, engine: Engine, name: str) -> None:
    before = engine.seen()["requests"]
    answer = world.http.post("/v1/chat/completions", json=chat("tiny", **{name: "x"}))
    assert answer.status_code == 400 and answer.json()["error"]["param"] == name
    assert name in answer.json()["error"]["message"] and engine.seen()["requests"] == before


def test_it_is_refused_however_it_is_spelled_and_wherever_it_comes_in(world: World, engine: Engine) -> None:
    before = engine.seen()["requests"]
    escaped = b'{"model":"tiny","messages":[],"ch\\u0061t_template":"x"}'
    headers = {"content-type": "application/json"}
    for path in ("/v1/chat/completions", "/services/tiny/v1/completions", "/services/tiny/tokenize", "/v1/embeddings"):
        answer = world.http.post(path, content=escaped, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "chat_template"), path
    assert engine.seen()["requests"] == before


def test_a_service_may_allow_one(world: World, engine: Engine) -> None:
    world.service("templated", engine, allow_fields=("chat_template",))
    assert world.http.post("/v1/chat/completions", json=chat("templated", chat_template="x")).status_code == 200
    assert '"chat_template":"x"' in engine.seen()["body"]
    assert world.http.post("/v1/chat/completions", json=chat("templated", api_base="x")).status_code == 400
