"""Task: what a model would be planned to do, and the mistakes that no memory can help."""

from modelport.domain.facts import ModelFacts, Task
from modelport.domain.spec import Spec
from modelport.errors import ModelportError


def task_of(facts: ModelFacts, spec: Spec) -> Task:
    """What the Spec asks for, else what the model is made for.

    Raises ModelportError for a task the model cannot do, and for a context beyond the trained one.
    """
    if spec.context and facts.context_tokens and spec.context > facts.context_tokens:
        raise ModelportError(
            f"context is {spec.context:,}, but {facts.source!r} was trained for {facts.context_tokens:,} tokens; "
            f"ask for at most {facts.context_tokens:,}.",
            param="context",
        )
    if spec.task == "generate" and facts.task == "embed":
        raise ModelportError(
            f"{facts.source!r} is an embedding model ({facts.architecture}) and cannot generate text; "
            "leave `task` out or set it to embed.",
            param="task",
        )
    if spec.task in ("classify", "detect") and facts.format not in ("onnx", "archive"):
        raise ModelportError(
            f"{facts.source!r} is {facts.format}, and cannot {spec.task}: an ONNX model is needed; leave `task` out.",
            param="task",
        )
    return facts.task if spec.task == "auto" else spec.task
