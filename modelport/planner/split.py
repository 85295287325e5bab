"""Split: how many GPUs share a model, in which way. Stated rules, tried in order until one holds it:

1. Tensor parallel alone, 1, 2, 4, 8: the smallest that fits, so that copies are many.
2. Tensor parallel by other divisors of the heads (3, 5, 6, 7).
3. Pipeline stages of the same machine or of several (8 GPUs a machine): as few as possible, and as narrow.

What is left of the GPUs makes copies (data parallel). Where fewer copies leave more memory to each, fewer come after
all of the same sort, so that more GPUs never make a verdict worse. Experts are shared out whole over all GPUs that one
engine can give them to; SGLang shares them within one copy, and over copies only where the Spec says so. A
tensor-parallel size must divide attention heads; divide KV heads or be a multiple of them (each then copied); and leave
every GPU whole quantization groups of the feed-forward. Vocabularies are padded by the engines, so they bind nothing
(vLLM: model_executor/layers/vocab_parallel_embedding.py, linear.py; SGLang took them over).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from modelport.domain.facts import ModelFacts
from modelport.domain.gpu import GPUS_OF_A_MACHINE
from modelport.domain.plan import Split
from modelport.domain.spec import Spec
from modelport.errors import ModelportError

POWERS, DIVISORS = (1, 2, 4, 8), (3, 5, 6, 7)


@dataclass(frozen=True, slots=True)
class Ways:
    """What an engine can do."""

    pipeline: bool = False
    copies: bool = False
    """Copies of the model inside one engine."""
    experts_across_copies: bool = False
    experts: bool = False
    copies_cost: bool = False
    """Whether each copy takes memory of the others' GPUs."""
    kv_copies: bool = True
    """Whether tensor parallel may exceed the KV heads."""


WAYS = {
    "vllm": Ways(pipeline=True, copies=True, experts=True, experts_across_copies=True),
    "sglang": Ways(pipeline=True, copies=True, experts=True, copies_cost=True),
    "tgi": Ways(kv_copies=False),
}
"""vLLM: --enable-expert-parallel spreads experts over tensor x data. SGLang: --ep-size divides --tp-size, copies apart
(dp-attention puts copies inside of it, for some architectures), and a share of memory is held back for each copy
(server_args.py). TGI: --num-shard alone; its models divide KV heads without copying
(server/text_generation_server/models)."""
_DEGREES = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel")


def splits(facts: ModelFacts, engine: str, count: int, spec: Spec) -> list[Split]:
    """All splits over at most `count` GPUs, in the order of the rules; never empty.

    Raises ModelportError where what the Spec fixes cannot be: more than there is, or a cut through heads, quantization
    groups, layers or experts.
    """
    _check(facts, engine, count, spec)
    found: list[tuple[tuple[bool, int], Split]] = []
    for tensor, pipeline in _shapes(facts, engine, count, spec):
        for number, (copies, expert) in enumerate(_copies(facts, engine, count, tensor, pipeline, spec)):
            split = Split(tensor, pipeline, copies, expert)
            if not cut(facts, engine, tensor, expert):
                found.append(((pipeline > 1, count - split.gpus + 1 if number else 0), split))
    if found:
        return [split for _, split in sorted(found, key=lambda ranked: ranked[0])]
    why = next((why for tensor in POWERS[1:] if (why := cut(facts, engine, tensor, 1))), "")
    raise ModelportError(
        f"No split of {facts.source!r} over {count} GPUs is possible with what is set. {why}".strip(),
        param=next((name for name in _DEGREES if getattr(spec, name) is not None), "accelerators"),
    )


def cut(facts: ModelFacts, engine: str, tensor: int, expert: int) -> str:
    """Why a model cannot be tensor-parallel over so many GPUs, as a sentence; empty where it can."""
    if tensor == 1:
        return ""
    if facts.attention_heads % tensor:
        return f"{tensor} GPUs cannot share {facts.attention_heads} attention heads evenly."
    kv = 0 if any(cache.kind == "mla" for cache in facts.caches) else facts.kv_heads
    if kv and kv % tensor and (tensor % kv or not WAYS[engine].kv_copies):
        return f"{tensor} GPUs cannot share {kv} key/value heads evenly."
    group = facts.quantized.group_size if facts.quantized else 0
    for what, width in _widths(facts, expert):
        if width % tensor:
            return f"{tensor} GPUs cannot share {what} of width {width:,} evenly."
        if group > 0 and width // tensor % group:
            return f"{tensor} GPUs would cut the quantization groups of {group} in {what} of width {width:,}."
    return ""


def leftover(facts: ModelFacts, engine: str, split: Split, count: int, spec: Spec | None = None) -> tuple[str, ...]:
    """What was decided about the GPUs, as sentences: the split, whether it spans machines, which stay idle and why."""
    said: list[str] = []
    if split.expert > split.tensor:
        said.append(f"{split.data} copies share the requests, and all {split.expert} GPUs share out the experts.")
    elif split.tensor > 1 or split.data > 1:
        copies = f"; {split.data} copies share the requests" if split.data > 1 else ""
        each = "1 GPU holds" if split.tensor * split.pipeline == 1 else f"{split.tensor * split.pipeline} GPUs hold"
        said.append(f"{each} one copy of the model{copies}.")
    if split.pipeline > 1:
        wider = next((t for t in POWERS if t > split.tensor), 0)
        why = cut(facts, engine, wider, split.expert) if wider else ""
        why = why or "No tensor-parallel split alone holds it."
        said.append(f"The layers are spread over {split.pipeline} pipeline stages. {why}")
    if split.gpus > GPUS_OF_A_MACHINE:
        machines = -(-split.gpus // GPUS_OF_A_MACHINE)
        said.append(
            f"{split.gpus} GPUs are {machines} machines of {GPUS_OF_A_MACHINE}: the engine's multi-node mode is "
            "needed, which Modelport does not start yet."
        )
    if idle := count - split.gpus:
        one = split.tensor * split.pipeline
        why = f"one copy takes {one}."
        if not WAYS[engine].copies:
            why = f"one copy takes {one}, and {engine} runs no more than one; use `replicas`."
        elif spec and (spec.data_parallel or (spec.expert_parallel or 1) > 1):
            why = f"{split.data} {'copy was' if split.data == 1 else 'copies were'} asked for."
        elif idle >= one and split.expert > split.tensor:
            why = f"{facts.experts} experts cannot be shared out evenly over more of them."
        elif idle >= one:
            why = "more copies leave too little memory to each."
        said.append(f"{idle} of {count} GPUs {'stays' if idle == 1 else 'stay'} idle: {why}")
    return tuple(said)


def _shapes(facts: ModelFacts, engine: str, count: int, spec: Spec) -> Iterator[tuple[int, int]]:
    """Tensor and pipeline sizes, in the order of the rules."""
    widest = min(count, GPUS_OF_A_MACHINE)
    tensors = [spec.tensor_parallel] if spec.tensor_parallel else [t for t in POWERS + DIVISORS if t <= widest]
    if spec.pipeline_parallel:
        yield from ((tensor, spec.pipeline_parallel) for tensor in tensors)
        return
    yield from ((tensor, 1) for tensor in tensors)
    if WAYS[engine].pipeline:
        powers = tensors if spec.tensor_parallel else [t for t in tensors if t in POWERS]
        stages = range(2, min(facts.layers or 1, count) + 1)
        staged = [(tensor, stage) for tensor in powers for stage in stages if tensor * stage <= count]
        yield from sorted(staged, key=lambda shape: (shape[1], shape[0]))


def _copies(
    facts: ModelFacts, engine: str, count: int, tensor: int, pipeline: int, spec: Spec
) -> Iterator[tuple[int, int]]:
    """Copies and over how many GPUs their experts are shared out: all that there is room for, then fewer."""
    ways, most = WAYS[engine], count // (tensor * pipeline)
    asked = spec.expert_parallel or 0
    if asked > 1:
        within = not spec.data_parallel and not ways.experts_across_copies and spec.tensor_parallel != 1
        copies = spec.data_parallel or (1 if within else asked // tensor)
        whole = ways.experts_across_copies or copies == 1 or tensor == 1
        if whole and copies * tensor == asked and 1 <= copies <= most:
            yield copies, asked
        return
    counts = [spec.data_parallel] if spec.data_parallel else _numbers(facts, ways, most, tensor, spec.parallel or 1)
    for copies in counts:
        if 1 <= copies <= most:
            yield copies, 1 if asked else _experts(facts, ways, tensor, copies)


def _numbers(facts: ModelFacts, ways: Ways, most: int, tensor: int, parallel: int) -> list[int]:
    """How many copies there may be: the most, then those that no larger number is better than in every respect.

    That is the largest that shares the experts out evenly; and where copies cost memory, the smallest for each number
    of requests that the fullest of them gets.
    """
    if not ways.copies:
        return [1]
    fewer: set[int] = set()
    if facts.experts and ways.experts_across_copies:
        fewer |= {next((n for n in range(most, 0, -1) if facts.experts % (tensor * n) == 0), most)}
    if ways.copies_cost:
        fewer |= {ceil(parallel / ceil(parallel / n)) for n in range(1, min(most, parallel) + 1)}
    return [most, *sorted(fewer - {most}, reverse=True)]


def _experts(facts: ModelFacts, ways: Ways, tensor: int, copies: int) -> int:
    """All GPUs that may share the experts out, where they divide evenly; else 1, and tensor parallelism cuts them."""
    if not (ways.experts and facts.experts) or (copies > 1 and not ways.experts_across_copies):
        return 1
    return tensor * copies if facts.experts % (tensor * copies) == 0 else 1


def _widths(facts: ModelFacts, expert: int) -> list[tuple[str, int]]:
    """The feed-forward widths that tensor parallelism cuts: dense ones, and experts' unless they are shared out whole.

    An expert's own width follows from its group's parameters: three matrices of embedding x width each.
    """
    if not facts.experts:
        return [("the feed-forward", facts.feed_forward_size)] if facts.feed_forward_size else []
    group = next((group for group in facts.weights if group.name == "experts"), None)
    if expert > 1 or group is None or not group.layers or not facts.embedding_size:
        return []
    width, rest = divmod(group.parameters, group.layers * facts.experts * 3 * facts.embedding_size)
    return [("the experts", width)] if width and not rest else []


def _check(facts: ModelFacts, engine: str, count: int, spec: Spec) -> None:
    """Raises ModelportError for the first of the Spec's own degrees that cannot be."""
    ways = WAYS[engine]
    tensor, pipeline, copies, expert = (getattr(spec, name) for name in _DEGREES)

    def refuse(name: str, sentence: str) -> None:
        raise ModelportError(sentence, param=name)

    if (pipeline or 1) > 1 and not ways.pipeline:
        refuse("pipeline_parallel", f"{engine} has no pipeline stages; leave pipeline_parallel out.")
    if (copies or 1) > 1 and not ways.copies:
        refuse("data_parallel", f"{engine} runs one copy of a model; leave data_parallel out and set replicas.")
    wanted = (tensor or 1) * (pipeline or 1) * (copies or 1)
    if wanted > count:
        product = f"tensor {tensor or 1} x pipeline {pipeline or 1} x data {copies or 1}"
        name = next(name for name in _DEGREES if getattr(spec, name))
        refuse(name, f"{product} needs {wanted} GPUs, but there {'is' if count == 1 else 'are'} {count}.")
    if pipeline and facts.layers and pipeline > facts.layers:
        refuse("pipeline_parallel", f"pipeline_parallel is {pipeline}, but {facts.source!r} has {facts.layers} layers.")
    if tensor:
        ways_out = [expert for _, expert in _copies(facts, engine, count, tensor, pipeline or 1, spec)]
        if ways_out and all(whys := [cut(facts, engine, tensor, expert) for expert in ways_out]):
            refuse("tensor_parallel", f"tensor_parallel {tensor} cannot be: {whys[0]}")
    if (expert or 1) > 1:
        if not facts.experts:
            refuse("expert_parallel", f"{facts.source!r} has no experts; leave expert_parallel out.")
        if not ways.experts:
            refuse("expert_parallel", f"{engine} does not share out experts; leave expert_parallel out.")
        if facts.experts % expert:
            refuse("expert_parallel", f"{expert} GPUs cannot share {facts.experts} experts evenly.")
        if expert > count:
            refuse("expert_parallel", f"expert_parallel is {expert}, but there are {count} GPUs.")
        if not any(any(_copies(facts, engine, count, *shape, spec)) for shape in _shapes(facts, engine, count, spec)):
            what = "tensor x data" if ways.experts_across_copies else "tensor with one copy, or data with tensor 1"
            which = f", which is {tensor * copies}" if tensor and copies and ways.experts_across_copies else ""
            refuse("expert_parallel", f"expert_parallel must be 1 or {what}{which}, not {expert}.")
