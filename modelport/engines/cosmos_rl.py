"""Cosmos-RL: NVIDIA's vision-language models (Cosmos-Reason) in TAO's container, or by its program on PATH.

Options are those of cosmos_rl/inference/infer_microservices.py.
"""

import shutil

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import Launch
from modelport.domain.plan import Plan
from modelport.domain.spec import Spec
from modelport.engines.tao_container import JobContainer

PROGRAM = "cosmos-rl-inference-microservice"


class CosmosRl(JobContainer):
    """Answers chats about pictures and videos."""

    name = "cosmos-rl"
    image_key = "COSMOS_RL"
    image = "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-cosmos-rl"
    program = PROGRAM

    def installed(self) -> str:
        return shutil.which(PROGRAM) or ""

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        return self.job(facts, plan, spec, (self.installed() or PROGRAM,), (PROGRAM,))
