"""What /metrics says of the requests that were answered, and of how things stand."""

from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelport.domain.spec import Spec
from modelport.domain.states import ServiceState
from modelport.gateway.genai import OPERATIONS
from modelport.gateway.meter import GONE_S, Meter
from modelport.gateway.queue import FairQueue
from modelport.gateway.requestlog import Line
from modelport.gateway.routes import Routes
from modelport.gateway.surface import SURFACES
from modelport.store.snapshot import Replica, Routed, Snapshot

SERVICE = {"service": "tiny"}
CHAT = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "modelport", "gen_ai_request_model": "tiny"}


def line(**more: Any) -> Line:
    given = {
        "id": "req-1", "at": 0.0, "request_id": "", "key_id": "key-1", "team": "", "user": "", "service_id": "s",
        "service": "tiny", "instance_id": "i", "model": "tiny", "route": "/v1/chat/completions", "method": "POST",
        "status": 200, "total_s": 0.5,
    }  # fmt: skip
    return Line(**{**given, **more})


def routed(name: str, *replicas: str) -> Routed:
    return Routed(
        id=f"s-{name}", name=name, spec=Spec(model="m.gguf", name=name), state=ServiceState.READY, reason="", port=None,
        created_at=0.0, estimate_s=None, replicas=tuple(Replica(id, "http://127.0.0.1:1", "", ()) for id in replicas),
    )  # fmt: skip


@dataclass
class Standing:
    """A ledger as far as metrics look at one."""

    writable: bool = True
    leases: int = 0
    reservations: int = 0


def world(*services: Routed) -> Routes:
    routes = Routes(lambda: None)
    routes.swap(Snapshot(1, {}, services), {replica.id: "k" for each in services for replica in each.replicas})
    return routes


def told(meter: Meter) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every sample by its name."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(meter.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(meter: Meter, name: str, **labels: str) -> float:
    (found,) = (value for known, value in told(meter)[name] if known == labels)
    return found


def test_requests_are_counted_by_service_route_and_status() -> None:
    meter = Meter(world())
    for status in (200, 200, 429):
        meter.add(line(status=status))
    meter.add(line(service="", route="-", status=400))
    labels = {**SERVICE, "route": "/v1/chat/completions"}
    assert value(meter, "modelport_requests_total", **labels, status="200") == 2
    assert value(meter, "modelport_requests_total", **labels, status="429") == 1
    assert value(meter, "modelport_requests_total", service="-", route="-", status="400") == 1


def test_tokens_money_and_time_add_up_by_service() -> None:
    meter = Meter(world())
    taken = {"input_tokens": 100, "cached_tokens": 60, "output_tokens": 10, "reasoning_tokens": 4}
    meter.add(line(**taken, money_nano=1_500_000_000, gpu_ms=250, estimated=True))
    meter.add(line(**taken, route="/v1/responses", money_nano=500_000_000, gpu_ms=250))
    meter.add(line(route="/v1/audio/speech", characters=12))
    meter.add(line(route="/v1/audio/transcriptions", audio_ms=1500))
    meter.add(line(route="/v1/images/generations", images=2))
    wanted = {
        "prompt_tokens": 200, "prompt_tokens_cached": 120, "generation_tokens": 20, "reasoning_tokens": 8, "cost": 2.0,
        "gpu_seconds": 0.5, "estimated_requests": 1, "characters": 12, "audio_seconds": 1.5, "images": 2,
    }  # fmt: skip
    assert {name: value(meter, f"modelport_{name}_total", **SERVICE) for name in wanted} == wanted


def test_latencies_and_tokens_have_the_names_of_the_genai_conventions() -> None:
    meter = Meter(world())
    meter.add(line(stream=True, input_tokens=100, output_tokens=11, queue_s=0.01, first_byte_s=0.5, total_s=2.5))
    meter.add(line(route="/v1/messages", status=502, total_s=0.1))
    duration, first, each = (
        "gen_ai_server_request_duration_seconds", "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
    )  # fmt: skip
    assert value(meter, f"{duration}_sum", **CHAT, error_type="") == 2.5
    assert value(meter, f"{duration}_sum", **CHAT, error_type="502") == pytest.approx(0.1)
    assert value(meter, f"{first}_bucket", **CHAT, le="0.25") == 0
    assert value(meter, f"{first}_bucket", **CHAT, le="0.5") == 1
    assert value(meter, f"{first}_count", **CHAT) == 1
    assert value(meter, f"{each}_sum", **CHAT) == pytest.approx(0.2)
    for kind, tokens in (("input", 100), ("output", 11)):
        assert value(meter, "gen_ai_client_token_usage_sum", **CHAT, gen_ai_token_type=kind) == tokens
    assert value(meter, "modelport_request_queue_time_seconds_sum", **SERVICE) == pytest.approx(0.01)
    assert value(meter, "modelport_request_queue_time_seconds_count", **SERVICE) == 2


def test_an_answer_that_comes_whole_says_nothing_of_its_first_token() -> None:
    meter = Meter(world())
    meter.add(line(output_tokens=11, first_byte_s=0.5))
    meter.add(line(stream=True, status=502, output_tokens=11, first_byte_s=0.5))
    assert not [name for name in told(meter) if name.startswith("gen_ai_server_time_")]


def test_what_a_stranger_names_is_no_label() -> None:
    meter = Meter(world())
    for n in range(100):
        meter.add(line(model=f"alias-{n}", key_id=f"key-{n}", instance_id=f"i-{n}", request_id=f"r-{n}"))
    samples = [labels for found in told(meter).values() for labels, _ in found]
    assert not any("-" in text and text[-1].isdigit() for labels in samples for text in labels.values())


def test_a_service_that_is_gone_is_told_of_for_an_hour() -> None:
    now = [0.0]
    meter = Meter(world(routed("here")), clock=lambda: now[0])
    meter.add(line(service="here"))
    meter.add(line(service="gone"))

    def services() -> set[str]:
        return {labels["service"] for labels, _ in told(meter)["modelport_requests_total"]}

    assert services() == {"here", "gone"}
    now[0] += GONE_S - 1
    assert services() == {"here", "gone"}
    now[0] += 2
    assert services() == {"here"}


def test_how_things_stand_is_told_for_every_service_and_replica() -> None:
    routes = world(routed("tiny", "i-1", "i-2"))
    queues, books = {"s-tiny": FairQueue(0)}, Standing(leases=3, reservations=2)
    meter = Meter(routes, queues, books)
    route = routes.by_id["s-tiny"]
    route.in_flight, route.held = 5, 1
    route.upstreams[0].enter()
    queues["s-tiny"].waiting = 3
    for _ in range(5):
        route.upstreams[1].breaker.failed(0.0)
    meter.overhead(120e-6)
    assert value(meter, "modelport_in_flight", **SERVICE) == 5
    assert value(meter, "modelport_num_requests_running", **SERVICE) == 1
    assert value(meter, "modelport_num_requests_waiting", **SERVICE) == 3
    assert value(meter, "modelport_held", **SERVICE) == 1
    assert value(meter, "modelport_breaker_open", **SERVICE, instance="i-1") == 0
    assert value(meter, "modelport_breaker_open", **SERVICE, instance="i-2") == 1
    assert (value(meter, "modelport_budget_leases"), value(meter, "modelport_budget_reservations")) == (3, 2)
    assert value(meter, "modelport_journal_writable") == 1
    books.writable = False
    assert value(meter, "modelport_journal_writable") == 0
    assert value(meter, "modelport_overhead_seconds_bucket", le="0.00015") == 1
    assert value(meter, "process_resident_memory_bytes") > 0


def test_what_could_not_be_written_is_counted() -> None:
    meter = Meter(world())
    meter.drop("bucket", 3)
    meter.drop("bucket", 4)
    assert value(meter, "modelport_dropped_total", what="bucket") == 7


def test_every_inference_route_has_an_operation() -> None:
    assert set(OPERATIONS) == set(SURFACES)
