"""ModelFacts: what a model's own files say."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as its files describe it. Sizes in bytes, lengths in tokens."""

    source: str
    """What the user wrote."""
    path: str
    """The local file or directory an engine loads. Never shown to clients."""
    format: Literal["gguf"]
    architecture: str
    """As the file names it, e.g. `llama`, `bert`."""
    task: Literal["generate", "embed"]
    parameters: int
    weight_bytes: int
    """All tensors as stored."""
    largest_layer_bytes: int
    layers: int
    embedding_size: int
    vocabulary: int
    context_tokens: int
    """What the model was trained for; 0 where the file does not say."""
    kv_bytes_per_token: int
    """Keys and values of all layers for one token, in 16 bit."""
    quantization: str
    """The kind most of the weights' bytes have, e.g. `Q4_1`, `F16`."""
    pooling: bool
    """Whether the file says how token vectors become one embedding."""
    chat_template: bool
    """Whether the file brings a template for conversations."""
