"""The stub engine as a member of the engine table: one file, one line (tests/fakes/modelport.py adds it).

A service's switches (`--load-s 2 --ignore-term`) are read from $STUB_SWITCHES/<service name> when it is launched.
"""

import os
import shlex
import sys
from pathlib import Path

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import ENGINE_KEY, HOST, PORT, Launch
from modelport.domain.measured import Measured
from modelport.domain.plan import Device, Plan
from modelport.domain.spec import Spec

PROGRAM = Path(__file__).with_name("stub_engine.py")


class StubEngine:
    name = "stub"

    def supports(self, facts: ModelFacts) -> str:
        return ""

    def installed(self) -> str:
        return "the tests"

    def version(self) -> str:
        return ""

    def runs_on(self) -> frozenset[str]:
        return frozenset({"cpu"})

    def check(self, facts: ModelFacts, spec: Spec, device: Device) -> tuple[str, ...]:
        return ()

    def measured(self, lines: list[str]) -> Measured | None:
        return None

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        switches = Path(os.environ.get("STUB_SWITCHES", "/nonexistent")) / spec.name
        extra = shlex.split(switches.read_text()) if switches.exists() else []
        return Launch(
            argv=(sys.executable, str(PROGRAM), "--host", HOST, "--port", PORT, "--name", spec.name, *extra),
            secret_env={"ENGINE_KEY": ENGINE_KEY},
            health_path="/health",
            routes=("GET /health", "GET /seen", "POST /tokenize", "POST /v1/chat/completions"),
            grace_s=4.0 if "--ignore-term" in extra else 2.0,
        )
