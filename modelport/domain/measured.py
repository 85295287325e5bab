"""Measured: what an engine itself said about its memory while it started."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of one device: the fullest where an engine's processes said different things. 0 is "not said"."""

    weights_bytes: int = 0
    kv_bytes: int = 0
    """What the cache of keys and values got."""
    kv_tokens: int = 0
    """Tokens that this cache holds: of one copy of the model, where the engine runs several."""
    activation_bytes: int = 0
    """The peak of one step, or the buffers kept for it."""
    graph_bytes: int = 0
    """CUDA graphs."""
    other_bytes: int = 0
    """What is taken outside of the framework's allocator: libraries, communication."""

    @property
    def bytes(self) -> int:
        """The sum of what was said."""
        return self.weights_bytes + self.kv_bytes + self.activation_bytes + self.graph_bytes + self.other_bytes
