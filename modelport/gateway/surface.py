"""Surface: the inference routes, and what is to know of each before its body is read."""

from dataclasses import dataclass
from typing import Literal

Output = Literal["tokens", "none", "media"]


@dataclass(frozen=True, slots=True)
class Surface:
    """One route. `output` says what an answer is made of: tokens up to a cap, nothing that counts, or media."""

    path: str
    output: Output = "tokens"
    form: bool = False
    """Whether its body is multipart/form-data rather than JSON."""
    usage_option: bool = False
    """Whether a stream must be asked for its usage (`stream_options`)."""
    media: bool = False
    """Whether its body may hold images, audio or video."""
    caps: tuple[str, ...] = ()
    """The fields that cap its output. Every engine heeds the first; some know the others and some do not, so what one
    of them says is written into the first too."""
    nested: str = ""
    """The object whose `max_new_tokens` caps it instead."""


SURFACES = {
    surface.path: surface
    for surface in (
        Surface("/v1/chat/completions", usage_option=True, media=True, caps=("max_tokens", "max_completion_tokens")),
        Surface("/v1/completions", usage_option=True, caps=("max_tokens",)),
        Surface("/v1/responses", media=True, caps=("max_output_tokens",)),
        Surface("/v1/messages", media=True, caps=("max_tokens",)),
        Surface("/v1/messages/count_tokens", "none", media=True),
        Surface("/v1/embeddings", "none", media=True),
        Surface("/v1/rerank", "none", media=True),
        Surface("/rerank", "none", media=True),
        Surface("/v1/moderations", "none", media=True),
        Surface("/v1/audio/speech", "media"),
        Surface("/v1/audio/transcriptions", form=True),
        Surface("/v1/audio/translations", form=True),
        Surface("/v1/images/generations", "media"),
        Surface("/generate", media=True, nested="parameters"),
        Surface("/generate_stream", media=True, nested="parameters"),
        Surface("/loglikelihood", "none"),
    )
}
INFERENCE = Surface("/api/v1/inference", media=True, caps=("max_new_tokens", "max_tokens"))
"""TAO's own route. On the common port it is reached by a job's id, never by `model`."""
ROUTED = {**SURFACES, INFERENCE.path: INFERENCE}
"""Where the service is given already."""
CHAT = SURFACES["/v1/chat/completions"]
UNCOUNTED = frozenset(
    ("/tokenize", "/detokenize", "/apply-template", "/health", "/v1/models", "/info", "/version", "/api/v1/status",
     "/api/v1/health/liveness", "/api/v1/health/readiness",
     "/v1/messages/count_tokens")
)  # fmt: skip
"""Routes that no model works for: they count as requests only."""


def other(path: str) -> Surface:
    """An engine's own route, which the generic proxy passes: what it makes is bounded by the context."""
    return Surface(path, "none" if path in UNCOUNTED else "tokens")
