# torch and transformers live in the runtime's own environment, not in the one that is type-checked.
# pyright: reportMissingImports=false
"""Embedding: one vector a text, pooled from a model's last layer as its sentence-transformers files say, else the mean
over its tokens.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import AutoModel, AutoTokenizer

from modelport.errors import NOT_READY, ModelportError
from modelport.runtime.handler import Call, LoadFailed, Result, Told, Work
from modelport.runtime.language import loading, pooling
from modelport.runtime.language.options import Options
from modelport.runtime.language.source import Source

MOST_TEXTS = 2048
"""Of one request; OpenAI's limit."""
MOST_BATCH_TOKENS = 16_384
"""Texts of like lengths that are computed at once, padding with them."""
UNLIMITED_TOKENS = 1_000_000
"""Tokenizers that know no limit give a number far above this."""


@dataclass(frozen=True, slots=True)
class Text:
    work: int
    place: int
    ids: list[int]


class Embedding:
    def __init__(self, source: Source, options: Options, told: Told) -> None:
        """Raises LoadFailed."""
        self._pooling = pooling.read(source.base)
        told("Reading the tokenizer", None)
        with loading.sentences(options):
            self._tokenizer = AutoTokenizer.from_pretrained(source.base, **loading.LOCAL)
        self._model = loading.model(source, options, AutoModel, told)
        if getattr(self._model.config, "is_encoder_decoder", False):
            raise LoadFailed("Embeddings of encoder-decoder models are not supported.")
        limits = (
            self._pooling.most_tokens,
            self._tokenizer.model_max_length,
            getattr(self._model.config.get_text_config(), "max_position_embeddings", None),
        )
        self._context = min((each for each in limits if each and each < UNLIMITED_TOKENS), default=None)
        self._width = self._model.config.get_text_config().hidden_size * len(self._pooling.modes)
        self._lock = threading.Lock()
        """A tokenizer is changed while it works, so it does one call at a time."""

    def check(self, call: Call) -> Work:
        """Raises ModelportError (400)."""
        dimensions = call.body.get("dimensions")
        if dimensions is not None and dimensions != self._width:
            raise ModelportError(
                f"This model's vectors have {self._width} dimensions; `dimensions` cannot change that.",
                param="dimensions",
            )
        if call.media:
            raise ModelportError(f"This model embeds text only; `{call.media[0].name}` cannot be.")
        texts = [self._ids(given) for given in _inputs(call.body.get("input"))]
        for index, ids in enumerate(texts):
            if self._context is not None and len(ids) > self._context:
                raise ModelportError(
                    f"Text {index + 1} of `input` has {len(ids):,} tokens, and the model reads {self._context:,}.",
                    param="input",
                )
        return Work(call, size=len(texts), ready=texts)

    def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
        texts = [Text(number, place, ids) for number, work in enumerate(works) for place, ids in enumerate(work.ready)]
        vectors: list[list[Any]] = [[None] * work.size for work in works]
        full: set[int] = set()
        for batch in _batches(texts):
            if all(works[text.work].call.stopped() for text in batch):
                continue
            try:
                found = self._vectors([text.ids for text in batch])
            except (RuntimeError, MemoryError) as error:
                if not loading.is_full(error):
                    raise
                full |= {text.work for text in batch}
                continue
            for text, vector in zip(batch, found, strict=True):
                vectors[text.work][text.place] = vector
        return [_full() if number in full else _result(work, vectors[number]) for number, work in enumerate(works)]

    def _ids(self, text: str) -> list[int]:
        text = self._pooling.prefix + (text.lower() if self._pooling.lower else text)
        with self._lock:
            return self._tokenizer(text, verbose=False)["input_ids"]

    def _vectors(self, batch: Sequence[list[int]]) -> list[list[float]]:
        longest = max(len(ids) for ids in batch)
        pad = self._tokenizer.pad_token_id or 0
        device = self._model.device
        ids = torch.tensor([each + [pad] * (longest - len(each)) for each in batch], device=device)
        mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in batch], device=device)
        with torch.inference_mode():
            last = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            return pooling.pool(last.float(), mask, self._pooling).tolist()


def _inputs(given: object) -> list[str]:
    """A text, or texts. Raises ModelportError (400)."""
    items = cast(list[object], given) if isinstance(given, list) else [given]
    texts = [item for item in items if isinstance(item, str) and item]
    if not 0 < len(items) <= MOST_TEXTS or len(texts) < len(items):
        raise ModelportError(
            f"`input` must be text that is not empty, or a list of up to {MOST_TEXTS} such.", param="input"
        )
    return texts


def _batches(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """The longest first, so that what is computed together is of like length."""
    batch: list[Text] = []
    for text in sorted(texts, key=lambda text: -len(text.ids)):
        if batch and len(batch[0].ids) * (len(batch) + 1) > MOST_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def _result(work: Work, vectors: list[Any]) -> Result:
    """Empty for one that nobody waits for any more."""
    tokens = sum(len(ids) for ids in work.ready)
    return Result(vectors=[vector for vector in vectors if vector is not None], input_tokens=tokens)


def _full() -> ModelportError:
    return ModelportError("There is not enough memory for this request. Send fewer texts.", NOT_READY, retry_after_s=5)
