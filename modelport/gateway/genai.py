"""GenAI: what OpenTelemetry's conventions call our routes, for metrics and spans alike.

Names and buckets are those of its semantic conventions for generative AI (docs/gen-ai/gen-ai-metrics.md and
gen-ai-spans.md of open-telemetry/semantic-conventions, 1.37), which are still in development there. Routes that they
have no word for got one of ours.
"""

PROVIDER = "modelport"
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/messages/count_tokens": "count_tokens",
    "/v1/completions": "text_completion",
    "/generate": "text_completion",
    "/generate_stream": "text_completion",
    "/loglikelihood": "loglikelihood",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/rerank": "rerank",
    "/v1/moderations": "moderation",
    "/v1/audio/speech": "speech",
    "/v1/audio/transcriptions": "transcription",
    "/v1/audio/translations": "translation",
    "/v1/images/generations": "image_generation",
}
OTHER = "other"
"""An engine's own routes, which the generic proxy passes."""
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
EACH_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(4**n for n in range(14))


def operation(route: str) -> str:
    return OPERATIONS.get(route, OTHER)


def error_type(status: int) -> str:
    """Empty for what went well. A status is few, and the same in the request log."""
    return str(status) if status >= 400 else ""
