"""Transformer: language, vision-language and embedding models in safetensors, through torch and transformers.

Request keys, defaults and ranges are those of TAO's HuggingFace server (nvidia-tao-core,
huggingface_inference_microservice_server.py). Unlike there, videos reach the model, nothing is clamped, and no source
code of a request, job or repository is run.
"""

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelport.errors import NOT_READY, ModelportError
from modelport.runtime.handler import Call, LoadFailed, Result, Route, Told, Work
from modelport.runtime.language import options as loading_options
from modelport.runtime.language import source
from modelport.runtime.language.source import Kind

if TYPE_CHECKING:
    from modelport.runtime.language.embedding import Embedding
    from modelport.runtime.language.generation import Generation

ROUTES: dict[Kind, frozenset[Route]] = {
    "llm": frozenset(("inference", "chat")),
    "vlm": frozenset(("inference", "chat")),
    "embedding": frozenset(("embeddings",)),
}
MOST: dict[Kind, int] = {"llm": 8, "vlm": 1, "embedding": 64}
"""Requests (texts, of embeddings) in one run. Pictures of several requests have no common shape, so they go alone."""


class Transformer:
    def __init__(self, directory: Path, task: str, options: Mapping[str, str | int | float | bool]) -> None:
        self._options = loading_options.read(options)
        self._source = source.find(directory, task, self._options)
        self.model_type = self._source.kind
        self.routes = ROUTES[self._source.kind]
        self.most = MOST[self._source.kind]
        self._loaded: Generation | Embedding | None = None

    def load(self, told: Told) -> None:
        # torch's threads else spin while they wait for each other: on two busy cores SmolLM2 made 0.5 tokens a second
        # so, and 9 without. Read when torch is loaded; what the operator set stays.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        told("Loading torch and transformers", None)
        try:
            if self._source.kind == "embedding":
                from modelport.runtime.language.embedding import Embedding as Loaded
            else:
                from modelport.runtime.language.generation import Generation as Loaded
        except ImportError as error:
            raise LoadFailed("torch and transformers cannot be imported: pip install 'modelport[hf]'.") from error
        self._loaded = Loaded(self._source, self._options, told)

    def check(self, call: Call) -> Work:
        return self._model().check(call)

    def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
        return self._model().run(works)

    def close(self) -> None:
        self._loaded = None
        gc.collect()

    def _model(self) -> "Generation | Embedding":
        if self._loaded is None:
            raise ModelportError("The model is not loaded.", NOT_READY, retry_after_s=5)
        return self._loaded
