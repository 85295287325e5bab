"""Meter: what every request adds up to, in Prometheus' terms.

Requests are counted in plain dictionaries (1 µs, where the library's own counters take 6) and become the library's
families when somebody asks.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from modelport.gateway.requestlog import Line
from modelport.gateway.routes import Routes

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Times:
    """One histogram: how many lasted up to each of BUCKETS_S, and longer."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        return list(zip((*map(str, BUCKETS_S), "+Inf"), accumulate(self.counts), strict=True))


class Meter(Collector):
    """Labels are services, routes and statuses only: few, and none that a stranger can make up."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._tokens: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._durations: defaultdict[tuple[str, str], Times] = defaultdict(Times)
        self._first_bytes: defaultdict[tuple[str, str], Times] = defaultdict(Times)
        self._dropped: defaultdict[str, int] = defaultdict(int)

    def add(self, line: Line) -> None:
        """Count one request."""
        service, route = line.service or "-", line.route
        self._requests[service, route, line.status] += 1
        if not line.service:
            return
        self._durations[service, route].add(line.total_s)
        if line.first_byte_s is not None:
            self._first_bytes[service, route].add(line.first_byte_s)
        self._tokens[service, "prompt"] += line.input_tokens
        self._tokens[service, "completion"] += line.output_tokens
        self._tokens[service, "cached"] += line.cached_tokens

    def drop(self, what: str, count: int) -> None:
        """Log lines or usage rows that could not be written."""
        self._dropped[what] += count

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "modelport_requests", "Requests answered.", labels=("service", "route", "status")
        )
        for (service, route, status), count in self._requests.items():
            requests.add_metric((service, route, str(status)), count)
        tokens = CounterMetricFamily("modelport_tokens", "Tokens by kind.", labels=("service", "kind"))
        for labels, count in self._tokens.items():
            tokens.add_metric(labels, count)
        dropped = CounterMetricFamily("modelport_dropped", "Records that could not be written.", labels=("what",))
        for what, count in tuple(self._dropped.items()):  # counted on the writing thread
            dropped.add_metric((what,), count)
        in_flight = GaugeMetricFamily("modelport_in_flight", "Requests under way.", labels=("service",))
        held = GaugeMetricFamily("modelport_held", "Requests that wait for a start.", labels=("service",))
        for route in self._routes.by_id.values():
            in_flight.add_metric((route.name,), route.in_flight)
            held.add_metric((route.name,), route.held)
        yield from (requests, tokens, dropped, in_flight, held)
        yield _histogram("modelport_request_duration_seconds", "Arrival to last byte.", self._durations)
        yield _histogram("modelport_first_byte_seconds", "Arrival to first byte.", self._first_bytes)

    def text(self) -> bytes:
        """The exposition."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)


def _histogram(name: str, what: str, series: dict[tuple[str, str], Times]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, what, labels=("service", "route"))
    for labels, times in series.items():
        family.add_metric(labels, times.buckets(), times.sum_s)
    return family
