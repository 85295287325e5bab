"""docker_env_vars: the environment variables that a start may set, and that secrets among them come by reference."""

from collections.abc import Mapping

from modelport.domain.spec import REFERENCE, SECRET_NAME
from modelport.errors import ModelportError, nearest

_NAMES = """
HF_TOKEN WANDB_API_KEY CLEARML_API_ACCESS_KEY CLEARML_API_SECRET_KEY TAO_API_KEY TAO_USER_KEY
WANDB_BASE_URL WANDB_USERNAME WANDB_ENTITY WANDB_PROJECT WANDB_INSECURE_LOGGING
CLEARML_WEB_HOST CLEARML_API_HOST CLEARML_FILES_HOST
TAO_API_SERVER CLOUD_BASED TAO_EXECUTION_BACKEND TAO_API_JOB_ID TAO_API_RESULTS_DIR TAO_LOG_LEVEL
TAO_TELEMETRY_SERVER TAO_CLIENT_TYPE TAO_AUTOML_TRIGGERED TELEMETRY_OPT_OUT JOB_ID AUTOML_EXPERIMENT_NUMBER
RETAIN_CHECKPOINTS_FOR_RESUME EARLY_STOP_EPOCH DEBUG_ENABLED RECURSIVE_DATASET_FILE_DOWNLOAD
ORCHESTRATION_API_NETWORK ORCHESTRATION_API_ACTION CUDA_OVERRIDE_VERSION LEPTON_SHARED_MEMORY_SIZE
"""
ALLOWED = frozenset(_NAMES.split())
"""nvidia-tao-core's AllowedDockerEnvVariables and the skill's list."""
OURS = frozenset({"TAO_ADMIN_KEY", "TAO_LOGGING_SERVER_URL"})
"""Allowed upstream, where its own server sets them to be called back; nobody is called back here."""
LONGEST = 500
"""Characters of a value."""


def environment(given: Mapping[str, str | None]) -> dict[str, str]:
    """What a Spec's `env` is to be. Raises ModelportError (400), which never repeats a value."""
    found: dict[str, str] = {}
    for name, text in given.items():
        if name in OURS:
            raise ModelportError(f"docker_env_vars cannot set {name}: it is the server's own.", param="docker_env_vars")
        if name not in ALLOWED:
            raise ModelportError(
                f"docker_env_vars cannot set {name[:80]!r}.{nearest(name, ALLOWED)}", param="docker_env_vars"
            )
        if text is None:
            continue
        if len(text) > LONGEST:
            raise ModelportError(
                f"docker_env_vars: {name} has more than {LONGEST} characters.", param="docker_env_vars"
            )
        if SECRET_NAME.search(name) and not REFERENCE.fullmatch(text):
            raise ModelportError(
                f"{name} is a secret, of which only the place may be sent: set it where Modelport runs and give "
                f"{name}=env:{name}, or {name}=file:/path for a file there.",
                param="docker_env_vars",
            )
        found[name] = text
    return found
