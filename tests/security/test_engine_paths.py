"""What an engine can do beside inference is out of reach, however its path is written."""

import http.client
from collections.abc import Callable

import pytest

from tests.gateway.world import World, chat, free_port, until
from tests.security.raw_engine import RawEngine

ADMIN = (
    "/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/invocations", "/v1/invocations", "/v1/load_lora_adapter",
    "/load_lora_adapter", "/v1/unload_lora_adapter", "/unload_lora_adapter", "/update_weights_from_disk",
    "/update_weights_from_tensor", "/update_weights_from_distributed", "/init_weights_update_group", "/flush_cache",
    "/start_profile", "/stop_profile", "/reset_prefix_cache", "/reset_mm_cache", "/server_info", "/get_server_info",
    "/get_model_info", "/slots", "/slots/0", "/props", "/lora-adapters", "/metrics", "/shutdown", "/abort_request",
    "/release_memory_occupation", "/resume_memory_occupation", "/set_internal_state", "/get_internal_state",
    "/get_weights_by_name", "/configure_logging", "/scale_elastic_ep", "/pause", "/resume", "/health_generate", "/docs",
    "/openapi.json", "/models/load", "/models/unload", "/ping", "/version", "/load", "/info", "/v1/responses",
)  # fmt: skip
"""vLLM's (some with VLLM_SERVER_DEV_MODE only), SGLang's, llama.cpp's and TGI's, and a route that was not listed."""
LISTED = "/v1/chat/completions"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "query": lambda path: path + "?x=" + LISTED,
    "slash at the end": lambda path: path + "/",
    "two slashes": lambda path: "/" + path,
    "dot": lambda path: "/." + path,
    "up from what is listed": lambda path: LISTED + "/../../.." + path,
    "up, encoded": lambda path: LISTED + "/%2e%2e/%2e%2e/%2e%2e" + path,
    "up, slashes encoded": lambda path: LISTED + "%2f..%2f..%2f.." + path,
    "up, backslashes": lambda path: LISTED + "\\..\\..\\.." + path,
    "up, with parameters": lambda path: LISTED + "/..;/..;/..;" + path,
    "slash encoded": lambda path: "/" + path.replace("/", "%2f"),
    "slash encoded, capital": lambda path: "/" + path.replace("/", "%2F"),
    "slash encoded twice": lambda path: "/" + path.replace("/", "%252f"),
    "first letter encoded": lambda path: f"/%{ord(path[1]):02x}{path[2:]}",
    "capitals": str.upper,
    "parameter": lambda path: path + ";" + LISTED,
    "NUL": lambda path: path + "%00" + LISTED,
    "NUL after what is listed": lambda path: LISTED + "%00/.." + path,
    "line end": lambda path: LISTED + "%0d%0aGET%20" + path,
    "space": lambda path: path + "%20",
    "fragment": lambda path: LISTED + "#/../" + path,
    "overlong dot": lambda path: LISTED + "/%c0%ae%c0%ae" + path,
}


@pytest.fixture(scope="module")
def own_port(world: World) -> tuple[int, RawEngine]:
    engine, port = RawEngine(), free_port()
    service = world.service("noted-port", port=port)
    world.instance(service, engine, routes=(f"POST {LISTED}",))  # type: ignore[arg-type]
    world.settle()
    world.stack.callback(engine.stop)
    until(lambda: world.heartbeat() and not world.heartbeat().problems.get(service.id))
    until(lambda: _answers(port))
    return port, engine


def _answers(port: int) -> bool:
    try:
        return ask(port, "GET", "/healthz", "")[0] == 200
    except OSError:
        return False


def ask(port: int, method: str, target: str, key: str) -> tuple[int, bytes]:
    """One request with its target exactly as given."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection._validate_path = lambda url: None  # type: ignore[attr-defined]  # what it would refuse is what we send
    connection.putrequest(method, target, skip_accept_encoding=True)
    connection.putheader("x-api-key", key)
    connection.putheader("content-length", "2")
    connection.endheaders(b"{}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_an_engines_other_paths_is_passed_on(
    world: World, noted: RawEngine, own_port: tuple[int, RawEngine], spelling: str
) -> None:
    port, engine = own_port
    before = len(noted.lines), len(engine.lines)
    for path in ADMIN:
        written = SPELLINGS[spelling](path)
        for method in ("POST", "GET") if spelling == "as it is" else ("POST",):
            for at, target in ((world.port, f"/services/noted{written}"), (port, written), (world.port, written)):
                status, body = ask(at, method, target, world.admin)
                ours = path in ("/metrics", "/v1/responses", "/version") and at == world.port
                assert status in (400, 404, 405) or (ours and target == written), (method, target, status)
                assert b"nonce" not in body
    assert (len(noted.lines), len(engine.lines)) == before


def test_what_is_listed_is_passed_on_so_that_the_test_above_means_something(
    world: World, noted: RawEngine, own_port: tuple[int, RawEngine]
) -> None:
    port, engine = own_port
    before = len(noted.lines), len(engine.lines)
    assert world.http.post(f"/services/noted{LISTED}", json=chat()).status_code == 200
    assert world.client(world.admin, port).post(LISTED, json=chat()).status_code == 200
    assert (len(noted.lines), len(engine.lines)) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_a_listed_path_is_open_to_its_listed_method_only(world: World, noted: RawEngine, method: str) -> None:
    before = len(noted.lines)
    assert ask(world.port, method, f"/services/noted{LISTED}", world.admin)[0] in (400, 404, 405)
    assert len(noted.lines) == before
