"""Variables: environment variables of TAO's containers: which may be set, which hold secrets, and which never are.

The list is that of NVIDIA's tao-skill-bank (skills/applications/tao-run-inference-service, references/service.yaml).
"""

SECRETS = frozenset(
    ("HF_TOKEN", "WANDB_API_KEY", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY", "TAO_API_KEY", "TAO_USER_KEY")
)
"""Given by reference only."""
FORBIDDEN = frozenset(("TAO_LOGGING_SERVER_URL", "TAO_ADMIN_KEY"))
"""They would make a container call back to a server that is not there."""
ALLOWED = SECRETS | frozenset(
    (
        *("WANDB_BASE_URL", "WANDB_USERNAME", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_INSECURE_LOGGING"),
        *("CLEARML_WEB_HOST", "CLEARML_API_HOST", "CLEARML_FILES_HOST"),
        *("TAO_API_SERVER", "CLOUD_BASED", "TAO_EXECUTION_BACKEND", "TAO_API_JOB_ID", "TAO_API_RESULTS_DIR"),
        *("TAO_LOG_LEVEL", "TAO_TELEMETRY_SERVER", "TAO_CLIENT_TYPE", "TAO_AUTOML_TRIGGERED", "TELEMETRY_OPT_OUT"),
        *("JOB_ID", "AUTOML_EXPERIMENT_NUMBER", "RETAIN_CHECKPOINTS_FOR_RESUME", "EARLY_STOP_EPOCH", "DEBUG_ENABLED"),
        *("RECURSIVE_DATASET_FILE_DOWNLOAD", "ORCHESTRATION_API_NETWORK", "ORCHESTRATION_API_ACTION"),
        *("CUDA_OVERRIDE_VERSION", "LEPTON_SHARED_MEMORY_SIZE"),
    )
)
