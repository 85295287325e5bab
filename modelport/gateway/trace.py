"""Trace: OpenTelemetry spans of a share of the requests, by OTLP over HTTP. The extra `otel` brings the packages.

A client's trace goes on here where it is sampled (W3C Trace Context), and the engine's spans become children of ours.
Where spans go, and with which headers, the standard variables say: OTEL_EXPORTER_OTLP_ENDPOINT and its kin. Spans leave
on a thread of their own; where nobody takes them they are dropped, and no request waits.
"""

import logging
import os
import random
import re
import threading
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from modelport import __version__
from modelport.domain.price import NANO
from modelport.errors import ModelportError
from modelport.gateway.genai import PROVIDER, error_type, operation
from modelport.gateway.request import perf
from modelport.gateway.requestlog import Line

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

CLOSE_S = 3.0
"""What is left may take so long to leave when the gateway ends."""
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class Trace:
    """One request's span. `mark` and `end` are called on the loop."""

    __slots__ = ("_began_ns", "_span", "_started")

    def __init__(self, span: "Span", started: float, began_ns: int) -> None:
        self._span = span
        self._started = started
        self._began_ns = began_ns

    def mark(self, what: str) -> None:
        """Something happened just now: `queued`, `connected`."""
        self._span.add_event(what, timestamp=self._at(perf() - self._started))

    def end(self, line: Line) -> None:
        """The request is over, and this is its line in the log."""
        from opentelemetry.trace import Status, StatusCode

        span = self._span
        span.update_name(f"{operation(line.route)} {line.service}".rstrip())
        span.set_attributes(
            {
                "gen_ai.operation.name": operation(line.route),
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": line.model[:256],
                "gen_ai.response.model": line.service,
                "gen_ai.usage.input_tokens": line.input_tokens,
                "gen_ai.usage.output_tokens": line.output_tokens,
                "gen_ai.usage.cache_read.input_tokens": line.cached_tokens,
                "gen_ai.usage.reasoning.output_tokens": line.reasoning_tokens,
                "http.request.method": line.method,
                "http.route": line.route,
                "http.response.status_code": line.status,
                "modelport.request.id": line.request_id,
                "modelport.key.id": line.key_id,
                "modelport.instance.id": line.instance_id,
                "modelport.stream": line.stream,
                "modelport.estimated": line.estimated,
                "modelport.cost": line.money_nano / NANO,
            }
        )
        if line.first_byte_s is not None:
            span.add_event("first byte", timestamp=self._at(line.first_byte_s))
        if error := error_type(line.status):
            span.set_attribute("error.type", error)
            if line.status >= 500:  # by the conventions a server's span does not fail where its client did
                span.set_status(Status(StatusCode.ERROR))
        span.end(self._at(line.total_s))

    def _at(self, since_start_s: float) -> int:
        return self._began_ns + round(since_start_s * 1e9)


class Tracer:
    """Begins the spans of one gateway process. Raises ModelportError where the packages are missing."""

    def __init__(self, share: float, gateway_id: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError:
            raise ModelportError(
                "trace_sample needs a package that is not installed: pip install 'modelport[otel]', or set it to 0."
            ) from None
        self._share = share
        told = {"service.version": __version__, "service.instance.id": gateway_id}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            told["service.name"] = "modelport-gateway"
        # Whether a request is traced is decided here, before anything of the library runs for it.
        self._provider = TracerProvider(ALWAYS_ON, Resource.create(told), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("modelport.gateway", __version__)

    def begin(self, headers: MutableMapping[bytes, bytes], started: float) -> Trace | None:
        """The span of a request that began at `started` (by `perf`); None for one that is not traced. What its engine
        gets of the trace is put into `headers`."""
        parent = _PARENT.fullmatch(headers.get(b"traceparent", b""))
        if parent is not None and _usable(parent):
            if not int(parent[4], 16) & _SAMPLED:
                return None
        else:
            parent = None
            headers.pop(b"traceparent", None)
            headers.pop(b"tracestate", None)  # which means nothing without the other
            if random.random() >= self._share:  # noqa: S311  # which ones are traced is no secret
                return None
        return self._begun(parent, headers, started)

    def _begun(
        self, parent: "re.Match[bytes] | None", headers: MutableMapping[bytes, bytes], started: float
    ) -> Trace | None:
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

        began_ns = time.time_ns() - round((perf() - started) * 1e9)
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(_context(parent, headers)), context)
        span = self._tracer.start_span("request", context, SpanKind.SERVER, start_time=began_ns)
        if not span.is_recording():  # OTEL_SDK_DISABLED
            return None
        own = span.get_span_context()
        headers[b"traceparent"] = f"00-{own.trace_id:032x}-{own.span_id:016x}-01".encode()
        return Trace(span, started, began_ns)

    def close(self) -> None:
        """Send what is left, within CLOSE_S. It blocks."""
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            self._exporter.shutdown()  # which ends its waiting between attempts


def _usable(parent: "re.Match[bytes]") -> bool:
    version, trace_id, span_id, _, more = parent.groups()
    known = version != b"ff" and not (version == b"00" and more)
    return known and any(digit != 48 for digit in trace_id) and any(digit != 48 for digit in span_id)


def _context(parent: "re.Match[bytes]", headers: MutableMapping[bytes, bytes]) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState.from_header([headers.get(b"tracestate", b"").decode("latin-1")])
    return SpanContext(int(parent[2], 16), int(parent[3], 16), True, TraceFlags(_SAMPLED), state)
