"""Job: what TAO's `--job` and `--docker_env_vars` say, as the names and options that the rest of the runtime knows.

Keys, lists and the rule "JSON first, a Python literal next" are those of NVIDIA's servers (tao-skill-bank,
service.yaml; nvidia-tao-core, base_inference_microservice_server.py).
"""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from modelport.domain.variables import ALLOWED, FORBIDDEN, SECRETS
from modelport.errors import ModelportError, nearest

Scalar = str | int | float | bool
MAX_TEXT = 500
"""Characters of one variable's value."""
ELSEWHERE = {
    "hf_token": "it is a secret; set HF_TOKEN in the environment",
    "cloud_metadata": "it is a secret; set the cloud's usual variables in the environment",
}
"""What `--job` may not hold, and where it belongs."""
NOT_OPTIONS = frozenset(("model_path", "hf_model", "results_dir"))


@dataclass(frozen=True, slots=True)
class Job:
    """What `--job` asks for; all empty where there is none."""

    id: str = ""
    model: str = ""
    options: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])


def job(text: str) -> Job:
    """A Job of the payload's text. Raises ModelportError, which never repeats the payload."""
    payload = literal(text, "--job")
    specs = payload.get("specs", {})
    if not isinstance(specs, dict):
        raise ModelportError("--job: 'specs' must be an object.")
    for holder in (payload, cast(dict[str, Any], specs)):
        for name in holder:
            if name in ELSEWHERE or name.startswith("TAO_CLOUD_"):
                raise ModelportError(f"--job must not hold {name!r}: {ELSEWHERE.get(name, 'it is a secret')}.")
    for name in ("job_id", "neural_network_name"):
        if not isinstance(payload.get(name, ""), str):
            raise ModelportError(f"--job: {name!r} must be a text.")
    paths = [specs.get(name) or "" for name in ("hf_model", "model_path")]
    if not all(isinstance(path, str) for path in paths):
        raise ModelportError("--job: 'model_path' must be a text.")
    hub, path = (path.strip() for path in paths)
    options = {
        str(name): value if isinstance(value, Scalar) else json.dumps(value)
        for name, value in specs.items()
        if name not in NOT_OPTIONS and value is not None
    }
    return Job(payload.get("job_id", ""), hub or path, options)


def variables(text: str) -> dict[str, str]:
    """The environment variables that `--docker_env_vars` sets. Raises ModelportError for one that it must not set."""
    found: dict[str, str] = {}
    for name, value in literal(text, "--docker_env_vars").items():
        if name in FORBIDDEN:
            raise ModelportError(f"--docker_env_vars must not set {name}: this server reports to no other one.")
        if name in SECRETS:
            raise ModelportError(
                f"--docker_env_vars must not hold {name}: arguments can be seen by everyone on this machine. Set it in "
                "the environment."
            )
        if name not in ALLOWED:
            raise ModelportError(f"--docker_env_vars may not set {name[:80]!r}.{nearest(name, ALLOWED)}")
        shown = value if isinstance(value, str) else json.dumps(value)
        if len(shown) > MAX_TEXT or "\0" in shown:
            raise ModelportError(f"--docker_env_vars: {name} has more than {MAX_TEXT} characters, or a NUL.")
        found[name] = shown
    return found


def literal(text: str, flag: str) -> dict[str, Any]:
    """An object written as JSON, else as a Python literal. Raises ModelportError."""
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict) and all(isinstance(name, str) for name in cast(dict[object, object], found)):
            return cast(dict[str, Any], found)
        break
    raise ModelportError(f"{flag} must be an object, written as JSON or as a Python literal.")


def scalar(text: str) -> Scalar:
    """A value typed as JSON has it (`true`, `0.5`), else the text itself."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, Scalar) else text
