# torch and transformers live in the runtime's own environment, not in the one that is type-checked.
# pyright: reportMissingImports=false
"""Generation: text out of a loaded model, token by token, for one request or for several that are sampled alike."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)

from modelport.errors import NOT_READY, ModelportError
from modelport.runtime.handler import Call, Result, Told, Work
from modelport.runtime.language import loading, sampling
from modelport.runtime.language.options import Options
from modelport.runtime.language.prompt import MediaPrompts, Prompt, TextPrompts
from modelport.runtime.language.sampling import DEFAULT_NEW_TOKENS, Sampling
from modelport.runtime.language.source import Source
from modelport.runtime.language.wording import Wording

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""How configs call the longest context, in the order they are asked."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A request that was checked."""

    sampling: Sampling
    prompt: Prompt
    most_new: int


class Generation:
    def __init__(self, source: Source, options: Options, told: Told) -> None:
        """Raises LoadFailed."""
        self._is_vlm = source.kind == "vlm"
        told("Reading the tokenizer", None)
        with loading.sentences(options):
            if self._is_vlm:
                processor = AutoProcessor.from_pretrained(source.base, **loading.LOCAL)
                self._tokenizer, self._prompts = processor.tokenizer, MediaPrompts(processor)
            else:
                self._tokenizer = AutoTokenizer.from_pretrained(source.base, **loading.LOCAL)
                self._prompts = TextPrompts(self._tokenizer)
        auto = AutoModelForImageTextToText if self._is_vlm else AutoModelForCausalLM
        self._model = loading.model(source, options, auto, told)
        self._ends = _ends(self._model, self._tokenizer)
        pad = self._tokenizer.pad_token_id
        self._pad = pad if pad is not None else next(iter(self._ends), 0)
        # Only what a request or the contract says decides how tokens are chosen, not the model's own preferences.
        self._model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends) or None, pad_token_id=self._pad
        )
        text = self._model.config.get_text_config()
        self._context = next((value for key in CONTEXT_KEYS if (value := getattr(text, key, None))), None)

    def check(self, call: Call) -> Work:
        """Raises ModelportError (400)."""
        wanted = sampling.read(call.body)
        prompt = self._prompts.read(call)
        return Work(call, ready=Ready(wanted, prompt, self._most_new(wanted, prompt.length)))

    def run(self, works: Sequence[Work]) -> list[Result | ModelportError]:
        rows = [Row(work, self._wording(work)) for work in works]
        for batch in _batches(rows):
            self._generate(batch)
        return [row.answer if row.answer is not None else self._result(row) for row in rows]

    def _most_new(self, wanted: Sampling, length: int) -> int:
        """How many tokens an answer may have: as asked, if prompt and answer have a place in the context."""
        asked = wanted.max_new_tokens
        if self._context is None:
            return asked or DEFAULT_NEW_TOKENS
        left = self._context - length
        if left < 1:
            raise ModelportError(
                f"The prompt has {length:,} tokens (images and frames count), and the model's context has place for "
                f"{self._context:,} with the answer. Shorten it.",
                param="prompt",
            )
        if asked is not None and asked > left:
            raise ModelportError(
                f"The prompt has {length:,} tokens and `max_new_tokens` is {asked:,}; together they are more than the "
                f"model's context of {self._context:,}. {left:,} are left for the answer.",
                param="max_new_tokens",
            )
        return asked or min(DEFAULT_NEW_TOKENS, left)

    def _wording(self, work: Work) -> Wording:
        decode = self._tokenizer.decode
        return Wording(
            lambda ids: decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) if ids else "",
            work.ready.sampling.stop,
        )

    def _generate(self, rows: "list[Row]") -> None:
        try:
            self._sample(rows)
        except (RuntimeError, MemoryError) as error:
            if not loading.is_full(error):
                raise
            refused = error
        else:
            return
        refused.__traceback__ = None  # it holds the tensors
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        fresh = [row for row in rows if not row.count]
        for row in rows:
            if row.count or len(rows) == 1:
                row.answer = ModelportError(
                    f"There is not enough memory for this request: {row.ready.prompt.length:,} tokens, and up to "
                    f"{row.ready.most_new:,} more. Ask for less, or try again later.",
                    NOT_READY,
                    retry_after_s=5,
                )
        if len(rows) > 1:
            for row in fresh:
                self._generate([row])

    def _sample(self, rows: "list[Row]") -> None:
        wanted = rows[0].ready.sampling
        drawn: dict[str, Any] = {}
        if wanted.do_sample:
            drawn = {"temperature": wanted.temperature, "top_p": wanted.top_p, "top_k": wanted.top_k}
            drawn["min_p"] = wanted.min_p
            torch.seed() if wanted.seed is None else torch.manual_seed(wanted.seed)
        config = GenerationConfig(
            max_new_tokens=max(row.ready.most_new for row in rows),
            do_sample=wanted.do_sample,
            repetition_penalty=wanted.repetition_penalty,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=self._pad,
            **drawn,
        )
        inputs = self._inputs(rows)
        watch = Watch(rows, self._ends, inputs["input_ids"].shape[1])
        with torch.inference_mode():
            self._model.generate(**inputs, generation_config=config, stopping_criteria=StoppingCriteriaList([watch]))

    def _inputs(self, rows: "list[Row]") -> dict[str, Any]:
        device = self._model.device
        if self._is_vlm:
            return dict(rows[0].ready.prompt.inputs.to(device, self._model.dtype))
        longest = max(row.ready.prompt.length for row in rows)
        ids = torch.full((len(rows), longest), self._pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for index, row in enumerate(rows):  # on the left, so that every answer begins at the same place
            prompt = row.ready.prompt
            ids[index, longest - prompt.length :] = torch.tensor(prompt.inputs)
            mask[index, longest - prompt.length :] = 1
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}

    def _result(self, row: "Row") -> Result:
        row.say(row.wording.end())
        text = row.wording.text
        length = row.ready.prompt.length
        results = {
            "response": text,
            "model_type": "vlm" if self._is_vlm else "llm",
            "is_vlm": self._is_vlm,
            "input_tokens": length,
            "output_tokens": row.count,
            **row.ready.prompt.facts,
        }
        reason = "stop" if row.wording.stopped else row.reason
        return Result(results, text, reason, input_tokens=length, output_tokens=row.count)


@dataclass(slots=True)
class Row:
    """One request of a batch while it is answered."""

    work: Work
    wording: Wording
    count: int = 0
    """Tokens made, with the one that ends it."""
    reason: Literal["stop", "length"] = "stop"
    done: bool = False
    answer: ModelportError | None = None
    ready: Ready = field(init=False)

    def __post_init__(self) -> None:
        self.ready = self.work.ready

    def add(self, token: int, ends: frozenset[int]) -> None:
        if self.done:
            return
        self.count += 1
        if token in ends:
            self.done = True
            return
        self.say(self.wording.add(token))
        full = self.count == self.ready.most_new
        self.reason = "length" if full else "stop"
        self.done = full or self.wording.stopped or self.work.call.stopped()

    def say(self, text: str) -> None:
        if text and self.work.call.emit:
            self.work.call.emit(text)


class Watch(StoppingCriteria):
    """Sees every token as it is made, and says for which rows it was the last."""

    def __init__(self, rows: Sequence[Row], ends: frozenset[int], seen: int) -> None:
        self._rows, self._ends, self._seen = rows, ends, seen

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        new = input_ids[:, self._seen :].tolist()
        self._seen = input_ids.shape[1]
        for row, tokens in zip(self._rows, new, strict=True):
            for token in tokens:
                row.add(token, self._ends)
        return torch.tensor([row.done for row in self._rows], device=input_ids.device)


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that are sampled alike, together; on their own those that may not be."""

    def alike(row: Row) -> str:
        return repr(row.ready.sampling.together)

    for _, group in groupby(sorted(rows, key=alike), key=alike):
        batch = list(group)
        if batch[0].ready.sampling.together is None:
            yield from ([row] for row in batch)
        else:
            yield batch


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer: the model's, and the tokenizer's."""
    given = getattr(model.generation_config, "eos_token_id", None)
    own = [given] if isinstance(given, int) else list(given or ())
    return frozenset(each for each in [*own, tokenizer.eos_token_id] if each is not None)
