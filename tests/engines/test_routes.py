"""What clients may reach of each engine, against the routes read out of its published packages (bench/engine_routes.py)."""

import json
import re
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from modelport.engines import llamacpp, sglang, tgi, vllm
from modelport.engines.flags import number
from modelport.gateway.surface import SURFACES, UNCOUNTED
from tests.engines.cases import facts
from tests.harness import ROOT

DATA: dict[str, Any] = json.loads((ROOT / "bench/data/engine_routes.json").read_text())
READ: dict[str, ModuleType] = {name: import_module(f"modelport.engines.{name}") for name in DATA["routes"]}
TABLES = {
    **{f"{name} {task}": (name, table) for name, module in READ.items() for task, table in module.ROUTES.items()},
    "vllm audio": ("vllm", vllm.AUDIO_ROUTES),
}
ADMIN = re.compile(
    r"sleep|wake|lora|weights|profile|cache|collective|invocations|abort|pause|resume|slots|props|metrics|configure|"
    r"session|memory|server_info|scale|shutdown|internal|dumper|freeze|slow|files|models/load|cors"
)
"""Words of paths that are an owner's business (security.md S10)."""


@pytest.mark.parametrize("case", TABLES)
def test_every_route_is_there_in_the_versions_that_the_table_says(case: str) -> None:
    engine, table = TABLES[case]
    looked_at = [v for v in DATA["versions"][engine] if number(v) >= number(READ[engine].OLDEST)]
    wrong = [
        f"{route} {version}"
        for route, versions in table.items()
        for version in looked_at
        if versions.holds(version) and version not in DATA["routes"][engine].get(route, ())
    ]
    assert looked_at and not wrong


def test_no_table_has_a_route_of_its_owner_s() -> None:
    listed = {route for _, table in TABLES.values() for route in table}
    listed |= {route for routes in llamacpp.ROUTES.values() for route in routes}
    listed |= {*llamacpp.PACKAGE_ROUTES, *tgi.ROUTES}
    assert [route for route in listed if ADMIN.search(route)] == []
    admin = [route for routes in DATA["routes"].values() for route in routes if ADMIN.search(route)]
    assert len(admin) > 20, "the words find none"


def test_every_route_is_one_that_the_gateway_knows_how_to_count() -> None:
    listed = {route for _, table in TABLES.values() for route in table}
    listed |= {route for routes in llamacpp.ROUTES.values() for route in routes}
    paths = {route.partition(" ")[2] for route in (*listed, *llamacpp.PACKAGE_ROUTES, *tgi.ROUTES)}
    assert paths - set(SURFACES) - UNCOUNTED == set()


def test_routes_follow_version_and_model() -> None:
    deaf, hears = facts(), facts(inputs=("text", "audio"))
    assert "POST /v1/responses" not in vllm.routes(deaf, "generate", "0.10.0")
    assert "POST /v1/responses" in vllm.routes(deaf, "generate", "0.10.2")
    assert not any("audio" in route for route in vllm.routes(deaf, "generate", vllm.NEWEST))
    assert "POST /v1/audio/translations" in vllm.routes(hears, "generate", vllm.NEWEST)
    assert "POST /v1/audio/translations" not in vllm.routes(hears, "generate", vllm.OLDEST)
    assert "POST /v1/rerank" in vllm.routes(deaf, "embed", vllm.NEWEST)
    assert sglang.ROUTES["generate"]["POST /v1/messages/count_tokens"].holds("0.5.9")


def test_embeddings_of_llamacpp_have_no_route_that_generates() -> None:
    assert llamacpp.package_routes("embed") == ()
