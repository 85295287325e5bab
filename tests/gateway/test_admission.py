"""Who may do what: keys, scopes and models."""

import time

import pytest

from modelport.gateway.app import JOB, OWN_TABLE, TABLE, Policy
from modelport.gateway.surface import SURFACES
from modelport.store import keys
from tests.gateway.world import PLAIN, Engine, World, chat, until

REFUSED = (401, 429)
"""Wrong keys come often from here, so some of them meet the back-off."""


def test_every_route_has_the_policy_written_here() -> None:
    inference = {
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens",
        "/v1/embeddings", "/v1/rerank", "/rerank", "/v1/moderations", "/v1/audio/speech", "/v1/audio/transcriptions",
        "/v1/audio/translations", "/v1/images/generations", "/generate", "/generate_stream", "/loglikelihood",
    }  # fmt: skip
    assert set(SURFACES) == inference
    assert {(e.path, e.policy) for e in TABLE} == {
        ("/health", Policy.OPEN),
        ("/healthz", Policy.OPEN),
        ("/readyz", Policy.KEY),
        ("/metrics", Policy.ADMIN),
        ("/v1/models", Policy.KEY),
        ("/v1/models/", Policy.KEY),
        *((path, Policy.INFER) for path in inference),
        ("/services/", Policy.INFER),
        ("/modelport/v1/usage", Policy.KEY),
        ("/modelport/v1/requests", Policy.OPERATE),
        ("/modelport/v1/plan", Policy.OPERATE),
        ("/modelport/v1/offers", Policy.OPERATE),
        ("/modelport/v1/services", Policy.OPERATE),
        ("/modelport/v1/services/", Policy.OPERATE),
        ("/modelport/v1/experiments", Policy.OPERATE),
        ("/modelport/v1/experiments/", Policy.OPERATE),
        ("/modelport/", Policy.ADMIN),
        ("/api/v1/login", Policy.OPEN),
        ("/api/v2/login", Policy.OPEN),
        ("/api/", Policy.OPERATE),
    }
    assert JOB.policy is Policy.INFER
    own = {"/health", "/healthz", "/v1/models", "/v1/models/", *inference, "/"}
    assert {e.path for e in OWN_TABLE} == own
    assert {e.path for e in OWN_TABLE if e.policy is Policy.OPEN} == {"/health", "/healthz"}


@pytest.mark.parametrize("entry", TABLE, ids=lambda e: e.path)
def test_no_route_but_health_answers_without_a_key(world: World, entry) -> None:
    path = entry.path + ("tiny/v1/models" if entry.path.endswith("/") else "")
    for headers in ({}, {"authorization": "Bearer mp-wrong"}, {"authorization": "Basic eA=="}, {"x-api-key": "mp-"}):
        answer = PLAIN.request(entry.methods[0], world.url + path, headers=headers)
        assert answer.status_code in ((200,) if entry.policy is Policy.OPEN else REFUSED)
        if answer.status_code == 401:
            assert answer.json()["error"].get("code") == (None if "messages" in path else "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_health_tells_nothing_and_ready_says_ready(world: World) -> None:
    assert PLAIN.get(world.url + "/healthz").json() == {"status": "ok"}
    key = world.key()
    world.settle()
    assert world.client(key).get("/readyz").json() == {"status": "ready"}


def test_a_key_works_as_bearer_and_as_x_api_key(world: World, engine: Engine) -> None:
    for headers in ({"authorization": f"bearer {world.admin}"}, {"x-api-key": world.admin}):
        assert PLAIN.get(world.url + "/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("text", [b"Bearer \xff\xfe", b"Bearer " + b"a" * 9000, b"Bearer mp-' OR 1=1 --", b"Bearer"])
def test_strange_keys_are_refused_as_unknown(world: World, text: bytes) -> None:
    assert PLAIN.get(world.url + "/v1/models", headers={b"authorization": text}).status_code in REFUSED


def test_a_right_prefix_with_a_wrong_rest_is_refused(world: World) -> None:
    wrong = world.admin[:-1] + ("a" if world.admin[-1] != "a" else "b")
    for key in (wrong, world.admin[:11], world.admin + "x"):
        assert PLAIN.get(world.url + "/v1/models", headers={"x-api-key": key}).status_code in REFUSED


def test_an_expired_key_is_told_so(world: World) -> None:
    key = world.key(expires_at=time.time() - 1)
    world.settle()
    answer = world.client(key).get("/v1/models")
    assert answer.status_code == 401 and "expired" in answer.json()["error"]["message"]


def test_a_key_for_another_model_is_403(world: World, engine: Engine) -> None:
    key = world.key(models=("other",))
    world.settle()
    for path in ("/v1/chat/completions", "/services/tiny/v1/chat/completions", "/services/tiny/tokenize"):
        answer = world.client(key).post(path, json=chat("tiny"))
        assert answer.status_code == 403 and answer.json()["error"]["type"] == "permission_error"


def test_a_key_for_inference_reaches_no_administration(world: World) -> None:
    client = world.client(world.key())
    world.settle()
    before = len(world.control.calls)
    assert client.get("/metrics").status_code == 403
    assert client.post("/modelport/v1/services", json={}).status_code == 403
    assert len(world.control.calls) == before


def test_a_revoked_key_stops_within_a_second(world: World) -> None:
    key = world.key()
    world.settle()
    client = world.client(key)
    assert client.get("/v1/models").status_code == 200
    with world.store.write() as tx:
        keys.revoke(tx, key[:11], time.time())
    start = time.monotonic()
    until(lambda: client.get("/v1/models").status_code == 401, 3)
    assert time.monotonic() - start < 1


def test_an_unknown_model_is_404_with_the_nearest_the_key_may_use(world: World, engine: Engine) -> None:
    answer = world.http.post("/v1/chat/completions", json=chat("tinny"))
    error = answer.json()["error"]
    assert answer.status_code == 404 and error["code"] == "model_not_found" and error["param"] == "model"
    assert "'tiny'" in error["message"]
    narrow = world.client(world.key(models=("zzz",)))
    world.settle()
    assert "Did you mean" not in narrow.post("/v1/chat/completions", json=chat("tinny")).text


def test_unknown_paths_are_404_and_wrong_methods_405_with_what_is_allowed(world: World) -> None:
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/v1",
        "/v1/chat/completions/",
        "/V1/models",
        "/modelport",
        "/healthz/x",
    ):
        answer = PLAIN.get(world.url + path)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found", path
    answer = world.http.get("/v1/chat/completions")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert PLAIN.head(world.url + "/healthz").status_code == 405
    assert PLAIN.options(world.url + "/v1/chat/completions").status_code == 405


def test_refusals_are_logged_but_no_usage_is_stored(world: World) -> None:
    PLAIN.post(world.url + "/v1/chat/completions", headers={"x-request-id": "refused-1"}, json={})
    line = world.line("refused-1")
    assert (line["status"], line["service"], line["key_id"]) == (401, "", "-")
    assert world.usage("") is None
