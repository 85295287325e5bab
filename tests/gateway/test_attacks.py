"""What hostile clients and engines found out once, so that nobody does again."""

import json
import time

import pytest

from modelport.errors import ModelportError
from modelport.gateway.scan import scan
from modelport.gateway.surface import CHAT, SURFACES
from modelport.store import budgets
from tests.gateway.world import Engine, World, chat, read_all, until

JSON = {"content-type": "application/json"}


def sent_fields(engine: Engine) -> dict:
    return json.loads(engine.seen()["body"])


@pytest.mark.parametrize(
    "fields",
    [{"max_output_tokens": 1}, {"sampling_params": {"max_new_tokens": 1}}, {"parameters": {"max_new_tokens": 1}},
     {"max_tokens": None, "max_output_tokens": 1}],
    ids=["responses' cap", "sglang's", "tgi's", "none and responses'"],
)  # fmt: skip
def test_a_cap_that_the_engine_does_not_heed_is_none(world: World, engine: Engine, fields: dict) -> None:
    key = world.key(limits={"max_tokens": 8})
    world.settle()
    answer = world.client(key).post("/v1/chat/completions", json=chat("tiny", **fields))
    assert answer.status_code == 200 and sent_fields(engine)["max_tokens"] == 8


def test_a_cap_by_its_newer_name_is_written_by_the_one_that_all_engines_heed(world: World, engine: Engine) -> None:
    world.http.post("/v1/chat/completions", json=chat("tiny", max_completion_tokens=5))
    assert sent_fields(engine)["max_tokens"] == sent_fields(engine)["max_completion_tokens"] == 5
    world.http.post("/v1/chat/completions", json=chat("tiny", max_completion_tokens=5, max_tokens=None))
    assert sent_fields(engine)["max_tokens"] == 5


def test_a_cap_on_new_tokens_counts_where_tgi_reads_it_and_nowhere_else() -> None:
    generate = SURFACES["/generate"]
    body = b'{"inputs":"a","sampling_params":{"max_new_tokens":1},"parameters":{"max_new_tokens":100000}}'
    assert scan(body, generate, needs_model=False).max_tokens == 100_000
    assert scan(b'{"inputs":"a","max_tokens":1}', generate, needs_model=False).max_tokens is None
    with pytest.raises(ModelportError, match="max_tokens"):
        scan(b'{"model":"a","max_tokens":-1}', CHAT, needs_model=True)


def test_no_tokens_at_most_still_reserves_the_one_that_engines_make(world: World, engine: Engine) -> None:
    from modelport.domain.budget import Budget

    key = world.key(name="none left")
    with world.store.write() as tx:
        from modelport.store import keys

        made = next(view for view in keys.views(tx) if view.name == "none left")
        budgets.put(tx, Budget(subject=f"key:{made.id}", unit="output_tokens", cap=0), time.time())
    world.settle()
    assert world.client(key).post("/v1/chat/completions", json=chat("tiny", max_tokens=0)).status_code == 402


def test_what_nobody_is_called_stands_in_no_record(world: World, engine: Engine) -> None:
    body = chat("\x1b[2J" + "x" * 5000)
    answer = world.http.post("/services/tiny/v1/chat/completions", json=body, headers={"x-request-id": "nobody-1"})
    assert answer.status_code == 200 and world.line("nobody-1")["model"] == "tiny"


def test_a_connection_that_pipelines_without_end_is_ended(world: World) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with world.raw(one * 200) as sock:
        assert read_all(sock).count(b"HTTP/1.1 200") <= 20


def test_an_old_client_gets_a_stream_without_chunks(world: World, engine: Engine) -> None:
    body = json.dumps(chat("tiny", stream=True)).encode()
    head = b"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    with world.raw(head % (world.admin.encode(), len(body)) + body) as sock:
        answer = read_all(sock)
    assert b"transfer-encoding" not in answer and answer.endswith(b"data: [DONE]\n\n")


def test_an_engines_absurd_wait_is_not_passed_on(world: World, engine: Engine) -> None:
    world.service("absurd", engine)
    raw = f"HTTP/1.1 429 Busy\r\nretry-after: {'9' * 400}\r\ncontent-length: 0\r\n\r\n"
    answer = world.http.post("/v1/chat/completions", json=chat("absurd", stub={"raw": raw}))
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) <= 60


def test_a_deadline_counts_while_a_service_wakes_and_leaves_nothing_behind(world: World) -> None:
    from modelport.domain.states import ServiceState

    world.service("asleep-late", state=ServiceState.IDLE)
    for path, body in (
        ("/v1/responses", {"model": "asleep-late", "input": "x"}),
        ("/v1/chat/completions", chat("asleep-late")),
    ):
        start = time.monotonic()
        answer = world.http.post(path, json=body, headers={"x-modelport-deadline-ms": "300"})
        assert answer.status_code == 504 and time.monotonic() - start < 10, answer.text


def test_a_request_that_an_engine_died_on_is_not_sent_twice(world: World) -> None:
    engine = world.engine("--name", "once")
    world.service("once", engine)
    assert world.http.post("/v1/chat/completions", json=chat("once")).status_code == 200
    stub = {"delay_s": 0.6, "cut": "start"}
    assert world.http.post("/v1/chat/completions", json=chat("once", stub=stub)).status_code == 502
    until(lambda: engine.seen()["in_flight"] == 0)
    assert engine.seen()["requests"] == 2
