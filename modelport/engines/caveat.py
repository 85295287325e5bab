"""Caveat: what a command cannot do by itself, said beside it so that it does not look as if it could."""

from pathlib import Path

from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import GPUS_OF_A_MACHINE
from modelport.domain.plan import Plan
from modelport.domain.spec import Spec
from modelport.engines import source
from modelport.errors import ModelportError

MODEL = "MODEL"
"""Stands in a command for a model that is not there."""
MULTI_NODE = {
    "vllm": "its --nnodes, --node-rank and --master-addr on each",
    "sglang": "its --nnodes, --node-rank and --dist-init-addr on each",
    "llamacpp": "its RPC servers on the others",
}
"""How an engine spans machines (vllm/engine/arg_utils.py, sglang/srt/server_args.py, llama.cpp's tools/rpc)."""
TRUST = "--trust-remote-code runs the Python files that come with the model, with all that this account may do."


def path(facts: ModelFacts) -> str:
    """What an engine is told to load: MODEL where all there is is a config.json."""
    return MODEL if _config_alone(facts) else facts.path


def must_have_weights(facts: ModelFacts, spec: Spec) -> None:
    """Raises ModelportError for a command of this machine whose model is a config.json alone."""
    if _config_alone(facts) and not spec.accelerators:
        raise ModelportError(
            f"{facts.source!r} is a config.json alone, which can be planned and not started: set `model` to the Hub id "
            "or the directory of the weights.",
            param="model",
        )


def caveats(engine: str, facts: ModelFacts, plan: Plan, spec: Spec) -> tuple[str, ...]:
    """One sentence each."""
    said: list[str] = []
    if _config_alone(facts):
        said.append(f"A config.json alone cannot be started: put the model's Hub id or directory for {MODEL}.")
    if spec.accelerators and plan.split.gpus > GPUS_OF_A_MACHINE:
        machines = -(-plan.split.gpus // GPUS_OF_A_MACHINE)
        how = f", {MULTI_NODE[engine]}" if engine in MULTI_NODE else " which it does not have"
        said.append(
            f"This command is of one machine and does not start as it is: {machines} machines need a multi-node mode "
            f"of {engine}{how}."
        )
    if any(_trusts(arg) for arg in spec.engine_args):
        said.append(TRUST)
    return tuple(said)


def _config_alone(facts: ModelFacts) -> bool:
    local = source.kind(facts.path) == "local"
    return facts.format == "config" and local and not Path(facts.path).is_dir()


def _trusts(arg: str) -> bool:
    """Also by a beginning that no other option has: vLLM and SGLang have `--trust-request-chat-template` too."""
    given = arg.partition("=")[0].replace("_", "-").lower()
    return given.startswith("--trust-rem") and "--trust-remote-code".startswith(given)


def must_have_heads(facts: ModelFacts, spec: Spec) -> None:
    """Raises ModelportError where drafting by MTP is asked of a model whose files have no heads for it."""
    wanted = spec.speculative is not None and spec.speculative.method == "mtp"
    if wanted and facts.weights and not any(group.name == "draft" for group in facts.weights):
        raise ModelportError(
            f"{facts.source!r} has no MTP heads to draft with: use method ngram, or eagle3 or draft with a model.",
            param="speculative",
        )
