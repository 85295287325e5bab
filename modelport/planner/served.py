"""Served: how vLLM, SGLang or TGI would run a model on GPUs: which split, which context, and whether that holds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from modelport.domain.facts import Cache, ModelFacts
from modelport.domain.plan import Part, Plan, Span, Split, Verdict
from modelport.domain.spec import Spec
from modelport.domain.units import show_bytes
from modelport.planner.ask import Ask
from modelport.planner.compute import computed_in, falls_back, quantization, refused
from modelport.planner.gpu_memory import Estimate, cache_need, estimate
from modelport.planner.local_advice import most
from modelport.planner.room import Room
from modelport.planner.split import leftover, splits
from modelport.planner.task import task_of

ENOUGH_CONTEXT = 32_768
"""Unasked, a split must hold this much of the trained context; what is left over then lengthens it. Without it a model
trained for a million tokens would always take all GPUs for one copy."""
LEAST_CONTEXT = 2048
"""Memory that is short never lowers the context further by itself."""
UNKNOWN_CONTEXT = 4096
"""Where the files do not say what the model was trained for."""
MOST_CONTEXT = 1 << 20
CONTEXT_STEP = 256
"""A context that memory lowered is rounded down to this."""
MOST_PARALLEL = 4096

Estimator = Callable[[ModelFacts, Ask], Estimate]
CacheNeed = Callable[[ModelFacts, Ask, int], int]


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run the model, judged."""

    split: Split
    context: int
    parallel: int
    estimate: Estimate
    need_bytes: int
    verdict: Verdict

    @property
    def missing_bytes(self) -> int:
        """What is lacking for the cache by the best guess; negative is room to spare."""
        return int(self.need_bytes - self.estimate.cache_bytes.guess)


@dataclass(frozen=True, slots=True)
class Question:
    """All that a choice depends on, so that advice can change one thing and ask again."""

    facts: ModelFacts
    spec: Spec
    engine: str
    room: Room
    version: str = ""
    correction: float = 1.0
    draft: ModelFacts | None = None
    """The model that drafts for this one, whole on every GPU."""
    estimator: Estimator = estimate
    cache_need: CacheNeed = cache_need

    @property
    def barred(self) -> str:
        """Why the engine would not start, whatever the memory; empty where it would."""
        known = self.room.device.gpu is not None
        return self.room.impossible or (refused(self.facts, self.spec, self.room.gpu, self.engine) if known else "")

    def judge(self, split: Split, context: int, parallel: int) -> Choice:
        """Whether `parallel` requests of `context` tokens hold beside everything else: for sure, for sure not, or
        somewhere between. Data-parallel copies share the requests out."""
        ask = self._ask(split, context)
        found = _corrected(self.estimator(self.facts, ask), self.correction)
        need = self.cache_need(self.facts, ask, parallel)
        verdict = found.verdict(need)
        return Choice(split, context, parallel, found, need, verdict)

    def choose(self) -> Choice:
        """The first split, by the rules, that holds what is asked; else one that may; else the one nearest to it.

        Where the engine would not start, it is what memory alone would have made of it, and does not fit.
        """
        found = self._nearest()
        return replace(found, verdict="does_not_fit") if self.barred else found

    def _nearest(self) -> Choice:
        parallel = self.spec.parallel or 1
        every = splits(self.facts, self.engine, self.room.count, self.spec)
        wanted = self.spec.context or min(self.trained, ENOUGH_CONTEXT)
        judged: list[Choice] = []
        for split in every:
            found = self.judge(split, wanted, parallel)
            if found.verdict == "fits":
                return found if self.spec.context else self._lengthened(found)
            judged.append(found)
        least = self.spec.context or min(wanted, LEAST_CONTEXT)
        if least < wanted:
            judged = [self.judge(split, least, parallel) for split in every]
            if short := [choice for choice in judged if choice.verdict == "fits"]:
                long = [self._lengthened(choice) for choice in short]
                return max(long, key=lambda choice: (choice.split.pipeline == 1, choice.context))
        close = [choice for choice in judged if choice.verdict == "too_close"]
        return min(close or judged, key=lambda choice: (choice.split.pipeline > 1, choice.missing_bytes))

    @property
    def trained(self) -> int:
        return self.facts.context_tokens or UNKNOWN_CONTEXT

    def longest(self, split: Split, parallel: int, limit: int) -> int:
        """The longest context up to `limit` that fits for sure, in steps of CONTEXT_STEP below it; 0 is none."""
        if self.judge(split, limit, parallel).verdict == "fits":
            return limit
        return CONTEXT_STEP * most(
            limit // CONTEXT_STEP, lambda n: self.judge(split, n * CONTEXT_STEP, parallel).verdict == "fits"
        )

    def most_parallel(self, choice: Choice) -> int:
        """The most requests of the chosen context that fit for sure."""
        ask = self._ask(choice.split, choice.context)
        free = choice.estimate.cache_bytes.low
        return most(MOST_PARALLEL, lambda n: self.cache_need(self.facts, ask, n) <= free)

    def _lengthened(self, choice: Choice) -> Choice:
        if choice.context >= self.trained:
            return choice
        longest = self.longest(choice.split, choice.parallel, self.trained)
        return self.judge(choice.split, longest, choice.parallel) if longest > choice.context else choice

    def _ask(self, split: Split, context: int) -> Ask:
        spec = self.spec
        return Ask(
            engine=self.engine,
            gpu=self.room.gpu,
            split=split,
            context=context,
            version=self.version,
            memory_fraction=self.room.fraction,
            kv_dtype=spec.kv_cache_dtype or "auto",
            dtype=computed_in(self.facts, spec, self.room.gpu, self.engine),
            quantization=quantization(self.facts, spec),
            max_batched_tokens=spec.max_batched_tokens,
            max_requests=spec.parallel,
            eager=spec.eager,
            draft_bytes=self.draft.weight_bytes if self.draft else 0,
            draft_caches=with_cache(self.draft).caches if self.draft else (),
            draft_tokens=spec.speculative.tokens if spec.speculative else 0,
        )


def with_cache(facts: ModelFacts) -> ModelFacts:
    """The facts, with a cache that every GPU holds whole where nobody said how it is made up: the most it can take."""
    if facts.caches or not facts.kv_bytes_per_token:
        return facts
    size = -(-facts.kv_bytes_per_token // 4)  # one layer and head of keys and values in 16 bit
    return replace(facts, caches=(Cache("full", 1, 1, size, size),))


def plan_of(question: Question, choice: Choice) -> Plan:
    """The Plan of a choice, without price, time to ready and advice."""
    facts, spec, room = question.facts, question.spec, question.room
    found = choice.estimate
    longest = question.longest(choice.split, choice.parallel, facts.context_tokens or MOST_CONTEXT)
    if choice.verdict == "fits":
        longest = max(longest, choice.context)  # which need not be a multiple of the steps it is looked for in
    cache = Part("kv cache", choice.need_bytes, choice.need_bytes, choice.need_bytes)
    return Plan(
        device=room.device,
        task=task_of(facts, spec),
        parts=(*_told(found), cache),
        context_tokens=choice.context,
        parallel=choice.parallel,
        verdict=choice.verdict,
        reasons=_reasons(question, choice, longest),
        budget_bytes=found.budget_bytes,
        devices=room.count,
        split=choice.split,
        kv_tokens=found.kv_tokens if choice.need_bytes else None,
        refused=question.barred,
        max_context=0 if question.barred else longest,
        max_parallel=0 if question.barred else question.most_parallel(choice),
        quantization=quantization(facts, spec),
        memory_fraction=found.memory_fraction,
        extrapolated=found.extrapolated or _unknown(room),
    )


def _reasons(question: Question, choice: Choice, longest: int) -> tuple[str, ...]:
    """What was decided, and where it does not fit, why."""
    facts, spec, room = question.facts, question.spec, question.room
    said = [*room.said]
    if spec.quantization and facts.quantized:
        said.append(f"The files are quantized already ({facts.quantized.method}) and are used as they are.")
    if question.barred:
        return (*said, question.barred)
    if other := falls_back(facts, spec, room.gpu):
        other = other if question.engine == "vllm" else "float16"
        said.append(f"{room.gpu.name} does not compute in bfloat16: {question.engine} uses {other} there.")
    requests = "1 request" if choice.parallel == 1 else f"{choice.parallel} requests"
    if choice.verdict == "does_not_fit":
        if choice.estimate.cache_bytes.high < 0:
            largest = max(choice.estimate.parts, key=lambda part: part.bytes)
            what = f"The {largest.name} alone take {show_bytes(largest.bytes)} of the {{}} that may be used of each GPU"
            said.append(what.format(show_bytes(choice.estimate.budget_bytes)) + ", and nothing is left for a cache.")
        lowered = not spec.context and choice.context < question.trained
        of = f", the least of the {question.trained:,} that the model was trained for" if lowered else ""
        said.append(
            f"{show_bytes(choice.missing_bytes)} are missing on each GPU for the cache of {requests} of "
            f"{choice.context:,} tokens{of}."
        )
        return tuple(said)
    said += leftover(facts, question.engine, choice.split, room.count, spec)
    if choice.verdict == "too_close":
        surely = f" It fits for sure with a context of {longest:,} tokens." if longest else ""
        said.append(f"Only a start can say: the estimate's interval holds both answers.{surely}")
    if spec.context is None and choice.context < question.trained:
        said.append(
            f"A request gets {choice.context:,} of the {question.trained:,} tokens the model was trained for: more do "
            "not fit beside the weights on this split."
        )
    return tuple(said)


def _unknown(room: Room) -> str:
    return "" if room.device.gpu else f"{room.gpu.name} is not in the table of GPUs; its memory is taken as it says."


def _told(found: Estimate) -> tuple[Part, ...]:
    """The parts, their intervals narrowed so that their sum is the interval of the whole.

    Errors of the parts are independent, so what is left for the cache is known better than the sum of the worst cases.
    """
    above = sum(part.high_bytes - part.bytes for part in found.parts)
    below = sum(part.bytes - part.low_bytes for part in found.parts)
    up = min(1.0, (found.cache_bytes.guess - found.cache_bytes.low) / above) if above else 1.0
    down = min(1.0, (found.cache_bytes.high - found.cache_bytes.guess) / below) if below else 1.0
    return tuple(
        Part(
            part.name,
            part.bytes - int((part.bytes - part.low_bytes) * down),
            part.bytes,
            part.bytes + int((part.high_bytes - part.bytes) * up),
        )
        for part in found.parts
        if part.high_bytes
    )


def _corrected(found: Estimate, correction: float) -> Estimate:
    """The estimate with everything but the weights scaled by what this host measured."""
    if correction == 1.0:
        return found
    parts = tuple(part if part.name == "weights" else part.scaled(correction) for part in found.parts)
    moved = sum(part.bytes for part in parts) - sum(part.bytes for part in found.parts)
    tokens_per_byte = found.kv_tokens.high / found.cache_bytes.high if found.cache_bytes.high > 0 else 0.0
    cache = Span(*(size - moved for size in (found.cache_bytes.low, found.cache_bytes.guess, found.cache_bytes.high)))
    tokens = Span(*(max(0.0, size) * tokens_per_byte for size in (cache.low, cache.guess, cache.high)))
    return replace(found, parts=parts, cache_bytes=cache, kv_tokens=tokens)
