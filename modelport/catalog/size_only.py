"""Size only: the facts of a model of which a size is all that is read."""

from modelport.domain.facts import Format, ModelFacts


def size_only(source: str, path: str, format: Format, size: int) -> ModelFacts:
    """`size` in bytes; everything else is not said."""
    return ModelFacts(
        source=source,
        path=path,
        format=format,
        architecture="",
        task="generate",
        parameters=0,
        weight_bytes=size,
        largest_layer_bytes=0,
        layers=0,
        embedding_size=0,
        vocabulary=0,
        context_tokens=0,
        kv_bytes_per_token=0,
        quantization="",
        pooling=False,
        chat_template=False,
        precision="total",
    )
