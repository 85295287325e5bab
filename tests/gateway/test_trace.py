"""Spans, as a collector that speaks OTLP over HTTP gets them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from modelport.gateway.request import perf
from modelport.gateway.requestlog import Line
from modelport.gateway.trace import CLOSE_S, Tracer
from tests.gateway.world import World, chat, free_port, until

service_pb2 = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="not installed: the extra `otel`"
)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes what is posted to /v1/traces and keeps it decoded."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: dict[str, str] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.headers = dict(self.headers)
                collector.requests.append(service_pb2.ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def spans(self) -> list[Any]:
        return [s for r in self.requests for found in r.resource_spans for of in found.scope_spans for s in of.spans]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=ours")
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def line(**more: Any) -> Line:
    given = {
        "id": "req-1", "at": 0.0, "request_id": "shown-1", "key_id": "key-1", "team": "", "user": "",
        "service_id": "s-1", "service": "tiny", "instance_id": "i-1", "model": "fast", "route": "/v1/chat/completions",
        "method": "POST", "status": 200, "stream": True, "input_tokens": 12, "output_tokens": 0, "total_s": 0.5,
    }  # fmt: skip
    return Line(**{**given, **more})


def values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def traced(tracer: Tracer, headers: dict[bytes, bytes], done: Line) -> bool:
    trace = tracer.begin(headers, perf())
    if trace is not None:
        trace.end(done)
    return trace is not None


def test_a_span_has_the_names_of_the_genai_conventions(collector: Collector) -> None:
    tracer = Tracer(1.0, "gw-1")
    began = perf() - 0.25
    trace = tracer.begin({}, began)
    assert trace is not None
    trace.mark("queued")
    trace.mark("connected")
    trace.end(line(first_byte_s=0.4))
    tracer.close()
    (span,) = collector.spans
    assert span.name == "chat tiny" and span.kind == span.SPAN_KIND_SERVER
    found = values(span.attributes)
    assert found["gen_ai.operation.name"] == "chat" and found["gen_ai.request.model"] == "fast"
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (12, 0)
    assert (found["http.route"], found["http.response.status_code"]) == ("/v1/chat/completions", 200)
    assert "error.type" not in found and span.status.code == span.status.STATUS_CODE_UNSET
    assert span.end_time_unix_nano - span.start_time_unix_nano == 500_000_000
    assert [event.name for event in span.events] == ["queued", "connected", "first byte"]
    assert span.events[0].time_unix_nano - span.start_time_unix_nano >= 250_000_000
    assert span.events[2].time_unix_nano - span.start_time_unix_nano == 400_000_000
    resource = values(collector.requests[0].resource_spans[0].resource.attributes)
    assert (resource["service.name"], resource["service.instance.id"]) == ("modelport-gateway", "gw-1")
    assert collector.headers["x-tenant"] == "ours"


def test_a_sampled_trace_of_a_client_goes_on_and_its_engine_gets_our_span(collector: Collector) -> None:
    tracer = Tracer(0.0, "gw-1")
    headers = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode(), b"tracestate": b"vendor=1"}
    assert traced(tracer, headers, line())
    tracer.close()
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert headers == {
        b"traceparent": f"00-{TRACE}-{span.span_id.hex()}-01".encode(),
        b"tracestate": b"vendor=1",
    }
    assert span.trace_state == "vendor=1"


def test_a_trace_that_its_client_does_not_sample_passes_as_it_came(collector: Collector) -> None:
    tracer = Tracer(1.0, "gw-1")
    headers = {b"traceparent": f"00-{TRACE}-{SPAN}-00".encode(), b"tracestate": b"vendor=1"}
    before = dict(headers)
    assert not traced(tracer, headers, line())
    tracer.close()
    assert headers == before and not collector.spans


@pytest.mark.parametrize(
    "given",
    [
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        "é",
        "",
    ],
)
def test_what_is_no_traceparent_begins_a_new_trace(collector: Collector, given: str) -> None:
    tracer = Tracer(1.0, "gw-1")
    headers = {b"traceparent": given.encode(), b"tracestate": b"vendor=1"}
    assert traced(tracer, headers, line())
    tracer.close()
    (span,) = collector.spans
    assert span.trace_id.hex() != TRACE and not span.parent_span_id
    assert headers == {b"traceparent": f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01".encode()}


def test_a_later_version_of_the_header_is_read_as_far_as_we_know_it(collector: Collector) -> None:
    tracer = Tracer(0.0, "gw-1")
    assert traced(tracer, {b"traceparent": f"cc-{TRACE}-{SPAN}-09-what-later-versions-add".encode()}, line())
    tracer.close()
    assert collector.spans[0].trace_id.hex() == TRACE


def test_a_share_is_traced(collector: Collector) -> None:
    tracer = Tracer(0.5, "gw-1")
    count = sum(traced(tracer, {}, line()) for _ in range(1000))
    tracer.close()
    assert 350 < count < 650 and len(collector.spans) == count


@pytest.mark.parametrize(("status", "failed"), [(502, True), (504, True), (429, False), (499, False)])
def test_errors_are_told_by_their_status(collector: Collector, status: int, failed: bool) -> None:
    tracer = Tracer(1.0, "gw-1")
    traced(tracer, {}, line(status=status))
    tracer.close()
    (span,) = collector.spans
    assert values(span.attributes)["error.type"] == str(status)
    assert (span.status.code == span.status.STATUS_CODE_ERROR) is failed


def test_a_collector_that_is_down_holds_up_neither_requests_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    tracer = Tracer(1.0, "gw-1")
    began = time.monotonic()
    for _ in range(3000):  # more than its queue holds
        traced(tracer, {}, line())
    assert time.monotonic() - began < 5
    began = time.monotonic()
    tracer.close()
    assert time.monotonic() - began < CLOSE_S + 2


def test_a_disabled_library_traces_nothing(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracer = Tracer(1.0, "gw-1")
    headers: dict[bytes, bytes] = {}
    assert not traced(tracer, headers, line()) and not headers
    tracer.close()


def test_without_sampling_nothing_of_opentelemetry_is_imported() -> None:
    code = "import sys, modelport.gateway.trace; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_gateway_traces_what_its_engines_are_asked(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    world = World(trace_sample=1.0)
    try:
        engine = world.gateway().engine()
        world.service("tiny", engine)
        world.http.get("/v1/models")
        given = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1", "x-request-id": "mine"}
        world.http.post("/v1/chat/completions", json=chat("tiny", stream=True), headers=given)
        until(lambda: collector.spans)
        (span,) = collector.spans
        found = values(span.attributes)
        assert (span.name, span.trace_id.hex(), found["modelport.request.id"]) == ("chat tiny", TRACE, "mine")
        assert found["gen_ai.usage.output_tokens"] == 8
        assert [event.name for event in span.events] == ["queued", "connected", "first byte"]
        sent = engine.seen()["headers"]
        assert sent["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01" and sent["tracestate"] == "vendor=1"
        world.http.post("/v1/chat/completions", json=chat("tiny"))
        world.process.terminate()
        world.process.wait()
        assert len(collector.spans) == 2, "what was left came at the end"
    finally:
        world.close()
