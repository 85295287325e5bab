"""Meter: what every request adds up to, and how things stand, in Prometheus' terms.

Latencies and tokens have OpenTelemetry's names (genai.py); all else begins with `modelport_` and goes on as vLLM names
the same thing, where vLLM has it. Requests are added up in plain objects, in 1 µs each, and become the library's
families when somebody asks.
"""

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from modelport.domain.price import NANO
from modelport.gateway.breaker import BreakerState
from modelport.gateway.genai import DURATION_S, EACH_TOKEN_S, FIRST_TOKEN_S, PROVIDER, TOKENS, error_type, operation
from modelport.gateway.queue import FairQueue
from modelport.gateway.requestlog import Line
from modelport.gateway.routes import Routes

QUEUE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
OVERHEAD_S = (25e-6, 50e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3)
OPEN = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}
GONE_S = 3600.0
"""So long what a removed service added up to is still told: every scraper has it by then."""
Labels = tuple[str, ...]


class Books(Protocol):
    """What a ledger tells of itself."""

    @property
    def writable(self) -> bool: ...
    @property
    def leases(self) -> int: ...
    @property
    def reservations(self) -> int: ...


class Histogram:
    """How many values were up to each bound, and above the last."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def buckets(self) -> list[tuple[str, float]]:
        return list(zip((*map(str, self.bounds), "+Inf"), accumulate(self.counts), strict=True))


class Series:
    """What requests with service, route and status in common add up to."""

    __slots__ = (
        "audio_ms", "cached_tokens", "characters", "duration", "each_token", "estimated", "first_token", "gpu_ms",
        "images", "input", "money_nano", "output", "queue", "reasoning_tokens", "requests",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = self.estimated = 0
        self.cached_tokens = self.reasoning_tokens = 0
        self.audio_ms = self.characters = self.images = self.gpu_ms = self.money_nano = 0
        self.duration, self.queue = Histogram(DURATION_S), Histogram(QUEUE_S)
        self.first_token, self.each_token = Histogram(FIRST_TOKEN_S), Histogram(EACH_TOKEN_S)
        self.input, self.output = Histogram(TOKENS), Histogram(TOKENS)


_COUNTERS: tuple[tuple[str, str, Callable[[Series], float]], ...] = (
    ("prompt_tokens", "Input tokens, cached ones among them.", lambda s: s.input.sum),
    ("prompt_tokens_cached", "Input tokens that an engine had in its cache.", lambda s: s.cached_tokens),
    ("generation_tokens", "Output tokens, reasoning among them.", lambda s: s.output.sum),
    ("reasoning_tokens", "Output tokens of reasoning.", lambda s: s.reasoning_tokens),
    ("estimated_requests", "Requests whose engine did not say what they took.", lambda s: s.estimated),
    ("cost", "Money by the services' prices, in the currency of those.", lambda s: s.money_nano / NANO),
    ("gpu_seconds", "Requests' shares of their replicas' time, times the GPUs of those.", lambda s: s.gpu_ms / 1000),
    ("audio_seconds", "Audio that was heard.", lambda s: s.audio_ms / 1000),
    ("characters", "Characters that were spoken.", lambda s: s.characters),
    ("images", "Images that were made.", lambda s: s.images),
)


class Meter(Collector):
    """Labels are services, replicas, routes and statuses only: few, and none that a stranger can make up."""

    def __init__(
        self,
        routes: Routes,
        queues: Mapping[str, FairQueue] = MappingProxyType({}),
        books: Books | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`queues` are by service id."""
        self._routes = routes
        self._queues = queues
        self._books = books
        self._clock = clock
        self._series: dict[tuple[str, str, int], Series] = {}
        self._overhead = Histogram(OVERHEAD_S)
        self._dropped: defaultdict[str, int] = defaultdict(int)
        self._dropping = threading.Lock()
        self._gone: dict[str, float] = {}

    def add(self, line: Line) -> None:
        """Count one request."""
        service, status = line.service, line.status
        found = self._series.get((service, line.route, status))
        if found is None:
            found = self._series[service, line.route, status] = Series()
        found.requests += 1
        if not service:
            return
        total_s, first_s = line.total_s, line.first_byte_s
        histogram = found.duration  # each spelled out: a call for each would double the time
        histogram.counts[bisect_left(DURATION_S, total_s)] += 1
        histogram.sum += total_s
        queue_s = line.queue_s
        histogram = found.queue
        histogram.counts[bisect_left(QUEUE_S, queue_s)] += 1
        histogram.sum += queue_s
        tokens = line.output_tokens
        if line.stream and status < 400 and first_s is not None:
            histogram = found.first_token
            histogram.counts[bisect_left(FIRST_TOKEN_S, first_s)] += 1
            histogram.sum += first_s
            if tokens > 1:
                found.each_token.add((total_s - first_s) / (tokens - 1))
        if tokens:
            histogram = found.output
            histogram.counts[bisect_left(TOKENS, tokens)] += 1
            histogram.sum += tokens
            found.reasoning_tokens += line.reasoning_tokens
        if tokens := line.input_tokens:
            histogram = found.input
            histogram.counts[bisect_left(TOKENS, tokens)] += 1
            histogram.sum += tokens
            found.cached_tokens += line.cached_tokens
        found.gpu_ms += line.gpu_ms
        found.money_nano += line.money_nano
        if line.estimated:
            found.estimated += 1
        if line.audio_ms or line.characters or line.images:
            found.audio_ms += line.audio_ms
            found.characters += line.characters
            found.images += line.images

    def overhead(self, seconds: float) -> None:
        """What this gateway itself added to one answer."""
        self._overhead.add(seconds)

    def drop(self, what: str, count: int) -> None:
        """Records that could not be written. From any thread."""
        with self._dropping:
            self._dropped[what] += count

    def text(self) -> bytes:
        """The exposition."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        self._forget()
        yield from self._counted()
        yield from self._latencies()
        yield from self._standing()

    def _forget(self) -> None:
        """Services come and go for as long as a gateway lives; what is told of them must not grow without end."""
        now = self._clock()
        here = {route.name for route in self._routes.by_id.values()}
        for name in {service for service, _, _ in self._series if service and service not in here}:
            self._gone.setdefault(name, now)
        for name, since in list(self._gone.items()):
            if name in here:
                del self._gone[name]
            elif now - since >= GONE_S:
                del self._gone[name]
                for key in [key for key in self._series if key[0] == name]:
                    del self._series[key]

    def _counted(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "modelport_requests", "Requests answered.", labels=("service", "route", "status")
        )
        for (service, route, status), series in self._series.items():
            requests.add_metric((service or "-", route, str(status)), series.requests)
        yield requests
        for name, what, value in _COUNTERS:
            family = CounterMetricFamily(f"modelport_{name}", what, labels=("service",))
            sums: defaultdict[str, float] = defaultdict(float)
            for (service, _, _), series in self._series.items():
                if service:
                    sums[service] += value(series)
            for service, total in sums.items():
                family.add_metric((service,), total)
            yield family
        dropped = CounterMetricFamily("modelport_dropped", "Records that could not be written.", labels=("what",))
        for what, count in tuple(self._dropped.items()):
            dropped.add_metric((what,), count)
        yield dropped

    def _latencies(self) -> Iterator[Metric]:
        of = list(self._of_services())
        yield _family(
            "gen_ai_server_request_duration_seconds", "Arrival to last byte.", (*_GENAI, "error_type"),
            (((*_genai(service, route), error_type(status)), s.duration) for service, route, status, s in of),
        )  # fmt: skip
        yield _family(
            "gen_ai_server_time_to_first_token_seconds", "Arrival to first byte, of streams.", _GENAI,
            ((_genai(service, route), s.first_token) for service, route, _, s in of),
        )  # fmt: skip
        yield _family(
            "gen_ai_server_time_per_output_token_seconds", "First byte to last by token, of streams.", _GENAI,
            ((_genai(service, route), s.each_token) for service, route, _, s in of),
        )  # fmt: skip
        yield _family(
            "gen_ai_client_token_usage", "Tokens of a request.", (*_GENAI, "gen_ai_token_type"),
            (
                ((*_genai(service, route), kind), tokens)
                for service, route, _, s in of
                for kind, tokens in (("input", s.input), ("output", s.output))
            ),
        )  # fmt: skip
        yield _family(
            "modelport_request_queue_time_seconds", "Arrival to dispatch: queue, start of an engine, connecting.",
            ("service",), (((service,), s.queue) for service, _, _, s in of),
        )  # fmt: skip
        yield _family(
            "modelport_overhead_seconds", "What the gateway itself added to an answer.", (), [((), self._overhead)]
        )

    def _of_services(self) -> Iterator[tuple[str, str, int, Series]]:
        return ((*key, series) for key, series in self._series.items() if key[0])

    def _standing(self) -> Iterator[Metric]:
        """How things are at this moment."""
        routes = self._routes.by_id
        yield _gauge(
            "modelport_in_flight", "Requests under way, those that wait among them.", ("service",),
            (((route.name,), route.in_flight) for route in routes.values()),
        )  # fmt: skip
        yield _gauge(
            "modelport_num_requests_running", "Requests at an engine.", ("service",),
            (((route.name,), sum(u.in_flight for u in route.upstreams)) for route in routes.values()),
        )  # fmt: skip
        yield _gauge(
            "modelport_num_requests_waiting", "Requests in the queue of a full service.", ("service",),
            (((route.name,), self._queues[id].waiting) for id, route in routes.items() if id in self._queues),
        )  # fmt: skip
        yield _gauge(
            "modelport_held", "Requests that wait for a start.", ("service",),
            (((route.name,), route.held) for route in routes.values()),
        )  # fmt: skip
        yield _gauge(
            "modelport_breaker_open", "1 where a replica gets no requests, 0.5 while it is tried.",
            ("service", "instance"),
            (((r.name, u.id), OPEN[u.breaker.state]) for r in routes.values() for u in r.upstreams),
        )  # fmt: skip
        if self._books is not None:
            yield _gauge("modelport_journal_writable", "0 while nothing can be served.", (),
                         [((), float(self._books.writable))])  # fmt: skip
            yield _gauge("modelport_budget_leases", "Parts of budgets held.", (), [((), self._books.leases)])
            yield _gauge("modelport_budget_reservations", "Requests reserved and not settled yet.", (),
                         [((), self._books.reservations)])  # fmt: skip


_GENAI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


def _genai(service: str, route: str) -> Labels:
    """The model that was asked for is told as the service it stood for: aliases and such are anybody's to invent."""
    return operation(route), PROVIDER, service


def _family(name: str, what: str, labels: Labels, found: Iterable[tuple[Labels, Histogram]]) -> HistogramMetricFamily:
    """One histogram for all that have their labels in common; none where nothing was counted."""
    merged: dict[Labels, Histogram] = {}
    for values, histogram in found:
        if any(histogram.counts):
            merged.setdefault(values, Histogram(histogram.bounds)).merge(histogram)
    family = HistogramMetricFamily(name, what, labels=labels)
    for values, histogram in merged.items():
        family.add_metric(values, histogram.buckets(), histogram.sum)
    return family


def _gauge(name: str, what: str, labels: Labels, found: Iterable[tuple[Labels, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=labels)
    for values, value in found:
        family.add_metric(values, value)
    return family
