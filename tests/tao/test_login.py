"""Login: our own keys, keys of NGC checked at a server that speaks its protocol, and air-gapped."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.tao.world import Tao, opened

NGC_KEY = "nvapi-0123456789abcdef"
ANN = {"id": 42, "name": "Ann", "email": "ann@example.com", "roles": [{"org": {"name": "acme"}, "orgRoles": ["USER"]}]}


class Ngc:
    """What NVIDIA's API says at /v2/users/me (nvidia-tao-core, ngc_utils.get_user_info)."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.status, self.body = 200, json.dumps({"user": ANN})
        ngc = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ngc.asked.append((self.path, self.headers["authorization"]))
                known = self.headers["authorization"] == f"Bearer {NGC_KEY}"
                status = ngc.status if known else 401
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(ngc.body.encode() if known else b'{"requestStatus": {}}')

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serving() -> Iterator[Ngc]:
    ngc = Ngc()
    thread = threading.Thread(target=ngc.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield ngc
    finally:
        ngc.server.shutdown()
        ngc.server.server_close()


@pytest.fixture
def ngc() -> Iterator[Ngc]:
    with serving() as made:
        yield made


def login(tao: Tao, version: str = "v2", **body: Any) -> Any:
    """As the published client sends it: JSON without a content type."""
    return tao.ask("POST", f"/{version}/login", content=json.dumps(body).encode())


def refused(tao: Tao, status: int = 401, **body: Any) -> str:
    answer = login(tao, **body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error_code"] in (1, 3)
    return answer.json()["error_desc"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_key_of_ours_is_its_own_token(tao: Tao, version: str) -> None:
    key = tao.key(name="ann's", user="ann@example.com", scopes=("operate",))
    answer = login(tao, version, ngc_key=key, ngc_org_name="acme", enable_telemetry=None)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert set(said) == {"user_id", "token", "user_name", "user_email", "org_name"}
    assert said["token"] == key and said["user_email"] == "ann@example.com" and said["org_name"] == "acme"
    assert said["user_id"] == str(uuid.uuid5(uuid.UUID(int=0), tao.control.list_keys()[0].id))


def test_what_is_no_key_is_401_and_not_repeated(tao: Tao) -> None:
    for body in ({"ngc_key": "mp-nothing"}, {"ngc_key": NGC_KEY}, {"ngc_key": 5}, {}, {"ngc_key": "k\nk"}):
        sentence = refused(tao, **body, ngc_org_name="acme")
        assert sentence.startswith("Unauthorized: ") and str(body.get("ngc_key", "-----")) not in sentence
    assert "asks no NGC" in refused(tao, ngc_key=NGC_KEY, ngc_org_name="acme")
    assert "ngc_org_name" in refused(tao, ngc_key=NGC_KEY, ngc_org_name="../x")


def test_an_ngc_key_is_checked_and_exchanged_for_a_key_that_ends_in_a_day(tmp_path: Path, ngc: Ngc) -> None:
    with opened(tmp_path, tao_ngc_url=f"{ngc.url}/") as tao:
        answer = login(tao, ngc_key=NGC_KEY, ngc_org_name="acme", enable_telemetry=False)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["user_id"] == str(uuid.uuid5(uuid.UUID(int=0), "42"))
        assert (said["user_name"], said["user_email"], said["org_name"]) == ("Ann", "ann@example.com", "acme")
        assert ngc.asked == [("/v2/users/me", f"Bearer {NGC_KEY}")]
        made = tao.control.check_key(said["token"])
        assert (made.name, made.user, made.team) == ("tao-login", "ann@example.com", "acme")
        assert set(made.scopes) == {"infer", "operate"} and made.expires_at
        assert made.expires_at - made.created_at == pytest.approx(86400, abs=5)
        assert said["token"].startswith("mp-") and NGC_KEY not in answer.text
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert NGC_KEY.encode() not in kept and said["token"].encode() not in kept


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ({"id": 1, "name": "x", "roles": [{"org": {"name": "other"}}]}, "is no member of acme"),
        ({"id": 1, "name": "x"}, "is no member of acme"),
        ({"name": "nobody"}, "Unknown NGC user ID"),
        ("text", "Unknown NGC user ID"),
        ({"id": 1, "roles": ["acme"]}, "Unknown NGC user ID"),
    ],
)
def test_who_is_nobody_in_the_organisation_gets_no_token(tmp_path: Path, ngc: Ngc, user: Any, sentence: str) -> None:
    ngc.body = json.dumps({"user": user})
    with opened(tmp_path, tao_ngc_url=ngc.url) as tao:
        assert sentence in refused(tao, ngc_key=NGC_KEY, ngc_org_name="acme")
        assert tao.control.list_keys() == []


def test_a_bad_ngc_key_is_401_and_an_ngc_in_trouble_503(tmp_path: Path, ngc: Ngc) -> None:
    with opened(tmp_path, tao_ngc_url=ngc.url) as tao:
        body = {"ngc_key": "nvapi-wrong", "ngc_org_name": "acme"}
        assert refused(tao, **body) == "Unauthorized: Credentials error: Invalid NGC_PERSONAL_KEY"
        body["ngc_key"] = NGC_KEY
        for status, answered in ((500, 503), (429, 503), (302, 401), (403, 401)):
            ngc.status = status
            assert "nvapi" not in refused(tao, answered, **body)
        assert {path for path, _ in ngc.asked} == {"/v2/users/me"}  # a redirect is not followed
        ngc.server.shutdown()
        ngc.server.server_close()
        assert "cannot be reached" in refused(tao, 503, **body)


def test_a_key_of_ours_is_never_sent_to_ngc(tmp_path: Path, ngc: Ngc) -> None:
    with opened(tmp_path, tao_ngc_url=ngc.url) as tao:
        key = tao.key()
        assert login(tao, ngc_key=key, ngc_org_name="acme").json()["token"] == key
        refused(tao, ngc_key=key[:-1] + "x", ngc_org_name="acme")
    assert ngc.asked == []


def test_air_gapped_a_name_is_enough_and_gives_no_token(tmp_path: Path) -> None:
    with opened(tmp_path, tao_airgapped=True) as tao:
        for name, body in (("ann", {"username": "ann"}), ("anonymous", {})):
            said = login(tao, **body).json()
            assert said == {"user_id": str(uuid.uuid5(uuid.UUID(int=0), name))}
        key = tao.key()
        assert login(tao, ngc_key=key, ngc_org_name="acme").json()["token"] == key
