"""TAO's inference route in words: a body as a Call, a Result and an error as bodies (nvidia-tao-core's)."""

import time
from collections.abc import Mapping
from typing import Any

from modelport.domain.answers import Answer, inference, stamp
from modelport.errors import ModelportError
from modelport.runtime import inputs
from modelport.runtime.handler import Call, Result
from modelport.runtime.inputs import Item
from modelport.runtime.state import State

COMPLETED = "Inference completed successfully"


def call(body: Mapping[str, Any]) -> tuple[Call, list[Item]]:
    """Raises ModelportError (400, 413)."""
    rest, items = inputs.take(body)
    if "max_tokens" in rest:  # as everybody else calls it; TAO's own name wins
        rest.setdefault("max_new_tokens", rest.pop("max_tokens"))
    return Call("inference", rest), items


def before(state: State) -> Answer | None:
    """What is said instead of a result, until the model is ready."""
    return inference(state.facts, state.progress, time.time())


def answer(state: State, result: Result, took_s: float) -> dict[str, Any]:
    now = stamp(time.time())
    total = result.input_tokens + result.output_tokens
    usage = {
        "prompt_tokens": result.input_tokens,
        "completion_tokens": result.output_tokens,
        "total_tokens": total,
    }
    return {
        "status": "completed",
        "results": {
            **result.results,
            "inference_time": round(took_s, 6),
            "timestamp": now,
            "model_type": state.model_type,
        },
        "job_id": state.job_id,
        "message": COMPLETED,
        "timestamp": now,
        **({"usage": usage} if total else {}),
    }


def error(state: State, problem: ModelportError) -> dict[str, Any]:
    return {"status": "error", "error": problem.message, "job_id": state.job_id, "timestamp": stamp(time.time())}
