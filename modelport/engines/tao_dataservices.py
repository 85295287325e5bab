"""TAO data services: models of the Hub (text, vision-language, diffusion) by transformers and diffusers, in TAO's
container, or by its package (nvidia-tao-core 7.0 and newer) in this Python or that of the `python` on PATH."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from modelport.domain.facts import ModelFacts
from modelport.domain.launch import Launch
from modelport.domain.plan import Plan
from modelport.domain.spec import Spec
from modelport.engines.tao_container import CONTAINER_PORT, JobContainer, by_size

PACKAGE = "nvidia_tao_core"
MODULE = f"{PACKAGE}.microservices.handlers.huggingface_inference_microservice_server"


class TaoDataservices(JobContainer):
    """Answers by whatever transformers loads."""

    name = "tao-dataservices"
    image_key = "TAO_DATASERVICES"
    image = "nvcr.io/nvidia/tao/tao-toolkit:7.0.0-data-services"
    program = "the package nvidia-tao-core"

    def installed(self) -> str:
        python = _python()
        return f"{PACKAGE} in {python}" if python else ""

    def unread(self, model: str) -> ModelFacts:
        return by_size(self.name, model)

    def launch(self, facts: ModelFacts, plan: Plan, spec: Spec) -> Launch:
        run = ("-m", MODULE)
        there = ("python", *run, "--port", CONTAINER_PORT)
        return self.job(facts, plan, spec, (_python() or "python", *run), there)


def _python() -> str:
    """The Python that has the package; empty where none has. Looks at files, runs nothing."""
    if find_spec(PACKAGE):
        return sys.executable
    if found := shutil.which("python"):
        prefix = Path(found).absolute().parent.parent  # not resolved: in a virtual environment it is a link
        if any(prefix.glob(f"lib*/python3*/*-packages/{PACKAGE}")):
            return found
    return ""
